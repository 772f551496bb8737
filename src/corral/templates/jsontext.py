"""JSON as Go's encoding/json writes it: compact, keys of maps sorted, <, > and & escaped.

A type that has JSON of its own (`GoType.json`) is asked for it.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable

from corral.errors import TemplateError
from corral.templates.floats import json_number
from corral.templates.limits import Budget, Output
from corral.templates.values import (
    UINT8,
    Kind,
    Map,
    Pointer,
    Slice,
    Struct,
    as_map,
    as_slice,
    is_nil,
    kind_of,
    plain,
    sorted_items,
    truth,
    type_of,
    unwrapped,
)

MAX_DEPTH = 200
_SPECIAL = re.compile('[\x00-\x1f"\\\\<>&\u2028\u2029\ud800-\udfff]')
_NAMED = {"\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\"}


class NotJson(Exception):
    """A value that JSON has no form for."""


def json_string(text: str) -> str:
    """A string with its quotes.

    >>> print(json_string("<b> & é"))
    "\\u003cb\\u003e \\u0026 é"
    """
    return f'"{_SPECIAL.sub(_escape, text)}"'


def _escape(found: re.Match[str]) -> str:
    char = found[0]
    if char in _NAMED:
        return _NAMED[char]
    return "\\ufffd" if "\ud800" <= char <= "\udfff" else f"\\u{ord(char):04x}"


def to_json(value: object, budget: Budget) -> str:
    """A value's JSON. NotJson: it has none. TemplateError: it is nested too deep, or becomes too long."""
    out = Output(budget)

    def write(text: str) -> None:
        budget.spend(1 + (len(text) >> 5))
        out.write(text)

    _write(value, write, 0)
    return out.text()


def _write(value: object, write: Callable[[str], None], depth: int) -> None:
    value = unwrapped(value)
    if depth > MAX_DEPTH:
        raise TemplateError(f"template: a value is nested more than {MAX_DEPTH} deep")
    if value is None or (is_nil(value) and not type_of(value).json):
        write("null")
        return
    if own := type_of(value).json:
        write(own(value))
        return
    match kind_of(value):
        case Kind.POINTER:
            assert isinstance(value, Pointer)
            _write(value.target, write, depth + 1)
        case Kind.STRUCT:
            assert isinstance(value, Struct)
            _struct(value, write, depth)
        case Kind.MAP:
            _map(as_map(value), write, depth)
        case Kind.SLICE:
            _slice(as_slice(value), write, depth)
        case _:
            write(_scalar(plain(value)))


def _scalar(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float() if math.isfinite(value):
            return json_number(value)
        case str():
            return json_string(value)
    raise NotJson


def _struct(value: Struct, write: Callable[[str], None], depth: int) -> None:
    before = "{"
    for field in value.type.fields:
        item = value.get(field)
        if not field.json or (field.omit_empty and _is_empty(item)):
            continue
        write(f"{before}{json_string(field.json)}:")
        _write(item, write, depth + 1)
        before = ","
    write("{}" if before == "{" else "}")


def _is_empty(value: object) -> bool:
    """What omitempty leaves out: an interface only where it is nil, a struct never."""
    return is_nil(value) or (unwrapped(value) is value and not truth(value))


def _map(value: Map, write: Callable[[str], None], depth: int) -> None:
    before = "{"
    for key, item in sorted_items(value):
        write(f"{before}{json_string(key)}:")
        _write(item, write, depth + 1)
        before = ","
    write("{}" if before == "{" else "}")


def _slice(value: Slice, write: Callable[[str], None], depth: int) -> None:
    if value.type.elem is UINT8:
        data = value.as_bytes()
        write(f'"{base64.b64encode(data).decode()}"')
        return
    before = "["
    for at in range(len(value)):
        write(before)
        _write(value.at(at), write, depth + 1)
        before = ","
    write("[]" if before == "[" else "]")
