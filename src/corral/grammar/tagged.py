"""Arguments that stand one by one between marks, as in XML: texts as they are, everything else as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from corral.errors import InvalidRequest
from corral.grammar.gbnf import Grammar, alternatives, character_class, complement, literal
from corral.grammar.keywords import Schema
from corral.grammar.regex import add_regex
from corral.grammar.schema import add_schema
from corral.grammar.strings import format_pattern

_KEY = "[a-zA-Z_] [a-zA-Z0-9_]{0,60}"


class Tags(Protocol):
    """The marks: before a name and behind it, around a text, behind a value, before each argument but the first."""

    @property
    def key(self) -> str: ...
    @property
    def value(self) -> str: ...
    @property
    def quote(self) -> str: ...
    @property
    def unquote(self) -> str: ...
    @property
    def after(self) -> str: ...
    @property
    def separator(self) -> str: ...


def is_text(schema: Any) -> bool:
    """Whether what is of ``schema`` is a text and nothing else, as far as the schema says so itself."""
    if not isinstance(schema, Mapping):
        return False
    if "type" in schema:
        return bool(schema["type"] == "string")
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    return bool(values) and all(isinstance(value, str) for value in values)


def add_tagged(grammar: Grammar, schema: Schema, tags: Tags) -> str:
    """An expression for the arguments that ``schema``, that of an object, describes."""
    properties: Mapping[str, Any] = schema.get("properties") or {}
    required = set(schema.get("required") or ())
    shared = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    pairs = [(_pair(grammar, key, of, shared, tags), key in required) for key, of in properties.items()]
    if not pairs and schema.get("additionalProperties") is not False:
        value = f"{literal(tags.quote)} {grammar.without(_end(tags))} {literal(tags.unquote + tags.after)}"
        pair = grammar.rule(f"{literal(tags.key)} {_KEY} {literal(tags.value)} {value}", "pair")
        return f"({pair} ({literal(tags.separator)} {pair})*)?"
    fresh = started = '""'  # what may follow, where none stands before, and where one does
    for pair, needed in reversed(pairs):
        following = grammar.rule(started, "more")
        others = grammar.rule(fresh, "first")
        fresh = f"{pair} {following}" + ("" if needed else f" | {others}")
        started = f"{literal(tags.separator)} {pair} {following}" + ("" if needed else f" | {following}")
    return grammar.rule(fresh, "arguments")


def _pair(grammar: Grammar, key: str, schema: Any, shared: Mapping[str, Any], tags: Tags) -> str:
    before = literal(tags.key + key + tags.value)
    if is_text(schema):
        inside = _text(grammar, schema, _end(tags))
        return grammar.rule(f"{before} {literal(tags.quote)} {inside} {literal(tags.unquote + tags.after)}", "pair")
    bare = "" if tags.quote else tags.unquote
    of: Schema = {**shared, **schema} if isinstance(schema, Mapping) else {}
    try:
        add_schema(Grammar(), of)
    except InvalidRequest:
        of = {}  # the call can be enforced, if not all that its schema says
    value = add_schema(grammar, of)
    return grammar.rule(f"{before} {value} {literal(bare + tags.after)}", "pair")


def _end(tags: Tags) -> str:
    return tags.unquote + tags.after


def _text(grammar: Grammar, schema: Mapping[str, Any], end: str) -> str:
    """An expression for a text in which ``end`` is not."""
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if values is not None:
        return alternatives([literal(value) for value in values if isinstance(value, str) and end not in value])
    pattern = schema.get("pattern") or format_pattern(str(schema.get("format")))
    if pattern is not None:
        try:
            return add_regex(grammar, str(pattern).removeprefix("^").removesuffix("$"))
        except InvalidRequest:
            return grammar.without(end)
    least, most = schema.get("minLength", 0), schema.get("maxLength")
    if least or most is not None:
        first = ord(end.strip()[:1] or end[0])
        return grammar.repeated(character_class(complement([(first, first)], 0x20)), least, most)
    return grammar.without(end)
