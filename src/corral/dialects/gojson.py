"""JSON as Go's ``encoding/json`` reads and writes it: what is accepted, which words refuse it, how text is escaped.

Bodies are decoded whatever their content type says; names of fields match in any case; only the first value of a body is
read; ``null`` is absence.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import orjson

from corral.dialects.gojson_errors import MAX_DEPTH, why_invalid
from corral.durations import parse_duration, quoted
from corral.errors import InvalidRequest

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_PADDED = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)")
_LEVELS: tuple[Literal["low", "medium", "high", "max"], ...] = ("low", "medium", "high", "max")
_THINK_VALUES = '"high", "medium", "low", "max", true, or false'
FOREVER_S = float("inf")


def parse(body: bytes) -> object:
    """The first JSON value in ``body``. Raises `InvalidRequest` in Go's words."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    if not body.strip(b" \t\r\n"):
        raise InvalidRequest("missing request body")
    text = body.decode(errors="a replacement per byte").lstrip(" \t\r\n")
    try:
        value, _ = _DECODER.raw_decode(text)
        return _without_surrogates(value)
    except RecursionError:
        problem = why_invalid(body)
        deep = problem if "max depth" in problem else f"JSON nested more than {MAX_DEPTH} deep is not accepted"
        raise InvalidRequest(deep) from None
    except ValueError:
        raise InvalidRequest(why_invalid(body)) from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def _one_by_one(error: UnicodeError) -> tuple[str, int]:
    """Go replaces each byte that is no text; Python by itself replaces what belongs together at once."""
    assert isinstance(error, UnicodeDecodeError)
    return "\ufffd", error.start + 1


codecs.register_error("a replacement per byte", _one_by_one)


def _without_surrogates(value: object) -> object:
    if isinstance(value, str):
        return _LONE_SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    return value


def dumps(value: object) -> bytes:
    """Compact JSON with the characters escaped that Go escapes for the sake of HTML."""
    try:
        data = orjson.dumps(value)
    except (TypeError, orjson.JSONEncodeError):
        data = orjson.dumps(_without_surrogates(value))
    if b"<" in data:
        data = data.replace(b"<", b"\\u003c")
    if b">" in data:
        data = data.replace(b">", b"\\u003e")
    if b"&" in data:
        data = data.replace(b"&", b"\\u0026")
    if b"\xe2\x80" in data:
        data = data.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
    return data


