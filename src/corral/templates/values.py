"""Values as a Go template sees them: which kind, which type, what is nil, what is true.

Python's own values stand for Go's: ``str``, ``bool``, ``int``, ``float`` (float64), ``complex`` (complex128), ``bytes``
([]uint8), ``list`` and ``tuple`` ([]interface {}), ``dict`` with text keys (map[string]interface {}). What Go types more
closely is one of the classes here. ``None`` is Go's untyped nil, the "no value" of a template.

A Go string is bytes. Where a template cuts one inside a character, the bytes that are no UTF-8 are kept as Python's
surrogate escapes, so that pieces put together again are whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum


class Kind(IntEnum):
    """What a value is underneath its type."""

    BOOL = 1
    INT = 2
    UINT = 3
    FLOAT = 4
    COMPLEX = 5
    STRING = 6
    SLICE = 7
    MAP = 8
    STRUCT = 9
    POINTER = 10
    INTERFACE = 11


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a struct: its Go name and type, and its name in JSON (empty where JSON leaves it out)."""

    name: str
    type: GoType
    json: str = ""
    omit_empty: bool = False

    @property
    def exported(self) -> bool:
        return self.name[:1].isupper()


@dataclass(frozen=True, slots=True, eq=False)
class GoType:
    """A type by the name it has in Go's messages.

    ``methods`` take the value and return what the method does; one named String decides how the value is printed.
    ``json`` gives the value's JSON where it is not made of its parts. A map that is ``ordered`` keeps the order of its keys, which
    no map of Go does.
    """

    name: str
    kind: Kind
    elem: GoType | None = None
    fields: tuple[Field, ...] = ()
    methods: Mapping[str, Callable[[object], object]] = field(default_factory=dict)
    json: Callable[[object], str] | None = None
    ordered: bool = False

    @property
    def element(self) -> GoType:
        """What a slice, map or pointer is of."""
        assert self.elem is not None, self.name
        return self.elem

    def field(self, name: str) -> Field | None:
        """The field of this name, if it is a struct that has one."""
        return next((each for each in self.fields if each.name == name), None)


INTERFACE = GoType("interface {}", Kind.INTERFACE)
BOOL = GoType("bool", Kind.BOOL)
INT = GoType("int", Kind.INT)
INT64 = GoType("int64", Kind.INT)
UINT8 = GoType("uint8", Kind.UINT)
FLOAT64 = GoType("float64", Kind.FLOAT)
COMPLEX128 = GoType("complex128", Kind.COMPLEX)
STRING = GoType("string", Kind.STRING)
LIST = GoType("[]interface {}", Kind.SLICE, INTERFACE)
BYTES = GoType("[]uint8", Kind.SLICE, UINT8)
DICT = GoType("map[string]interface {}", Kind.MAP, INTERFACE)


def slice_of(elem: GoType) -> GoType:
    """The type of slices of ``elem``."""
    return GoType(f"[]{elem.name}", Kind.SLICE, elem)


def map_of(elem: GoType) -> GoType:
    """The type of maps from text to ``elem``."""
    return GoType(f"map[string]{elem.name}", Kind.MAP, elem)


def pointer_to(elem: GoType) -> GoType:
    """The type of pointers to ``elem``; they have the methods of what they point to."""
    return GoType(f"*{elem.name}", Kind.POINTER, elem, methods=elem.methods, json=elem.json)


@dataclass(frozen=True, slots=True)
class Interface:
    """What Go holds in a variable of type ``interface {}``, as an element of a list or a map is; ``None`` is its nil."""

    value: object


NIL = Interface(None)


