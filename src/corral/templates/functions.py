"""The functions that a template can call: Go's own, and those that Ollama adds.

Source: the documentation of text/template, "Functions" (Go 1.26). Each gets a `Context` and its arguments, and returns a value or
raises `FunctionError` with Go's words.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import quote_plus

from corral.templates.compare import equal, less, less_or_equal
from corral.templates.errors import FunctionError
from corral.templates.formats import sprintf
from corral.templates.jsontext import NotJson, to_json
from corral.templates.limits import Budget
from corral.templates.printing import sprint, sprintln
from corral.templates.quoting import is_printable
from corral.templates.values import (
    UINT8,
    Kind,
    Pointer,
    Scalar,
    as_map,
    as_slice,
    decoded,
    encoded,
    indirect,
    kind_of,
    length,
    plain,
    truth,
    type_of,
    unwrapped,
    wrapped,
    zero,
)

Value = object


@dataclass(frozen=True, slots=True)
class Context:
    """What functions may know beside their arguments."""

    budget: Budget
    today: datetime.date


@dataclass(frozen=True, slots=True)
class Function:
    """``fixed`` are the types of its parameters, ``rest`` that of any number more: "value", "any" or "string"."""

    name: str
    run: Callable[[Context, Sequence[Value]], Value]
    fixed: tuple[str, ...] = ()
    rest: str = ""


def _index(context: Context, arguments: Sequence[Value]) -> Value:
    item = unwrapped(arguments[0])
    if item is None:
        raise FunctionError("index of untyped nil")
    for index in arguments[1:]:
        item, nil = indirect(item)
        if nil:
            raise FunctionError("index of nil pointer")
        item = _element(context, item, unwrapped(index))
    return item


def _element(context: Context, item: Value, index: Value) -> Value:
    match kind_of(item):
        case Kind.MAP:
            if kind_of(index) is not Kind.STRING or type(index) is Scalar:
                why = f"has type {type_of(index).name}; should be" if index is not None else "is nil; should be of type"
                raise FunctionError(f"value {why} string")
            entries = as_map(item)
            key = plain(index)
            if entries.items and key in entries.items:
                return wrapped(entries.type.element, entries.items[str(key)])
            return zero(entries.type.element)
        case Kind.SLICE:
            window = as_slice(item)
            at = _position(index, len(window))
            if at == len(window):
                raise FunctionError("reflect: slice index out of range")
            return window.at(at)
        case Kind.STRING:
            data = _bytes(context, item)
            at = _position(index, len(data))
            if at == len(data):
                raise FunctionError("reflect: string index out of range")
            return Scalar(UINT8, data[at])
    raise FunctionError(f"can't index item of type {type_of(item).name}")


def _position(index: Value, limit: int) -> int:
    if index is None:
        raise FunctionError("cannot index slice/array with nil")
    at = plain(index)
    if kind_of(index) not in (Kind.INT, Kind.UINT) or not isinstance(at, int):
        raise FunctionError(f"cannot index slice/array with type {type_of(index).name}")
    if not 0 <= at <= limit:
        raise FunctionError(f"index out of range: {at}")
    return at


def _slice(context: Context, arguments: Sequence[Value]) -> Value:
    item = unwrapped(arguments[0])
    if item is None:
        raise FunctionError("slice of untyped nil")
    item, nil = indirect(item)
    if nil:
        raise FunctionError("slice of nil pointer")
    indexes = arguments[1:]
    if len(indexes) > 3:
        raise FunctionError(f"too many slice indexes: {len(indexes)}")
    kind = kind_of(item)
    if kind is Kind.STRING:
        if len(indexes) == 3:
            raise FunctionError("cannot 3-index slice a string")
        return _cut_text(context, item, indexes)
    if kind is not Kind.SLICE:
        raise FunctionError(f"can't slice item of type {type_of(item).name}")
    window = as_slice(item)
    start, stop, end = _bounds(indexes, len(window), window.capacity)
    return window.cut(start, stop, end)


def _bytes(context: Context, text: Value) -> bytes:
    """The bytes of a text, which are work to find."""
    found = str(plain(text))
    context.budget.spend(len(found) >> 8)
    return encoded(found)


def _cut_text(context: Context, item: Value, indexes: Sequence[Value]) -> Value:
    data = _bytes(context, item)
    start, stop, _ = _bounds(indexes, len(data), len(data))
    text = decoded(data[start:stop])
    return Scalar(item.type, text) if type(item) is Scalar else text


def _bounds(indexes: Sequence[Value], size: int, capacity: int) -> tuple[int, int, int]:
    bounds = [0, size, capacity]
    for number, index in enumerate(indexes):
        bounds[number] = _position(index, capacity)
    start, stop, end = bounds
    if start > stop:
        raise FunctionError(f"invalid slice index: {start} > {stop}")
    if len(indexes) == 3 and stop > end:
        raise FunctionError(f"invalid slice index: {stop} > {end}")
    return start, stop, end


def _len(context: Context, arguments: Sequence[Value]) -> Value:
    item, nil = indirect(arguments[0])
    if nil:
        raise FunctionError("len of nil pointer")
    if item is None:
        raise FunctionError("reflect: call of reflect.Value.Type on zero Value")
    if kind_of(item) is Kind.STRING:
        context.budget.spend(len(str(plain(item))) >> 8)
    size = length(item)
    if size is None:
        raise FunctionError(f"len of type {type_of(item).name}")
    return size


def _call(_: Context, arguments: Sequence[Value]) -> Value:
    """There are no functions among the data, so nothing can be called. The first argument is how the callee is written."""
    callee = unwrapped(arguments[1])
    if callee is None:
        raise FunctionError("call of nil")
    raise FunctionError(f"non-function {arguments[0]} of type {type_of(callee).name}")


def _shown(context: Context, arguments: Sequence[Value]) -> str:
    """The arguments as text, as the escaping functions take them."""
    if len(arguments) == 1 and isinstance(text := unwrapped(arguments[0]), str):
        return text
    return sprint([_printable(unwrapped(argument)) for argument in arguments], context.budget)


def _printable(value: Value) -> Value:
    if type(value) is Pointer:
        value, _ = indirect(value)
    return "<no value>" if value is None else value


_HTML = str.maketrans({"\0": "�", '"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;"})
_JS = {"\\": "\\\\", "'": "\\'", '"': '\\"', "<": "\\u003C", ">": "\\u003E", "&": "\\u0026", "=": "\\u003D"}


def _html(context: Context, arguments: Sequence[Value]) -> Value:
    return _charged(context, _shown(context, arguments).translate(_HTML))


def _js(context: Context, arguments: Sequence[Value]) -> Value:
    text = _shown(context, arguments)
    context.budget.spend(len(text) >> 2)  # each character is looked at
    return _charged(context, "".join(map(_js_char, text)))


def _js_char(char: str) -> str:
    if char in _JS:
        return _JS[char]
    code = ord(char)
    if code < 32:
        return f"\\u00{code:02X}"
    plain_char = code < 128 or 0xDC80 <= code <= 0xDCFF or is_printable(char)
    return char if plain_char else f"\\u{code:04X}"


def _urlquery(context: Context, arguments: Sequence[Value]) -> Value:
    return _charged(context, quote_plus(encoded(_shown(context, arguments))))


def _charged(context: Context, text: str) -> str:
    context.budget.spend(len(text) >> 4)
    context.budget.check_size(len(text))
    return text


def _printf(context: Context, arguments: Sequence[Value]) -> Value:
    return sprintf(str(plain(unwrapped(arguments[0]))), arguments[1:], context.budget)


def _json(context: Context, arguments: Sequence[Value]) -> Value:
    try:
        return to_json(arguments[0], context.budget)
    except NotJson:  # Ollama's function ignores the error
        return ""


def _type_script(_: Context, arguments: Sequence[Value]) -> Value:
    value = unwrapped(arguments[0])
    if type(value) is Pointer:
        value = value.target
    method = type_of(value).methods.get("ToTypeScriptType") if value is not None else None
    return method(value) if method else "any"


def _functions(*functions: Function) -> dict[str, Function]:
    return {function.name: function for function in functions}


FUNCTIONS = _functions(
    # and, or are evaluated where they stand, because they may stop before their last argument
    Function("and", lambda _, arguments: arguments[-1], ("value",), "value"),
    Function("or", lambda _, arguments: arguments[-1], ("value",), "value"),
    Function("not", lambda _, arguments: not truth(arguments[0]), ("value",)),
    Function("eq", lambda context, arguments: equal(arguments[0], arguments[1:], context.budget), ("value",), "value"),
    Function("ne", lambda context, arguments: not equal(arguments[0], arguments[1:], context.budget), ("value",) * 2),
    Function("lt", lambda context, arguments: less(arguments[0], arguments[1], context.budget), ("value",) * 2),
    Function(
        "le", lambda context, arguments: less_or_equal(arguments[0], arguments[1], context.budget), ("value",) * 2
    ),
    Function(
        "gt", lambda context, arguments: not less_or_equal(arguments[0], arguments[1], context.budget), ("value",) * 2
    ),
    Function("ge", lambda context, arguments: not less(arguments[0], arguments[1], context.budget), ("value",) * 2),
    Function("len", _len, ("value",)),
    Function("index", _index, ("value",), "value"),
    Function("slice", _slice, ("value",), "value"),
    Function("call", _call, ("value",), "value"),
    Function("print", lambda context, arguments: sprint(arguments, context.budget), (), "any"),
    Function("println", lambda context, arguments: sprintln(arguments, context.budget), (), "any"),
    Function("printf", _printf, ("string",), "any"),
    Function("html", _html, (), "any"),
    Function("js", _js, (), "any"),
    Function("urlquery", _urlquery, (), "any"),
    Function("json", _json, ("any",)),
    Function("currentDate", lambda context, _: context.today.isoformat(), (), "string"),
    Function(
        "yesterdayDate", lambda context, _: (context.today - datetime.timedelta(days=1)).isoformat(), (), "string"
    ),
    Function("toTypeScriptType", _type_script, ("any",)),
)
