"""What a conversation is to a template: the types that Ollama gives it, by the names that its messages show.

What Corral's requests must look like to be rendered is said by the protocols; any types with these attributes will do.

Tools are printed as Ollama prints them: the keys it knows in its own order, properties sorted, compact, with <, > and & escaped.
Arguments of past calls are printed as they were sent, in their order and without escapes, where Ollama sorts and escapes them: a
model that is shown ``\\u003cb\\u003e`` in its own past calls writes so in the next one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeGuard

from corral.templates.jsontext import to_json
from corral.templates.limits import Budget, Limits
from corral.templates.values import (
    INT,
    INTERFACE,
    STRING,
    UINT8,
    Field,
    GoType,
    Kind,
    Map,
    Pointer,
    Slice,
    Struct,
    from_json,
    pointer_to,
    slice_of,
)

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]


class ToolCall(Protocol):
    """A call that the model made. ``arguments`` is the JSON text of an object."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def arguments(self) -> str: ...


class Message(Protocol):
    """One turn. Role "developer" is taken for "system"."""

    @property
    def role(self) -> str: ...
    @property
    def content(self) -> str: ...
    @property
    def thinking(self) -> str: ...
    @property
    def images(self) -> Sequence[bytes]: ...
    @property
    def audio(self) -> Sequence[bytes]: ...
    @property
    def tool_calls(self) -> Sequence[ToolCall]: ...
    @property
    def tool_name(self) -> str: ...
    @property
    def tool_call_id(self) -> str: ...


class Conversation(Protocol):
    """What is rendered. ``thinking`` is ``None`` where nobody said; ``effort`` is a level such as "high"."""

    @property
    def messages(self) -> Sequence[Message]: ...
    @property
    def tools(self) -> Sequence[Mapping[str, Json]]: ...
    @property
    def thinking(self) -> bool | None: ...
    @property
    def effort(self) -> str | None: ...


def _shown(value: object) -> str:
    """The String method of tools and properties: their JSON."""
    if isinstance(value, Map | Slice) and value.items is None:
        return "{}" if isinstance(value, Map) else "null"
    return to_json(value, Budget(Limits()))


def _sent(value: object) -> str:
    """The String method of arguments: what was sent."""
    assert isinstance(value, Map)
    return value.items.text if isinstance(value.items, _Arguments) else "{}"


class _Arguments(dict[str, object]):
    """Arguments of a call with the text that they were sent as."""

    def __init__(self, text: str, values: Mapping[str, object]) -> None:
        super().__init__(values)
        self.text = text


_WORDS = {
    "string": "string",
    "number": "number",
    "integer": "number",
    "boolean": "boolean",
    "array": "any[]",
    "object": "Record<string, any>",
    "null": "null",
}


def _type_script(value: object) -> str:
    """The ToTypeScriptType method of a property."""
    assert isinstance(value, Struct)
    choices = value.values.get("AnyOf")
    if isinstance(choices, Slice) and len(choices):
        return " | ".join(_type_script(choice) for choice in choices.items or ())
    types = value.values.get("Type")
    names = types.items or () if isinstance(types, Slice) else ()
    return " | ".join(_WORDS.get(str(name), "any") for name in names) or "any"


def _type_name(value: object) -> str:
    """The String method of a property's type: its name, or all of them in brackets."""
    names = [str(name) for name in value.items or ()] if isinstance(value, Slice) else []
    return names[0] if len(names) == 1 else f"[{' '.join(names)}]" if names else ""


def _type_json(value: object) -> str:
    names = [str(name) for name in value.items or ()] if isinstance(value, Slice) else []
    return json.dumps(names[0] if len(names) == 1 else names, ensure_ascii=False, separators=(",", ":"))


