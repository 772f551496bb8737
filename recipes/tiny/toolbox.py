"""The tools that training conversations offer: a fixed set, and invented ones."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from conversation import ToolSchema
from words import CITIES, draw_name, draw_thing, draw_word


@dataclass(frozen=True, slots=True)
class Argument:
    name: str
    type: Literal["string", "integer"]
    draw: Callable[[random.Random], object]


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    description: str
    arguments: tuple[Argument, ...]
    requests: tuple[str, ...]  # what a user says to have it called; formatted with the arguments
    report: str  # what the assistant says of its result; formatted with the arguments and ``result``

    @property
    def schema(self) -> ToolSchema:
        return {
            "type": "function",
            "function": {
                "name": self.name,
                "description": self.description,
                "parameters": {
                    "type": "object",
                    "properties": {argument.name: {"type": argument.type} for argument in self.arguments},
                    "required": [argument.name for argument in self.arguments],
                },
            },
        }

    def draw_arguments(self, rng: random.Random) -> dict[str, object]:
        return {argument.name: argument.draw(rng) for argument in self.arguments}


def _number(low: int, high: int) -> Callable[[random.Random], int]:
    return lambda rng: rng.randint(low, high)


def _one_of(*choices: str) -> Callable[[random.Random], str]:
    return lambda rng: rng.choice(choices)


TOOLS = (
    Tool(
        "get_weather",
        "Get the current weather for a city",
        (Argument("city", "string", _one_of(*CITIES)),),
        ("What is the weather in {city}?", "How is the weather in {city} today?", "Is it raining in {city}?"),
        "It is {result} in {city}.",
    ),
    Tool(
        "get_time",
        "Get the local time in a city",
        (Argument("city", "string", _one_of(*CITIES)),),
        ("What time is it in {city}?", "Tell me the time in {city}."),
        "The time in {city} is {result}.",
    ),
    Tool(
        "add",
        "Add two numbers",
        (Argument("a", "integer", _number(0, 999)), Argument("b", "integer", _number(0, 999))),
        ("Add {a} and {b}.", "Use the tool to add {a} and {b}.", "What is {a} plus {b}?"),
        "The result is {result}.",
    ),
    Tool(
        "multiply",
        "Multiply two numbers",
        (Argument("a", "integer", _number(0, 999)), Argument("b", "integer", _number(0, 999))),
        ("Multiply {a} by {b}.", "What is {a} times {b}?"),
        "The result is {result}.",
    ),
    Tool(
        "search",
        "Search the web",
        (Argument("query", "string", lambda rng: f"{draw_thing(rng)} {draw_thing(rng)}"),),
        ("Search for {query}.", "Look up {query}.", "Search the web for {query}."),
        "I found this: {result}.",
    ),
    Tool(
        "send_email",
        "Send an email",
        (Argument("to", "string", draw_name), Argument("subject", "string", draw_thing)),
        ("Send an email to {to} about {subject}.", "Email {to} with the subject {subject}."),
        "The email to {to} was sent.",
    ),
    Tool(
        "set_alarm",
        "Set an alarm",
        (Argument("hour", "integer", _number(0, 23)), Argument("minute", "integer", _number(0, 59))),
        ("Set an alarm for hour {hour} and minute {minute}.", "Wake me at hour {hour}, minute {minute}."),
        "The alarm is set.",
    ),
    Tool(
        "get_stock_price",
        "Get the price of a stock",
        (Argument("symbol", "string", lambda rng: draw_word(rng).upper()[:4]),),
        ("What is the stock price of {symbol}?", "Get the price of {symbol}."),
        "The price of {symbol} is {result}.",
    ),
    Tool(
        "translate",
        "Translate a word",
        (
            Argument("word", "string", draw_thing),
            Argument("language", "string", _one_of("French", "German", "Spanish", "Italian")),
        ),
        ("Translate {word} to {language}.", "What is {word} in {language}?"),
        "In {language} it is {result}.",
    ),
    Tool(
        "create_user",
        "Create a user",
        (Argument("name", "string", draw_name), Argument("age", "integer", _number(1, 99))),
        ("Create a user named {name} aged {age}.", "Add user {name}, age {age}."),
        "The user {name} was created.",
    ),
    Tool(
        "read_file",
        "Read a file",
        (Argument("path", "string", lambda rng: f"{draw_thing(rng)}.txt"),),
        ("Read the file {path}.", "Open {path}.", "What is in {path}?"),
        "The file says: {result}.",
    ),
    Tool(
        "turn_on_light",
        "Turn on the light in a room",
        (Argument("room", "string", _one_of("kitchen", "bedroom", "office", "garage", "hall")),),
        ("Turn on the light in the {room}.", "Light on in the {room}, please."),
        "The light in the {room} is on.",
    ),
)


def invent_tool(rng: random.Random) -> Tool:
    """A tool the model has never seen: it must read the name and the argument from the schema."""
    verb = rng.choice(["get", "find", "make", "check", "start", "load", "open", "count"])
    noun = draw_thing(rng)
    argument = draw_word(rng)
    return Tool(
        f"{verb}_{noun}",
        f"{verb.capitalize()} the {noun}",
        (Argument(argument, "string", draw_thing),),
        (f"{verb.capitalize()} the {noun} with {argument} {{{argument}}}.",),
        "Done: {result}.",
    )
