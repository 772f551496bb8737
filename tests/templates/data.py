"""The types of golden/main.go, and the reading of its data, for Corral's interpreter."""

from __future__ import annotations

import base64
import json
from typing import Any

from corral.templates.jsontext import to_json
from corral.templates.limits import Budget, Limits
from corral.templates.values import (
    BOOL,
    BYTES,
    INT,
    INT64,
    INTERFACE,
    STRING,
    UINT8,
    Field,
    GoType,
    Kind,
    Map,
    Pointer,
    Scalar,
    Slice,
    Struct,
    map_of,
    pointer_to,
    slice_of,
    zero,
)


def _json_of(plain: GoType) -> Any:
    """A String method that gives the JSON of the value seen as ``plain``, which has no methods."""

    def method(value: Any) -> str:
        items = value.items if not isinstance(value, Struct) else None
        bare = Struct(plain, value.values) if isinstance(value, Struct) else type(value)(plain, items)
        return to_json(bare, Budget(Limits()))

    return method


ROLE = GoType("main.Role", Kind.STRING)
INNER = GoType(
    "main.Inner",
    Kind.STRUCT,
    fields=(Field("Name", STRING, "name"), Field("Count", INT, "count", omit_empty=True), Field("hidden", BOOL)),
)
ARGUMENTS = GoType("main.Arguments", Kind.MAP, INTERFACE, methods={"String": _json_of(map_of(INTERFACE))})
CALL = GoType(
    "main.Call", Kind.STRUCT, fields=(Field("Name", STRING, "Name"), Field("Arguments", ARGUMENTS, "Arguments"))
)
MESSAGE = GoType(
    "main.Message",
    Kind.STRUCT,
    fields=(
        Field("Role", STRING, "Role"),
        Field("Content", STRING, "Content"),
        Field("Images", slice_of(BYTES), "Images", omit_empty=True),
        Field("Calls", slice_of(CALL), "calls"),
        Field("Meta", map_of(STRING), "Meta"),
        Field("Kind", ROLE, "Kind"),
        Field("Inner", pointer_to(INNER), "inner", omit_empty=True),
        Field("Value", INNER, "Value"),
        Field("Any", INTERFACE, "Any"),
        Field("Level", UINT8, "Level"),
        Field("Big", INT64, "big", omit_empty=True),
    ),
)
FUNCTION = GoType(
    "main.Function",
    Kind.STRUCT,
    fields=(Field("Index", INT, "Index"), Field("Name", STRING, "Name"), Field("Arguments", ARGUMENTS, "Arguments")),
)
TOOL_CALL = GoType(
    "main.ToolCall", Kind.STRUCT, fields=(Field("ID", STRING, "ID"), Field("Function", FUNCTION, "Function"))
)
CHAT_MESSAGE = GoType(
    "main.ChatMessage",
    Kind.STRUCT,
    fields=(
        Field("Role", STRING, "Role"),
        Field("Content", STRING, "Content"),
        Field("Thinking", STRING, "Thinking"),
        Field("Images", slice_of(BYTES), "Images"),
        Field("ToolCalls", slice_of(TOOL_CALL), "ToolCalls"),
        Field("ToolName", STRING, "ToolName"),
        Field("ToolCallID", STRING, "ToolCallID"),
    ),
)
PROPERTY_FIELDS = (
    Field("Type", slice_of(STRING), "type"),
    Field("Description", STRING, "description", omit_empty=True),
    Field("Enum", slice_of(INTERFACE), "enum", omit_empty=True),
)


def _type_script(value: Any) -> str:
    return " | ".join(value.get(PROPERTY_FIELDS[0]).items or ())


PROPERTY = GoType("main.Property", Kind.STRUCT, fields=PROPERTY_FIELDS, methods={"ToTypeScriptType": _type_script})
TOOL_FIELDS = (
    Field("Type", STRING, "type"),
    Field("Name", STRING, "name"),
    Field("Items", INTERFACE, "items", omit_empty=True),
    Field("Properties", map_of(PROPERTY), "properties"),
)
TOOL = GoType(
    "main.Tool",
    Kind.STRUCT,
    fields=TOOL_FIELDS,
    methods={"String": _json_of(GoType("main.Tool", Kind.STRUCT, fields=TOOL_FIELDS))},
)
TOOLS = GoType("main.Tools", Kind.SLICE, TOOL, methods={"String": _json_of(slice_of(TOOL))})