_JSON = {"String": _shown}
IMAGE = GoType("api.ImageData", Kind.SLICE, UINT8)
ARGUMENTS = GoType("template.templateArgs", Kind.MAP, INTERFACE, methods={"String": _sent}, json=_sent, ordered=True)
CALL_FUNCTION = GoType(
    "template.templateToolCallFunction",
    Kind.STRUCT,
    fields=(Field("Index", INT, "Index"), Field("Name", STRING, "Name"), Field("Arguments", ARGUMENTS, "Arguments")),
)
CALL = GoType(
    "template.templateToolCall",
    Kind.STRUCT,
    fields=(Field("ID", STRING, "ID"), Field("Function", CALL_FUNCTION, "Function")),
)
IMAGES, CALLS = slice_of(IMAGE), slice_of(CALL)
MESSAGE = GoType(
    "template.templateMessage",
    Kind.STRUCT,
    fields=(
        Field("Role", STRING, "Role"),
        Field("Content", STRING, "Content"),
        Field("Thinking", STRING, "Thinking"),
        Field("Images", IMAGES, "Images"),
        Field("ToolCalls", CALLS, "ToolCalls"),
        Field("ToolName", STRING, "ToolName"),
        Field("ToolCallID", STRING, "ToolCallID"),
    ),
)
MESSAGES = slice_of(pointer_to(MESSAGE))
PROPERTY_TYPE = GoType("api.PropertyType", Kind.SLICE, STRING, methods={"String": _type_name}, json=_type_json)
PROPERTY_METHODS = {"ToTypeScriptType": _type_script}
_PROPERTY_STUB = GoType("api.ToolProperty", Kind.STRUCT, methods=PROPERTY_METHODS)
NESTED = GoType("*api.ToolPropertiesMap", Kind.MAP, _PROPERTY_STUB, ordered=True)
PROPERTY = GoType(
    "api.ToolProperty",
    Kind.STRUCT,
    fields=(
        Field("AnyOf", slice_of(_PROPERTY_STUB), "anyOf", omit_empty=True),
        Field("Type", PROPERTY_TYPE, "type", omit_empty=True),
        Field("Items", INTERFACE, "items", omit_empty=True),
        Field("Description", STRING, "description", omit_empty=True),
        Field("Enum", slice_of(INTERFACE), "enum", omit_empty=True),
        Field("Properties", NESTED, "properties", omit_empty=True),
        Field("Required", slice_of(STRING), "required", omit_empty=True),
    ),
    methods=PROPERTY_METHODS,
)
PROPERTIES = GoType("template.templateProperties", Kind.MAP, PROPERTY, methods=_JSON)
PARAMETERS = GoType(
    "template.templateToolFunctionParameters",
    Kind.STRUCT,
    fields=(
        Field("Type", STRING, "type"),
        Field("Defs", INTERFACE, "$defs", omit_empty=True),
        Field("Items", INTERFACE, "items", omit_empty=True),
        Field("Required", slice_of(STRING), "required", omit_empty=True),
        Field("Properties", PROPERTIES, "properties"),
    ),
    methods=_JSON,
)
TOOL_FUNCTION = GoType(
    "template.templateToolFunction",
    Kind.STRUCT,
    fields=(
        Field("Name", STRING, "name"),
        Field("Description", STRING, "description"),
        Field("Parameters", PARAMETERS, "parameters"),
    ),
    methods=_JSON,
)
TOOL = GoType(
    "template.templateTool",
    Kind.STRUCT,
    fields=(
        Field("Type", STRING, "type"),
        Field("Items", INTERFACE, "items", omit_empty=True),
        Field("Function", TOOL_FUNCTION, "function"),
    ),
    methods=_JSON,
)
TOOLS = GoType("template.templateTools", Kind.SLICE, TOOL, methods=_JSON)