@dataclass(frozen=True, slots=True, eq=False)
class Scalar:
    """A number, text or truth of a named or sized type."""

    type: GoType
    value: bool | int | float | str


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """A window on ``items``: from ``start`` to ``stop``, and able to grow to ``end``. ``items`` ``None`` is a nil slice."""

    type: GoType
    items: Sequence[object] | None
    start: int = 0
    stop: int = -1
    end: int = -1

    def __len__(self) -> int:
        if self.items is None:
            return 0
        return (len(self.items) if self.stop < 0 else self.stop) - self.start

    @property
    def capacity(self) -> int:
        if self.items is None:
            return 0
        return (len(self.items) if self.end < 0 else self.end) - self.start

    def at(self, index: int) -> object:
        """The element at ``index``, which is below the capacity; past the items it is the type's zero."""
        assert self.items is not None
        at = self.start + index
        if at >= len(self.items):
            return zero(self.type.element)
        if isinstance(self.items, bytes):
            return Scalar(self.type.element, self.items[at])
        return wrapped(self.type.element, self.items[at])

    def as_bytes(self) -> bytes:
        """The bytes that it is of."""
        if isinstance(self.items, bytes):
            return self.items[self.start :][: len(self)]
        numbers = (plain(self.at(at)) for at in range(len(self)))
        return bytes(number & 255 for number in numbers if isinstance(number, int))

    def cut(self, start: int, stop: int, end: int) -> Slice:
        """The window from ``start`` to ``stop``, able to grow to ``end``."""
        return Slice(self.type, self.items, self.start + start, self.start + stop, self.start + end)


@dataclass(frozen=True, slots=True, eq=False)
class Map:
    """A map from text; ``items`` ``None`` is a nil map."""

    type: GoType
    items: Mapping[str, object] | None


@dataclass(frozen=True, slots=True, eq=False)
class Struct:
    """A struct; a field that ``values`` lacks is the zero of its type."""

    type: GoType
    values: Mapping[str, object]

    def get(self, wanted: Field) -> object:
        if wanted.name in self.values:
            return wrapped(wanted.type, self.values[wanted.name])
        return zero(wanted.type)


@dataclass(frozen=True, slots=True, eq=False)
class Pointer:
    """A pointer; ``target`` ``None`` is a nil one."""

    type: GoType
    target: object


_TYPED = (Scalar, Slice, Map, Struct, Pointer)
_NATIVE: dict[type, GoType] = {
    str: STRING,
    bool: BOOL,
    int: INT,
    float: FLOAT64,
    complex: COMPLEX128,
    bytes: BYTES,
    list: LIST,
    tuple: LIST,
    dict: DICT,
    Interface: INTERFACE,
}
_BASES: tuple[tuple[type | tuple[type, ...], GoType], ...] = (
    (str, STRING),
    (bool, BOOL),
    (int, INT),
    (float, FLOAT64),
    (bytes, BYTES),
    (Mapping, DICT),
    (Sequence, LIST),
)


def type_of(value: object) -> GoType:
    """The Go type of a value that is not ``None``. TypeError: no Go value looks like this."""
    found = _NATIVE.get(type(value))
    if found is not None:
        return found
    if isinstance(value, _TYPED):
        return value.type
    for base, there in _BASES:
        if isinstance(value, base):
            return there
    raise TypeError(f"a template cannot use a {type(value).__name__}")


def kind_of(value: object) -> Kind | None:
    """What a value is underneath; ``None`` for no value."""
    return None if value is None else type_of(value).kind


def wrapped(type_: GoType, value: object) -> object:
    """``value`` as an element of static type ``type_``: behind an interface where that is what Go has there."""
    return Interface(value) if type_.kind is Kind.INTERFACE and type(value) is not Interface else value


def unwrapped(value: object) -> object:
    """What an interface holds, or the value itself."""
    return value.value if type(value) is Interface else value


def zero(type_: GoType) -> object:
    """The zero of a type, as a missing key of a typed map is."""
    match type_.kind:
        case Kind.INTERFACE:
            return NIL
        case Kind.SLICE:
            return Slice(type_, None)
        case Kind.MAP:
            return Map(type_, None)
        case Kind.STRUCT:
            return Struct(type_, {})
        case Kind.POINTER:
            return Pointer(type_, None)
        case Kind.STRING:
            return "" if type_ is STRING else Scalar(type_, "")
        case Kind.BOOL:
            return False if type_ is BOOL else Scalar(type_, False)
        case Kind.FLOAT:
            return 0.0 if type_ is FLOAT64 else Scalar(type_, 0.0)
        case _:
            return 0 if type_ is INT else Scalar(type_, 0)


