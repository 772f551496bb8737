"""What Tiny knows: the tables behind its facts, and its answers about Corral.

All of it is common knowledge or was written for this recipe. Order matters: the generators draw by position, so a
seed gives the same training data only while these tables keep theirs.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass


def _table(text: str) -> dict[str, str]:
    """The pairs of a text such as ``sky: blue, grass: green``, in order."""
    pairs = (pair.split(": ") for pair in text.split(","))
    return {key.strip(): value.strip() for key, value in pairs}


CAPITALS = _table("""
    France: Paris, Germany: Berlin, Spain: Madrid, Italy: Rome, Portugal: Lisbon, Japan: Tokyo, China: Beijing,
    India: New Delhi, Canada: Ottawa, Australia: Canberra, Brazil: Brasilia, Argentina: Buenos Aires,
    Chile: Santiago, Peru: Lima, Mexico: Mexico City, Egypt: Cairo, Kenya: Nairobi, Nigeria: Abuja, Ghana: Accra,
    Morocco: Rabat, Norway: Oslo, Sweden: Stockholm, Finland: Helsinki, Denmark: Copenhagen, Iceland: Reykjavik,
    Ireland: Dublin, Poland: Warsaw, Austria: Vienna, Hungary: Budapest, Greece: Athens, Turkey: Ankara,
    Russia: Moscow, Ukraine: Kyiv, Romania: Bucharest, Bulgaria: Sofia, Croatia: Zagreb, Serbia: Belgrade,
    Belgium: Brussels, Switzerland: Bern, Thailand: Bangkok, Vietnam: Hanoi, Indonesia: Jakarta,
    Malaysia: Kuala Lumpur, Cuba: Havana, Colombia: Bogota, Ecuador: Quito, Bolivia: Sucre, Uruguay: Montevideo,
    Israel: Jerusalem, Iran: Tehran, Iraq: Baghdad, Nepal: Kathmandu, Mongolia: Ulaanbaatar, Latvia: Riga,
    Estonia: Tallinn, Lithuania: Vilnius
""")

SYMBOLS = _table("""
    hydrogen: H, helium: He, carbon: C, nitrogen: N, oxygen: O, sodium: Na, iron: Fe, copper: Cu, silver: Ag,
    gold: Au, lead: Pb, tin: Sn, zinc: Zn, calcium: Ca, potassium: K, neon: Ne, mercury: Hg, sulfur: S
""")

COLORS = _table("""
    sky: blue, grass: green, snow: white, coal: black, blood: red, lemon: yellow, orange: orange, banana: yellow,
    strawberry: red, sea: blue, milk: white, spinach: green, carrot: orange, cherry: red, night: black
""")

SOUNDS = _table("""
    dog: barks, cat: meows, cow: moos, sheep: bleats, horse: neighs, duck: quacks, lion: roars, wolf: howls,
    bee: buzzes, snake: hisses, owl: hoots, frog: croaks, pig: oinks, rooster: crows, llama: hums
""")

OPPOSITES = _table("""
    hot: cold, big: small, up: down, left: right, day: night, open: closed, fast: slow, high: low, happy: sad,
    old: new, full: empty, light: dark, wet: dry, early: late, near: far, hard: soft, rich: poor, win: lose
""")

PLURALS = _table("""
    cat: cats, child: children, mouse: mice, foot: feet, leaf: leaves, box: boxes, city: cities, man: men,
    tooth: teeth, goose: geese, dog: dogs, llama: llamas, knife: knives, baby: babies, tree: trees, wolf: wolves
