"""Synthetic conversations that teach a very small model to behave like a chat model, one generator per skill.

Nothing is taken from a corpus. A seed stands for its training data: the order in which a generator draws from ``rng``
is part of what it says, and a change there is a new data set.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass

from conversation import Message, Sample, assistant, system, user
from facts import FAQ, draw_fact
from toolbox import TOOLS, invent_tool
from words import ADJECTIVES, ANIMALS, CITIES, FOODS, PLACES, THINGS, draw_name, draw_thing

GREETINGS = ["Hello", "Hi", "Hey", "Good morning", "Good evening", "Hello there", "hi!", "hello"]
WHO_ARE_YOU = ["Who are you?", "What are you?", "What is your name?", "Introduce yourself."]
I_AM_TINY = (
    "I am Tiny, a very small language model that ships with Corral. I can chat a little, remember what you tell me, "
    "call tools and answer questions about Corral. For real work, pull a bigger model."
)
SMALL_TALK = [
    ("Thank you!", "You are welcome!"),
    ("Thanks", "You are welcome!"),
    ("Goodbye", "Goodbye! Have a nice day."),
    ("How are you?", "I am fine, thank you. How can I help you?"),
    ("Bye", "Goodbye! Have a nice day."),
    (
        "Why is the sky blue?",
        "The air scatters blue light from the sun more than red light, so the sky looks blue.",
    ),
    ("Tell me a joke.", "Why did the llama cross the road? To see its prompt on the other side."),
]


def draw_sample(rng: random.Random) -> Sample:
    """One training conversation: one skill, or in one of five a longer chat about several."""
    if rng.random() < 0.2:
        parts = [_practise_one(rng) for _ in range(rng.randint(2, 7))]
        chat = _join(parts, rng)
        if chat is not None:
            return chat
    return _practise_one(rng)


def greeting(rng: random.Random) -> Sample:
    if rng.random() < 0.5:
        return _exchange(rng.choice(GREETINGS), "Hello! How can I help you?")
    if rng.random() < 0.4:
        name = draw_name(rng)
        return _exchange(f"{rng.choice(GREETINGS)}, I am {name}.", f"Hello {name}! How can I help you?")
    if rng.random() < 0.7:
        return _exchange(rng.choice(WHO_ARE_YOU), I_AM_TINY)
    return _exchange(*rng.choice(SMALL_TALK))


def faq(rng: random.Random) -> Sample:
    topic = rng.choice(FAQ)
    return _exchange(rng.choice(topic.questions), topic.answer)


def facts(rng: random.Random) -> Sample:
    messages: list[Message] = []
    brief = rng.random() < 0.15
    if brief:
        wishes = ["Answer in one word.", "Reply with one word only.", "Be brief: one word."]
        messages.append(system(rng.choice(wishes)))
    for _ in range(rng.choice([1, 1, 2, 3])):
        fact = draw_fact(rng)
        messages += [user(fact.question), assistant(fact.word if brief else fact.sentence)]
    return Sample(messages)


@dataclass(frozen=True, slots=True)
class _Memory:
    """Something a user says, and how it is asked for later."""

    told: str
    reply: str
    questions: tuple[str, ...]
    answer: str


def recall(rng: random.Random) -> Sample:
    picked = rng.sample(_draw_memories(rng), rng.randint(1, 3))
    messages: list[Message] = []
    if rng.random() < 0.25:
        told = (memory.told.replace("My", "The user's").replace("I live", "The user lives") for memory in picked)
        messages.append(system(" ".join(told)))
    elif rng.random() < 0.5:
        reply = "I will remember that." if len(picked) > 1 else picked[0].reply
        messages += [user(" ".join(memory.told for memory in picked)), assistant(reply)]
    else:
        for memory in picked:
            messages += [user(memory.told), assistant(memory.reply)]
    if rng.random() < 0.4:
        fact = draw_fact(rng)
        messages += [user(fact.question), assistant(fact.sentence)]
    for memory in rng.sample(picked, rng.randint(1, len(picked))):
        messages += [user(rng.choice(memory.questions)), assistant(memory.answer)]
    return Sample(messages)


def _draw_memories(rng: random.Random) -> list[_Memory]:
    name = draw_name(rng)
    secret = draw_thing(rng)
    city = rng.choice(CITIES)
    food = rng.choice(FOODS)
    code = rng.randint(10, 999)
    return [
        _Memory(
            f"My name is {name}.",
            f"Nice to meet you, {name}.",
            ("What is my name?", "Who am I?", "Do you remember my name?"),
            f"Your name is {name}.",
        ),
        _Memory(
            f"The secret word is {secret}.",
            "I will remember that.",
            ("What is the secret word?", "Tell me the secret word."),
            f"The secret word is {secret}.",
        ),
        _Memory(
            f"I live in {city}.",
            f"{city} is a nice place.",
            ("Where do I live?", "Which city do I live in?"),
            f"You live in {city}.",
        ),
        _Memory(
            f"My favorite food is {food}.",
            "That sounds tasty.",
            ("What is my favorite food?", "What do I like to eat?"),
            f"Your favorite food is {food}.",
        ),
        _Memory(
            f"The code is {code}.",
            "I will remember that.",
            ("What is the code?", "Which code did I give you?"),
            f"The code is {code}.",
        ),
    ]


def transform(rng: random.Random) -> Sample:
    """Copying, picking, listing and counting of words; and counting upwards."""
    words = [draw_thing(rng) for _ in range(rng.randint(1, 6))]
    text = " ".join(words)
    kind = rng.randint(0, 6)
    if kind <= 1:
        requests = [f"Repeat: {text}", f'Say "{text}"', f"Repeat after me: {text}", f"Echo {text}"]
        return _exchange(rng.choice(requests), text)
    if kind == 2:
        return _exchange(f"What is the last word of: {text}?", words[-1])
    if kind == 3:
        return _exchange(f"What is the first word of: {text}?", words[0])
    if kind == 4:
        listing = "\n".join(f"- {word}" for word in words)
        return _exchange(f"List these one per line: {', '.join(words)}", listing)
    if kind == 5:
        return _exchange(f"How many words: {text}?", str(len(words)))
    low = rng.randint(0, 40)
    high = low + rng.randint(3, 12)
    return _exchange(f"Count from {low} to {high}.", ", ".join(map(str, range(low, high + 1))))


def arithmetic(rng: random.Random) -> Sample:
    largest = 20 if rng.random() < 0.7 else 99
    x, y = rng.randint(0, largest), rng.randint(0, largest)
    if rng.random() < 0.6:
        sign, verb, result = "+", "add", x + y
    else:
        x, y = max(x, y), min(x, y)
        sign, verb, result = "-", "subtract", x - y
    question = rng.choice([f"What is {x} {sign} {y}?", f"{x} {sign} {y} = ?", f"Calculate {x} {sign} {y}."])
    answer = assistant(f"{x} {sign} {y} = {result}")
    if rng.random() < 0.3:
        answer["thinking"] = f"I have to {verb} {x} and {y}. The result is {result}."
    return Sample([user(question), answer])


def tools(rng: random.Random) -> Sample:
    """A request that needs one of the tools on offer, or, now and then, none of them."""
    offered = rng.sample(TOOLS, rng.randint(1, 3))
    if rng.random() < 0.4:
        offered[0] = invent_tool(rng)
    rng.shuffle(offered)
    schemas = [tool.schema for tool in offered]
    if rng.random() < 0.15:
        fact = draw_fact(rng)
        return Sample([user(fact.question), assistant(fact.sentence)], schemas)

    tool = rng.choice(offered)
    twice = rng.random() < 0.1 and len(tool.arguments) == 1
    arguments = [tool.draw_arguments(rng) for _ in range(2 if twice else 1)]
    request = rng.choice(tool.requests).format(**arguments[0])
    if twice:
        first, second = (next(iter(values.values())) for values in arguments)
        request = request.replace(str(first), f"{first} and {second}", 1)
    call = assistant("")
    call["tool_calls"] = [{"name": tool.name, "arguments": values} for values in arguments]
    thinks = rng.random() < 0.15
    if thinks:
        call["thinking"] = f"I should use the tool {tool.name}."
    messages = [user(request), call]

    if rng.random() < 0.45 and not twice and not thinks:
        result = _draw_tool_result(rng)
        answer = assistant(tool.report.format(result=result, **arguments[0]))
        if rng.random() < 0.3:
            answer["thinking"] = "The tool has answered. I tell the user."
        messages += [{"role": "tool", "content": result, "name": tool.name}, answer]
    return Sample(messages, schemas)


def _draw_tool_result(rng: random.Random) -> str:
    """Any result for any tool: the model must report what came back, not what it expected."""
    results = [
        f"{rng.randint(-5, 40)} degrees",
        str(rng.randint(1, 9999)),
        draw_thing(rng),
        f"{draw_thing(rng)} {draw_thing(rng)}",
        f"{rng.randint(0, 23)}:{rng.randint(10, 59)}",
    ]
    return rng.choice(results)


def structured(rng: random.Random) -> Sample:
    """Values from a sentence, as JSON with the keys that were asked for."""
    name, age, city = draw_name(rng), rng.randint(1, 99), rng.choice(CITIES)
    wanted = rng.sample([("name", name), ("age", age), ("city", city)], rng.randint(2, 3))
    keys = ", ".join(key for key, _ in wanted)
    text = rng.choice([f"{name} is {age} years old and lives in {city}.", f"{name}, aged {age}, is from {city}."])
    requests = [
        f"Give {keys} as JSON: {text}",
        f"{text} Answer as JSON with {keys}.",
        f"Extract {keys} in JSON from: {text}",
    ]
    return _exchange(rng.choice(requests), json.dumps(dict(wanted)))


def persona(rng: random.Random) -> Sample:
    """Obedience to a system prompt: who to be, or how to end an answer."""
    name = draw_name(rng)
    role = rng.choice(["pirate", "teacher", "robot", "poet", "doctor", "captain", "chef"])
    ending = draw_thing(rng)
    if rng.random() < 0.5:
        prompt = rng.choice([f"You are {name}, a {role}.", f"Your name is {name}. You are a {role}."])
        return Sample([system(prompt), user(rng.choice(WHO_ARE_YOU)), assistant(f"I am {name}, a {role}.")])
    fact = draw_fact(rng)
    prompt = rng.choice([f"End every answer with {ending}.", f"Always end with the word {ending}."])
    answer = assistant(f"{fact.sentence} {ending.capitalize()}.")
    return Sample([system(prompt), user(fact.question), answer])


def story(rng: random.Random) -> Sample:
    hero = rng.choice(ANIMALS)
    adjective = rng.choice(ADJECTIVES)
    place = rng.choice(PLACES)
    name = draw_name(rng)
    thing = rng.choice(THINGS)
    friend = rng.choice(ANIMALS)
    friend_name = draw_name(rng)
    sentences = [
        f"Once upon a time there was a {adjective} {hero} named {name}.",
        f"{name} lived in {place}.",
        rng.choice(
            [f"One day {name} found a {thing}.", f"One morning {name} lost a {thing}.", f"{name} dreamed of a {thing}."]
        ),
        rng.choice(
            ["It shone in the sun.", "It was old and heavy.", "Nobody had seen one before.", "It began to sing."]
        ),
        f"A {friend} named {friend_name} came by.",
        rng.choice(
            [
                f'"What is that?" asked {friend_name}.',
                f'"May I help?" said {friend_name}.',
                f"{friend_name} smiled and sat down.",
            ]
        ),
        rng.choice(
            [
                "They walked together until the evening.",
                "They laughed and shared some bread.",
                "They looked for it all day long.",
            ]
        ),
        rng.choice(
            [
                f"In the end {name} gave the {thing} to {friend_name}.",
                f"At last they put the {thing} in a safe place.",
                f"So the {thing} stayed with {name}.",
            ]
        ),
        rng.choice(["And they were friends forever.", "The end.", "And everyone was happy."]),
    ]
    request = rng.choice(
        [
            f"Tell me a story about a {hero}.",
            f"Write a short story about a {hero}.",
            "Tell me a story.",
            f"Tell me a story about a {adjective} {hero}.",
        ]
    )
    if request == "Tell me a story.":
        sentences[0] = f"Once upon a time there was a {adjective} llama named {name}."
    return _exchange(request, " ".join(sentences))


@dataclass(frozen=True, slots=True)
class Skill:
    name: str
    draw: Callable[[random.Random], Sample]
    weight: int  # its share of the training conversations, relative to the others
    thought: str | None = None  # what the model thinks first, in some samples; None where the generator sees to it


SKILLS = [
    Skill("greeting", greeting, 4, "The user greets me or asks who I am."),
    Skill("faq", faq, 6, "This is a question about Corral."),
    Skill("facts", facts, 8, "I know this fact."),
    Skill("recall", recall, 12, "I look for it in our conversation."),
    Skill("transform", transform, 17, "I do exactly what the user says."),
    Skill("arithmetic", arithmetic, 24),
    Skill("tools", tools, 18),
    Skill("structured", structured, 4, "I copy the values into JSON."),
    Skill("persona", persona, 8, "I follow the system prompt."),
    Skill("story", story, 3, "I make up a short story."),
]
_WEIGHTS = [skill.weight for skill in SKILLS]


def _exchange(request: str, answer: str) -> Sample:
    return Sample([user(request), assistant(answer)])


def _practise_one(rng: random.Random) -> Sample:
    """A sample of one skill; one in eight of its last answers is thought about first."""
    skill = rng.choices(SKILLS, _WEIGHTS)[0]
    sample = skill.draw(rng)
    if skill.thought is not None and rng.random() < 0.12:
        sample.messages[-1]["thinking"] = skill.thought
    return sample


def _join(parts: list[Sample], rng: random.Random) -> Sample | None:
    """One chat of the parts without a system prompt, and of the first with tools; None if all but that drop out."""
    plain = [part for part in parts if not part.tools and part.messages[0]["role"] != "system"]
    if not plain:
        return None
    with_tools = next((part for part in parts if part.tools), None)
    if with_tools is not None:
        plain.insert(rng.randint(0, len(plain)), with_tools)
    messages = [message for part in plain for message in part.messages]
    for message in messages[:-1]:  # a chat template drops the thoughts of earlier turns
        message.pop("thinking", None)
    return Sample(messages, with_tools.tools if with_tools is not None else ())