def message_value(
    message: Message, role: str, content: str, thinking: str, images: Sequence[bytes], calls: Sequence[ToolCall]
) -> Pointer:
    """A message as a template sees it; what was merged with others is given beside it."""
    fields = {
        "Role": role,
        "Content": content,
        "Thinking": thinking,
        "Images": Slice(IMAGES, [Slice(IMAGE, image) for image in images] or None),
        "ToolCalls": Slice(CALLS, [_call_value(call, index) for index, call in enumerate(calls)] or None),
        "ToolName": message.tool_name,
        "ToolCallID": message.tool_call_id,
    }
    return Pointer(MESSAGES.element, Struct(MESSAGE, fields))


def _call_value(call: ToolCall, index: int) -> Struct:
    function = {"Index": index, "Name": call.name, "Arguments": _arguments_value(call.arguments)}
    return Struct(CALL, {"ID": call.id, "Function": Struct(CALL_FUNCTION, function)})


_STRING_OR_SPACE = re.compile(r'"(?:[^"\\]|\\.)*"|\s+')


def _arguments_value(text: str) -> Map:
    """Arguments as a map that prints as it was sent; what is no JSON object prints so too, and is empty."""
    try:
        values = json.loads(text, parse_int=float) if text else {}
    except (ValueError, RecursionError):
        values, compact = {}, text
    else:
        compact = _STRING_OR_SPACE.sub(_compacted, text) or "{}"
    return Map(ARGUMENTS, _Arguments(compact, values if isinstance(values, dict) else {}))


def _compacted(found: re.Match[str]) -> str:
    if found[0][0] != '"':
        return ""
    return json.dumps(json.loads(found[0], strict=False), ensure_ascii=False) if "\\" in found[0] else found[0]


def tools_value(tools: Sequence[Mapping[str, Json]]) -> Slice:
    """Tools as a template sees them: what Ollama's types have no place for is left out."""
    return Slice(TOOLS, [_tool_value(tool) for tool in tools] or None)


def _tool_value(tool: Mapping[str, Json]) -> Struct:
    function = _mapping(tool.get("function"))
    parameters = _mapping(function.get("parameters"))
    properties = parameters.get("properties")
    known: dict[str, object] = {
        "Type": _text(parameters.get("type")),
        "Defs": from_json(parameters.get("$defs")),
        "Items": from_json(parameters.get("items")),
        "Required": _texts(slice_of(STRING), parameters.get("required")),
    }
    if isinstance(properties, Mapping):
        known["Properties"] = Map(PROPERTIES, {name: _property_value(each) for name, each in properties.items()})
    described = {
        "Name": _text(function.get("name")),
        "Description": _text(function.get("description")),
        "Parameters": Struct(PARAMETERS, known),
    }
    items = from_json(tool.get("items"))
    return Struct(TOOL, {"Type": _text(tool.get("type")), "Items": items, "Function": Struct(TOOL_FUNCTION, described)})


def _property_value(raw: Json) -> Struct:
    schema = _mapping(raw)
    kind = schema.get("type")
    choices, values, nested = schema.get("anyOf"), schema.get("enum"), schema.get("properties")
    known: dict[str, object] = {
        "Type": _texts(PROPERTY_TYPE, [kind] if isinstance(kind, str) else kind),
        "Items": from_json(schema.get("items")),
        "Description": _text(schema.get("description")),
        "Required": _texts(slice_of(STRING), schema.get("required")),
    }
    if _is_list(choices):
        known["AnyOf"] = Slice(slice_of(PROPERTY), [_property_value(choice) for choice in choices])
    if _is_list(values):
        known["Enum"] = Slice(slice_of(INTERFACE), [from_json(value) for value in values])
    if isinstance(nested, Mapping):
        known["Properties"] = Map(NESTED, {name: _property_value(each) for name, each in nested.items()})
    return Struct(PROPERTY, known)


def _is_list(value: Json) -> TypeGuard[Sequence[Json]]:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""


def _texts(type_: GoType, value: Json) -> Slice:
    found = (
        [each for each in value if isinstance(each, str)] if isinstance(value, Sequence) and _is_list(value) else None
    )
    return Slice(type_, found)
