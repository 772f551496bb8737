"""Tools as Anthropic's API lists them, and which of them may be called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from corral.dialects.gojson import kind
from corral.durations import quoted
from corral.engine.base import Json, NamedTool, ToolChoice, tool_name
from corral.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Tools:
    """The tools that a model may call. ``ignored`` are the names of those that have no meaning here."""

    listed: tuple[Mapping[str, Json], ...] = ()
    choice: ToolChoice = "auto"
    parallel: bool = True
    ignored: tuple[str, ...] = ()


# Tools that Anthropic defines and the client carries out: what the model is to send. By the beginning of their type.
_TEXT: dict[str, Json] = {"type": "string"}
_NUMBER: dict[str, Json] = {"type": "integer"}
_CLIENTS: dict[str, tuple[str, dict[str, Json], list[str]]] = {
    "bash_": ("Run a command in a shell that stays open", {"command": _TEXT, "restart": {"type": "boolean"}}, []),
    "text_editor_": (
        "View and edit text files. command is view, create, str_replace or insert",
        {
            "command": _TEXT,
            "path": _TEXT,
            "file_text": _TEXT,
            "old_str": _TEXT,
            "new_str": _TEXT,
            "insert_line": _NUMBER,
            "insert_text": _TEXT,
            "view_range": {"type": "array", "items": _NUMBER},
        },
        ["command", "path"],
    ),
    "memory_": (
        "Keep notes in files below /memories. command is view, create, str_replace, insert, delete or rename",
        {
            "command": _TEXT,
            "path": _TEXT,
            "file_text": _TEXT,
            "old_str": _TEXT,
            "new_str": _TEXT,
            "insert_line": _NUMBER,
            "insert_text": _TEXT,
            "old_path": _TEXT,
            "new_path": _TEXT,
        },
        ["command"],
    ),
}
_SEARCHES_TOOLS = "tool_search_tool_"  # needless: every tool is shown to the model at once


def read_tools(tools: Sequence[object], choice: object) -> Tools:
    """``tools`` and ``tool_choice`` of a request. Raises `InvalidRequest` for tools that only Anthropic's servers have."""
    listed, ignored = [], []
    for number, tool in enumerate(tools):
        if not isinstance(tool, dict):
            raise InvalidRequest(f"tools.{number}: expected an object, got {kind(tool)}")
        type_ = tool.get("type") or "custom"
        if not isinstance(type_, str):
            raise InvalidRequest(f"tools.{number}.type: expected a string, got {kind(type_)}")
        if type_.startswith(_SEARCHES_TOOLS):
            ignored.append(type_)
        else:
            listed.append(_tool(tool, type_, f"tools.{number}"))
    wanted, parallel = _choice(choice, [tool_name(tool) for tool in listed])
    return Tools(tuple(listed), wanted, parallel, tuple(ignored))


def _tool(tool: Mapping[str, Any], type_: str, where: str) -> Mapping[str, Json]:
    name = tool.get("name")
    known = next((beginning for beginning in _CLIENTS if type_.startswith(beginning)), None)
    if type_ != "custom" and known is None:
        what = f"the tool {quoted(name)} ({type_})" if isinstance(name, str) and name else type_
        raise InvalidRequest(
            f"{where}: {what} needs Anthropic's servers and does not exist here; leave it out, or bring a tool of your own "
            "with an input_schema"
        )
    if not isinstance(name, str) or not name:
        raise InvalidRequest(f"{where}.name is required: the name of the tool")
    if known is not None:
        purpose, properties, required = _CLIENTS[known]
        parameters: Json = {"type": "object", "properties": properties, "required": required}
        return _function(name, purpose, parameters)
    schema, about = tool.get("input_schema"), tool.get("description")
    if schema is not None and not isinstance(schema, dict):
        problem = f"json: cannot unmarshal {kind(schema)} into Go value of type api.ToolFunctionParameters"
        raise InvalidRequest(f"invalid input_schema for tool {quoted(name)}: {problem}")
    if about is not None and not isinstance(about, str):
        raise InvalidRequest(f"{where}.description: expected a string, got {kind(about)}")
    return _function(name, about or "", schema or {"type": "object", "properties": {}})


def _function(name: str, about: str, parameters: Json) -> Mapping[str, Json]:
    function = {"name": name, **({"description": about} if about else {}), "parameters": parameters}
    return {"type": "function", "function": function}


def _choice(value: object, names: Sequence[str]) -> tuple[ToolChoice, bool]:
    if value is None:
        return "auto", True
    if not isinstance(value, dict):
        raise InvalidRequest(f"tool_choice: expected an object, got {kind(value)}")
    alone = value.get("disable_parallel_tool_use")
    if alone is not None and not isinstance(alone, bool):
        raise InvalidRequest(f"tool_choice.disable_parallel_tool_use: expected true or false, got {kind(alone)}")
    match value.get("type"):
        case "auto":
            return "auto", not alone
        case "none":
            return "none", not alone
        case "any":
            if not names:
                _without_tools("any")
            return "required", not alone
        case "tool":
            name = value.get("name")
            if not isinstance(name, str) or not name:
                raise InvalidRequest("tool_choice.name is required where tool_choice.type is tool")
            if name not in names:
                raise InvalidRequest(f"tool_choice.name: {quoted(name)} is not among the tools of the request")
            return NamedTool(name), not alone
        case other:
            raise InvalidRequest(f"tool_choice.type: {quoted(str(other))} is none of auto, any, tool, none")


def _without_tools(choice: str) -> NoReturn:
    raise InvalidRequest(f"tool_choice.type: {choice} needs tools, and the request has none")