@dataclass(frozen=True, slots=True)
class Fields:
    """A JSON object whose fields are asked for by name and type, in lower case. ``path`` leads to it, for errors:
    ``ChatRequest.messages``.
    """

    values: dict[str, Any]
    path: str

    @classmethod
    def of(cls, value: object, type_name: str) -> Fields:
        """The body of a request. Raises `InvalidRequest` when it is not an object; ``null`` is an empty one."""
        if value is None:
            return cls({}, type_name)
        if not isinstance(value, dict):
            raise InvalidRequest(f"json: cannot unmarshal {kind(value)} into Go value of type api.{type_name}")
        return cls(_folded(value), type_name)

    def raw(self, name: str) -> object:
        """The value as it is; ``None`` when absent."""
        return self.values.get(name)

    def string(self, name: str) -> str | None:
        """A text."""
        value = self.raw(name)
        if value is not None and not isinstance(value, str):
            self._refuse(name, value, "string")
        return value

    def boolean(self, name: str) -> bool | None:
        """True or false."""
        value = self.raw(name)
        if value is not None and not isinstance(value, bool):
            self._refuse(name, value, "bool")
        return value

    def integer(self, name: str) -> int | None:
        """A whole number."""
        value = self.raw(name)
        if value is None:
            return None
        return self._integer(name, value)

    def number(self, name: str) -> float | None:
        """A number."""
        value = self.raw(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            self._refuse(name, value, "float64")
        return value

    def mapping(self, name: str, go_type: str) -> dict[str, Any] | None:
        """An object of any shape."""
        value = self.raw(name)
        if value is not None and not isinstance(value, dict):
            self._refuse(name, value, go_type)
        return value

    def array(self, name: str, go_type: str) -> list[Any] | None:
        """A list of anything."""
        value = self.raw(name)
        if value is not None and not isinstance(value, list):
            self._refuse(name, value, go_type)
        return value

    def integers(self, name: str) -> list[int] | None:
        """A list of whole numbers."""
        values = self.array(name, "[]int")
        return None if values is None else [0 if value is None else self._integer(name, value) for value in values]

    def base64s(self, name: str) -> list[bytes] | None:
        """A list of byte strings in base64, with padding, line ends aside."""
        values = self.array(name, "[]api.ImageData")
        if values is None:
            return None
        return [self._base64(name, value) for value in values if value is not None]

    def children(self, name: str, go_type: str, list_type: str = "") -> Sequence[Fields]:
        """A list of objects; ``list_type`` is Go's name of the list, if it has one."""
        values = self.array(name, list_type or f"[]{go_type}") or ()
        return [self._child(name, value, go_type) for value in values]

    def nested(self, name: str, go_type: str) -> Fields:
        """An object with fields of its own; an empty one when absent."""
        return self._child(name, self.raw(name), go_type)

    def _child(self, name: str, value: Any, go_type: str) -> Fields:
        if value is not None and not isinstance(value, dict):
            self._refuse(name, value, go_type)
        return Fields(_folded(value or {}), f"{self.path}.{name}")

    def _integer(self, name: str, value: Any) -> int:
        if isinstance(value, float) and not isinstance(value, bool):
            self._refuse(name, value, "int", written=f"number {value}")
        if isinstance(value, bool) or not isinstance(value, int):
            self._refuse(name, value, "int")
        if not -(2**63) <= value < 2**63:
            self._refuse(name, value, "int", written=f"number {value}")
        return int(value)

    def _base64(self, name: str, value: Any) -> bytes:
        if not isinstance(value, str):
            self._refuse(name, value, "[]uint8")
        text = value.replace("\n", "").replace("\r", "")
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            padded = _PADDED.match(text)
            wrong = re.search(r"[^A-Za-z0-9+/]", text)
            position = padded.end() if padded else wrong.start() if wrong else len(text) - len(text) % 4
            raise InvalidRequest(f"illegal base64 data at input byte {position}") from None

    def _refuse(self, name: str, value: object, go_type: str, written: str = "") -> NoReturn:
        path = f"{self.path}.{name}"
        raise InvalidRequest(
            f"json: cannot unmarshal {written or kind(value)} into Go struct field {path} of type {go_type}",
            param=path.partition(".")[2],
        )


def _folded(values: dict[str, Any]) -> dict[str, Any]:
    """With names in lower case; of two that differ in nothing else the later counts."""
    return {name.lower(): value for name, value in values.items()}


def keep_alive(value: object) -> float | None:
    """How long a model stays after a request, in seconds; negative is for ever. Raises `InvalidRequest`."""
    if value is None:
        return None
    if isinstance(value, str):
        seconds = parse_duration(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        raise InvalidRequest(f"Unsupported type: '{go_type(value)}'")
    return FOREVER_S if seconds < 0 else seconds


def think(value: object) -> bool | Literal["low", "medium", "high", "max"] | None:
    """Whether and how hard to think. Raises `InvalidRequest`."""
    if value is None or isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise InvalidRequest(f"think must be a boolean or string ({_THINK_VALUES})")
    for level in _LEVELS:
        if value == level:
            return level
    raise InvalidRequest(f"invalid think value: {quoted(value)} (must be {_THINK_VALUES})")


def kind(value: object) -> str:
    """Go's word for the type of a JSON value."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"


def go_type(value: object) -> str:
    """Go's word for the type that a JSON value has when any is expected."""
    words = {"number": "float64", "array": "[]interface {}", "object": "map[string]interface {}"}
    return "<nil>" if value is None else words.get(kind(value), kind(value))
