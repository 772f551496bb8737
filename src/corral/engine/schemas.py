"""Schemas of tools in the words of the engine, which refuses a request for one word that it does not know.

Nothing is enforced by them but what calls look like, and what a model is shown stays the same wherever the engine takes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
_NAMED = ("properties", "patternProperties", "$defs", "definitions")  # schemas by name
_LISTED = ("anyOf", "oneOf", "allOf", "prefixItems")
_ONE = ("items", "additionalProperties")
_READ = {*_NAMED, *_LISTED, *_ONE, "type", "enum", "required", "$ref"}  # the words that the engine is strict about


def engine_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """``schema`` without what the engine cannot read: booleans for schemas, ``null`` for lists, types and places unknown to it.

    >>> engine_schema({"type": "object", "properties": {"a": True, "b": {"type": "any"}, "c": {"$ref": "#"}}, "required": None})
    {'type': 'object', 'properties': {'a': {}, 'b': {}, 'c': {'type': 'object'}}}
    """
    return _schema(schema, schema)


def _schema(schema: object, root: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(schema, Mapping):
        return {}
    written = {}
    for word, value in schema.items():
        known = _word(word, value, root) if word in _READ else value
        if word not in _READ or known is not None:
            written[word] = known
    if schema.get("$ref") == "#":
        written.setdefault("type", "object")  # arguments are one
    return written


def _word(word: str, value: Any, root: Mapping[str, Any]) -> Any:
    """What a word of a schema says to the engine, ``None`` where nothing."""
    if word in _NAMED:
        return {name: _schema(each, root) for name, each in value.items()} if isinstance(value, Mapping) else None
    if word in _LISTED:
        return [_schema(each, root) for each in value] if isinstance(value, list) and value else None
    if word == "items" and isinstance(value, list):
        return [_schema(each, root) for each in value]
    if word == "additionalProperties" and isinstance(value, bool):
        return value
    if word in _ONE:
        return None if value is None else _schema(value, root)
    if word == "type":
        return _type(value)
    if word in ("enum", "required"):
        return value if isinstance(value, list) and (value or word == "required") else None
    return value if isinstance(value, str) and _leads(value, root) else None  # a reference


def _type(value: object) -> object:
    if isinstance(value, list):
        return [each for each in value if each in _TYPES] or None
    return value if value in _TYPES else None


def _leads(reference: str, root: Any) -> bool:
    """Whether ``reference`` is a place in ``root``."""
    if not reference.startswith("#/"):
        return False
    for step in reference[2:].split("/"):
        name = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(root, Mapping) or name not in root:
            return False
        root = root[name]
    return isinstance(root, Mapping)