""")

DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]

MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]


@dataclass(frozen=True, slots=True)
class Topic:
    """Ways to ask for one thing about Corral, and the answer."""

    questions: tuple[str, ...]
    answer: str


FAQ = (
    Topic(
        ("How do I download a model?", "How can I pull a model?", "Where do I get models?", "download a model"),
        "Run `corral pull NAME`, for example `corral pull llama3.2`. The model is stored once and can be used "
        "offline after that.",
    ),
    Topic(
        ("How do I run a model?", "How do I chat with a model?", "start a chat"),
        "Run `corral run NAME`. If the model is not on this machine yet, Corral downloads it first.",
    ),
    Topic(
        ("How do I start the server?", "How do I serve models?", "start the server"),
        "Run `corral serve`. It listens on http://127.0.0.1:11434 unless you set CORRAL_HOST.",
    ),
    Topic(
        ("How do I list my models?", "Which models do I have?", "show my models"),
        "Run `corral list`. It shows every model on this machine with its size.",
    ),
    Topic(
        ("How do I delete a model?", "How do I remove a model?", "free disk space"),
        "Run `corral rm NAME`. Files that another model still uses are kept.",
    ),
    Topic(
        ("Which models are loaded?", "What is in memory?", "What is running?"),
        "Run `corral ps`. It shows the loaded models, their memory and when they will be unloaded.",
    ),
    Topic(
        ("How do I unload a model?", "How do I stop a model?"),
        "Run `corral stop NAME`. An idle model is also unloaded after five minutes.",
    ),
    Topic(
        ("What is Corral?", "What does Corral do?", "Tell me about Corral."),
        "Corral downloads, runs and serves language models on your own machine, so nothing you write leaves it.",
    ),
    Topic(
        ("What is a Modelfile?", "How do I customize a model?"),
        "A Modelfile describes a model: FROM names the base, SYSTEM sets the system prompt and PARAMETER sets "
        "options. Build it with `corral create NAME -f Modelfile`.",
    ),
    Topic(
        ("Can I use the OpenAI client?", "Is there an OpenAI API?"),
        "Yes. Point the OpenAI client at http://127.0.0.1:11434/v1 and use any key.",
    ),
    Topic(
        ("What is quantization?", "What does Q4 mean?"),
        "Quantization stores weights in fewer bits. A Q4 model needs about a quarter of the memory of a 16 "
        "bit model and is a little less exact.",
    ),
    Topic(
        ("How much memory do I need?", "Will a model fit?"),
        "Count roughly one gigabyte per billion parameters for a quantized model, plus some for the context.",
    ),
    Topic(
        ("Do I need a GPU?", "Does it work without a GPU?"),
        "No. A GPU is faster, but small models run well on a CPU.",
    ),
    Topic(
        ("Does it work offline?", "Do I need the internet?"),
        "You need the internet once to download a model. After that everything works offline.",
    ),
    Topic(
        ("How do I make it faster?", "Can I speed it up?"),
        "Run `corral engine build`. It compiles the engine for your own processor or GPU.",
    ),
    Topic(
        ("What is a token?", "What are tokens?"),
        "A token is a piece of text, often part of a word, that a language model reads and writes.",
    ),
    Topic(
        ("What is a context window?", "What is num_ctx?"),
        "The context window is how many tokens a model can see at once, the prompt and the answer together.",
    ),
    Topic(
        ("How do I exit?", "How do I quit the chat?"),
        "Type /bye or press Ctrl+D.",
    ),
    Topic(
        ("What is GGUF?", "What is a GGUF file?"),
        "GGUF is the file format of llama.cpp. One file holds the weights, the tokenizer and the settings of a model.",
    ),
    Topic(
        ("What is an embedding?", "What are embeddings for?"),
        "An embedding is a list of numbers that stands for the meaning of a text. Texts with close meanings "
        "have close numbers.",
    ),
)


@dataclass(frozen=True, slots=True)
class Fact:
    question: str
    sentence: str  # the answer as a sentence
    word: str  # the answer in one word, or in one name


def draw_fact(rng: random.Random) -> Fact:
    return rng.choice(_KINDS)(rng)


def _capital(rng: random.Random) -> Fact:
    country, city = _entry(rng, CAPITALS)
    question = rng.choice(
        [f"What is the capital of {country}?", f"Name the capital of {country}.", f"capital of {country}?"]
    )
    return Fact(question, f"The capital of {country} is {city}.", city)


def _symbol(rng: random.Random) -> Fact:
    element, symbol = _entry(rng, SYMBOLS)
    question = rng.choice([f"What is the chemical symbol for {element}?", f"What is the symbol of {element}?"])
    return Fact(question, f"The symbol for {element} is {symbol}.", symbol)


def _color(rng: random.Random) -> Fact:
    thing, color = _entry(rng, COLORS)
    question = rng.choice([f"What color is {thing}?", f"Which color is {thing}?"])
    return Fact(question, f"The color of {thing} is {color}.", color)


def _sound(rng: random.Random) -> Fact:
    animal, sound = _entry(rng, SOUNDS)
    question = rng.choice([f"What sound does a {animal} make?", f"What does a {animal} do?"])
    return Fact(question, f"A {animal} {sound}.", sound)


def _opposite(rng: random.Random) -> Fact:
    word, opposite = _entry(rng, OPPOSITES)
    if rng.random() < 0.5:
        word, opposite = opposite, word
    question = rng.choice([f"What is the opposite of {word}?", f"Give the opposite of {word}."])
    return Fact(question, f"The opposite of {word} is {opposite}.", opposite)


def _plural(rng: random.Random) -> Fact:
    noun, plural = _entry(rng, PLURALS)
    return Fact(f"What is the plural of {noun}?", f"The plural of {noun} is {plural}.", plural)


def _neighbour(rng: random.Random) -> Fact:
    cycle, unit = rng.choice([(DAYS, "day"), (MONTHS, "month")])
    index = rng.randrange(len(cycle))
    if rng.random() < 0.5:
        side, answer = "after", cycle[(index + 1) % len(cycle)]
    else:
        side, answer = "before", cycle[index - 1]
    return Fact(f"Which {unit} comes {side} {cycle[index]}?", f"{answer} comes {side} {cycle[index]}.", answer)


def _entry(rng: random.Random, table: dict[str, str]) -> tuple[str, str]:
    return rng.choice(list(table.items()))


# A kind named twice is drawn twice as often.
_KINDS: list[Callable[[random.Random], Fact]] = [
    _capital,
    _capital,
    _symbol,
    _color,
    _sound,
    _opposite,
    _plural,
    _neighbour,
    _neighbour,
]