def indirect(value: object) -> tuple[object, bool]:
    """What pointers and interfaces lead to, and whether that is nil; a nil pointer or interface is returned itself."""
    while True:
        if type(value) is Interface:
            if value.value is None:
                return value, True
            value = value.value
        elif type(value) is Pointer:
            if value.target is None:
                return value, True
            value = value.target
        else:
            return value, False


def plain(value: object) -> object:
    """A number, text or truth without its name or size."""
    return value.value if type(value) is Scalar else value


def is_nil(value: object) -> bool:
    """Whether a value is no value, or nil of its type."""
    if value is None:
        return True
    match value:
        case Interface(value=inner):
            return inner is None
        case Slice(items=items) | Map(items=items):
            return items is None
        case Pointer(target=target):
            return target is None
    return False


def truth(value: object) -> bool:
    """Whether ``if`` takes a value for true: it is not the zero of its kind; a struct always is."""
    value = unwrapped(value)
    match value:
        case None:
            return False
        case Scalar(value=inner):
            return bool(inner)
        case Slice():
            return len(value) > 0
        case Map(items=items):
            return bool(items)
        case Pointer(target=target):
            return target is not None
        case Struct():
            return True
    return bool(value)


def as_slice(value: object) -> Slice:
    """A list, tuple, bytes or slice as a slice."""
    if type(value) is Slice:
        return value
    if isinstance(value, bytes):
        return Slice(BYTES, value)
    assert isinstance(value, Sequence)
    return Slice(LIST, value, 0, len(value), grown(len(value)))


def as_map(value: object) -> Map:
    """A dict or map as a map."""
    if type(value) is Map:
        return value
    assert isinstance(value, Mapping)
    return Map(DICT, value)


def sorted_items(value: Map) -> list[tuple[str, object]]:
    """The entries of a map in the order in which Go ranges over and prints them."""
    elem, items = value.type.element, (value.items or {}).items()
    return [(key, wrapped(elem, item)) for key, item in (items if value.type.ordered else sorted(items))]


def length(value: object) -> int | None:
    """What ``len`` says, in bytes for text; ``None`` for what has no length."""
    match value:
        case str():
            return len(value) if value.isascii() else len(encoded(value))
        case Scalar(value=str() as inner):
            return length(inner)
        case Slice():
            return len(value)
        case Map(items=items):
            return len(items or ())
        case bytes() | Sequence() | Mapping():
            return len(value)
    return None


def from_json(value: object) -> object:
    """What was read from JSON as Go's encoding/json reads it where it knows no type: every number is a float64.

    >>> from_json({"n": 1})
    {'n': 1.0}
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) < 1 << 1023 else value
    if isinstance(value, Mapping):
        return {key: from_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [from_json(each) for each in value]
    return value


def grown(count: int) -> int:
    """The capacity of a list of ``count`` elements that came from JSON, where Go adds one by one and doubles.

    Past 512 the list is taken to have no room.
    """
    if count < 2 or count > 512:
        return count
    return 1 << (count - 1).bit_length()


_LONE = re.compile("[\ud800-\udc7f\udd00-\udfff]")
_ESCAPED = re.compile("[\ud800-\udfff]")


def encoded(text: str) -> bytes:
    """The bytes of a Go string."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a surrogate pair, from somebody's JSON
        return _LONE.sub("�", text).encode("utf-8", "surrogateescape")


def decoded(data: bytes) -> str:
    """A Go string of bytes."""
    return data.decode("utf-8", "surrogateescape")


def whole(text: str) -> str:
    """``text`` with pieces of characters put together, and what is left of broken ones as U+FFFD."""
    if text.isascii() or not _ESCAPED.search(text):
        return text
    return _ESCAPED.sub("�", decoded(encoded(text)))
