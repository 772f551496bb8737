"""Tool calls in a value of JSON, in the forms in which models write them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import orjson

_NAMES = ("name", "tool_name", "function")
_ARGUMENTS = ("arguments", "parameters")
_BESIDE = frozenset({"type", "id", "index"})  # what may stand beside a call without being lost

# With which key an object may begin that is a call, besides the names of tools.
FIRST_KEYS = frozenset({*_NAMES, *_ARGUMENTS, *_BESIDE, "tool_calls"})


@dataclass(frozen=True, slots=True)
class ParsedCall:
    """A call that a model wrote. ``arguments`` is the JSON text of an object, ``source`` what stood in the text."""

    name: str
    arguments: str
    source: str = ""


def calls_in(text: str, names: Collection[str], named: str | None = None) -> list[ParsedCall]:
    """The calls to tools of ``names`` that the JSON text is; none if it is anything else, or would lose something.

    ``named`` is a tool whose name stood before the text; then the object may be its arguments.

    >>> calls_in('{"name": "add", "parameters": {"a": 1}}', ["add"])
    [ParsedCall(name='add', arguments='{"a":1}', source='')]
    >>> calls_in('{"a": 1}', ["add"], named="add")
    [ParsedCall(name='add', arguments='{"a":1}', source='')]
    >>> calls_in('{"name": "Ada"}', ["add"])
    []
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return []
    found = _calls(value, names)
    if not found and named is not None and isinstance(value, dict):
        return [_call(named, value)]
    return found


def _calls(value: Any, names: Collection[str]) -> list[ParsedCall]:
    if isinstance(value, list):
        inner = [_calls(item, names) for item in value]
        return [call for calls in inner for call in calls] if all(inner) else []
    if not isinstance(value, dict):
        return []
    rest = {key: item for key, item in value.items() if key not in _BESIDE}
    named = [key for key in _NAMES if isinstance(rest.get(key), str)]
    if named:
        name, given = rest.pop(named[0]), list(rest.items())
        if name not in names or len(given) > 1 or any(key not in _ARGUMENTS for key, _ in given):
            return []
        arguments = _arguments(given[0][1]) if given else {}
        return [] if arguments is None else [_call(name, arguments)]
    if len(rest) != 1:
        return []
    ((key, item),) = rest.items()
    if key in names and isinstance(item, dict):
        return [_call(key, item)]
    return _calls(item, names) if key in ("function", "tool_calls") else []


def _arguments(arguments: Any) -> dict[str, Any] | None:
    """Arguments as the object they must be, ``None`` if they are none. Some models write the object as a text of JSON."""
    if isinstance(arguments, str) and arguments.strip():
        try:
            arguments = orjson.loads(arguments)
        except orjson.JSONDecodeError:
            return None
    if arguments is None or arguments == "":
        return {}
    return arguments if isinstance(arguments, dict) else None


def _call(name: str, arguments: dict[str, Any]) -> ParsedCall:
    return ParsedCall(name, orjson.dumps(arguments).decode())
