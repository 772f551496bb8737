"""Answers that the real sampler gives under these grammars, heated, and judged by independent implementations."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from corral.engine.base import CompletionCall, EngineConfig, Finished, OutputFormat, Sampling, Text
from corral.engine.llama import LlamaEngine
from corral.engine.process import run_engine
from corral.grammar import Grammar, add_regex, add_schema
from corral.tiny import TINY_FILE

pytestmark = pytest.mark.anyio

FORMATS = ("date", "time", "date-time", "duration", "uuid", "email", "hostname", "ipv4", "ipv6", "uri")
SCHEMAS: dict[str, dict[str, Any]] = {
    "numbers": {
        "properties": {
            "a": {"type": "number", "minimum": 0.5, "maximum": 0.75},
            "b": {"type": "number", "exclusiveMinimum": -3.14, "maximum": -3.1},
            "c": {"type": "integer", "exclusiveMinimum": -17, "exclusiveMaximum": 1234},
            "d": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
            "e": {"type": "number", "minimum": 99.5},
            "f": {"type": "number", "maximum": -7},
            "g": {"type": "integer", "maximum": 4},
            "h": {"type": "number", "minimum": 0.1, "exclusiveMaximum": 0.11},
            "i": {"type": "number", "minimum": -0.5, "maximum": 0.25},
        },
        "required": list("abcdefghi"),
    },
    "optional": {"properties": {key: {"type": "boolean"} for key in "abcde"}, "required": ["c"]},
    "recursive": {
        "$defs": {
            "n": {
                "type": "object",
                "properties": {
                    "v": {"type": "string", "maxLength": 5},
                    "next": {"anyOf": [{"$ref": "#/$defs/n"}, {"type": "null"}]},
                },
                "required": ["v", "next"],
                "additionalProperties": False,
            }
        },
        "$ref": "#/$defs/n",
    },
    "other keys": {
        "properties": {"name": {"type": "string", "maxLength": 3}, "nap": {"type": "null"}},
        "required": ["name"],
        "additionalProperties": {"type": "integer", "minimum": 1},
    },
    "map": {"type": "object", "additionalProperties": {"items": {"type": "integer"}, "minItems": 2, "maxItems": 4}},
    "tuple": {"prefixItems": [{"const": "x"}, {"type": "integer"}], "items": {"type": "boolean"}, "minItems": 3, "maxItems": 5},
    "all of": {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}, "required": ["a"]},
            {"type": "object", "properties": {"a": {"maximum": 5}, "b": {"enum": ["x", 1, None]}}, "required": ["b"]},
        ]
    },
    "one of": {
        "oneOf": [
            {"type": "object", "properties": {"k": {"const": "a"}, "v": {"type": "integer"}}, "required": ["k", "v"]},
            {"type": "object", "properties": {"k": {"const": "b"}, "w": {"type": "string"}}, "required": ["k"]},
        ]
    },
    "sets": {"type": "string", "pattern": r"^(\d\w\s){2}[^\w\"]\W\D\S.$"},
    "written otherwise": {
        "properties": {'a"b\\': {"enum": ["é", '\u2028\n"\\', "😀", {"a": [1, 2]}]}, "é\n": {"type": "null"}},
        "required": ['a"b\\', "é\n"],
    },
}  # fmt: skip


SCHEMAS |= {name: {"type": "string", "format": name} for name in FORMATS}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LlamaEngine]:
    config = EngineConfig(weights=TINY_FILE, context=1024)
    async with run_engine(config, log=Path(tmp_path_factory.mktemp("log")) / "log") as process:
        yield LlamaEngine(config, process)


async def sampled(engine: LlamaEngine, grammar: str, count: int = 3) -> AsyncIterator[str]:
    """Whole answers under a grammar."""
    whole = 0
    for seed in range(count):
        sampling = Sampling(temperature=2, top_k=60, top_p=1, seed=seed, max_tokens=400)
        call = CompletionCall("JSON: ", sampling, OutputFormat(grammar=grammar))
        events = [event async for batch in engine.complete(call) for event in batch]
        end = events[-1]
        assert isinstance(end, Finished)
        if end.reason == "stop":
            whole += 1
            yield "".join(event.text for event in events if isinstance(event, Text))
    assert whole


@pytest.mark.parametrize("name", SCHEMAS)
async def test_an_answer_that_is_whole_is_of_its_schema(engine: LlamaEngine, name: str) -> None:
    grammar = Grammar()
    text = grammar.text(add_schema(grammar, SCHEMAS[name]))
    judge = Draft202012Validator(SCHEMAS[name], format_checker=Draft202012Validator.FORMAT_CHECKER)
    async for answer in sampled(engine, text):
        value = json.loads(answer)
        judge.validate(value)
        if isinstance(value, dict):
            order = list(SCHEMAS[name].get("properties", ()))
            known = [key for key in value if key in order]
            assert known == sorted(known, key=order.index)


@pytest.mark.parametrize(
    "pattern", [r"(yes|no)\s\d{2,3}[^\"]{0,4}", "^a|b{2}$", r"(?<year>\d{4})-(?:0[1-9]|1[0-2])\.?", r"[\]-]{3}|é+?x"]
)
async def test_an_answer_matches_its_pattern(engine: LlamaEngine, pattern: str) -> None:
    grammar = Grammar()
    text = grammar.text(add_regex(grammar, pattern))
    async for answer in sampled(engine, text):
        assert re.fullmatch(pattern.replace("?<year>", "?P<year>"), answer)


async def test_long_and_many_are_counted_exactly(engine: LlamaEngine) -> None:
    grammar = Grammar()
    text = grammar.text(grammar.repeated("[a-c]", 250, 333))
    async for answer in sampled(engine, text, 3):
        assert 250 <= len(answer) <= 333
    large = Grammar()
    text = large.text(add_schema(large, {"type": "string", "maxLength": 100_000}))
    async for answer in sampled(engine, text, 3):
        assert isinstance(json.loads(answer), str)


async def test_nothing_stands_behind_a_mark_that_ends_a_text(engine: LlamaEngine) -> None:
    grammar = Grammar()
    text = grammar.text(f'{grammar.until("e")} "!"')
    async for answer in sampled(engine, text, 3):
        assert answer.index("e") == len(answer) - 2