PARAMETERS = GoType(
    "main.Parameters",
    Kind.STRUCT,
    fields=(
        Field("Type", STRING, "type"),
        Field("Required", slice_of(STRING), "required", omit_empty=True),
        Field("Properties", map_of(PROPERTY), "properties"),
    ),
)
TOOL_FUNCTION = GoType(
    "main.ToolFunction",
    Kind.STRUCT,
    fields=(
        Field("Name", STRING, "name"),
        Field("Description", STRING, "description"),
        Field("Parameters", PARAMETERS, "parameters"),
    ),
)
CHAT_TOOL_FIELDS = (Field("Type", STRING, "type"), Field("Function", TOOL_FUNCTION, "function"))
CHAT_TOOL = GoType(
    "main.ChatTool",
    Kind.STRUCT,
    fields=CHAT_TOOL_FIELDS,
    methods={"String": _json_of(GoType("main.ChatTool", Kind.STRUCT, fields=CHAT_TOOL_FIELDS))},
)
CHAT_TOOLS = GoType("main.ChatTools", Kind.SLICE, CHAT_TOOL, methods={"String": _json_of(slice_of(CHAT_TOOL))})

TYPES = {
    "ChatTools": CHAT_TOOLS,
    "Role": ROLE,
    "Inner": INNER,
    "*Inner": pointer_to(INNER),
    "Arguments": ARGUMENTS,
    "Call": CALL,
    "[]Call": slice_of(CALL),
    "Message": MESSAGE,
    "*Message": pointer_to(MESSAGE),
    "[]*Message": slice_of(pointer_to(MESSAGE)),
    "[]Message": slice_of(MESSAGE),
    "[]*ChatMessage": slice_of(pointer_to(CHAT_MESSAGE)),
    "Property": PROPERTY,
    "*Property": pointer_to(PROPERTY),
    "Tool": TOOL,
    "*Tool": pointer_to(TOOL),
    "Tools": TOOLS,
    "[]string": slice_of(STRING),
    "[]int": slice_of(INT),
    "[]byte": BYTES,
    "map[string]int": map_of(INT),
    "map[string]Inner": map_of(INNER),
    "uint8": UINT8,
    "int64": INT64,
    "bool": BOOL,
}


def read_data(raw: Any) -> Any:
    """The value that a case's data stand for."""
    if isinstance(raw, list):
        return [read_data(item) for item in raw]
    if not isinstance(raw, dict):
        return raw
    if "$" not in raw:
        return {key: read_data(item) for key, item in raw.items()}
    if raw["$"] == "float":
        return float(raw["value"])
    return _typed(TYPES[raw["$"]], raw["value"])


def _typed(type_: GoType, raw: Any) -> Any:
    if type_.kind is Kind.INTERFACE:
        return json.loads(json.dumps(raw), parse_int=float)  # as encoding/json reads numbers
    if raw is None:
        return zero(type_)
    match type_.kind:
        case Kind.STRUCT:
            names = {(field.json or field.name).lower(): field for field in type_.fields}
            found = {names[key.lower()].name: (names[key.lower()].type, item) for key, item in raw.items()}
            return Struct(type_, {name: _typed(there, item) for name, (there, item) in found.items()})
        case Kind.POINTER:
            return Pointer(type_, _typed(type_.element, raw))
        case Kind.MAP:
            return Map(type_, {key: _typed(type_.element, item) for key, item in raw.items()})
        case Kind.SLICE if type_.elem is UINT8:
            return base64.b64decode(raw)
        case Kind.SLICE:
            return Slice(type_, [_typed(type_.element, item) for item in raw])
    return raw if type_ in (STRING, INT, BOOL) else Scalar(type_, raw)
