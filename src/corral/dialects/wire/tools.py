"""Tools that a model may call, and which of them it must."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from corral.durations import quoted
from corral.engine.base import Json, NamedTool, ToolChoice, tool_name
from corral.errors import InvalidRequest
from corral.runtime.formats import check_strict

Tool = Mapping[str, Json]
_NO_PARAMETERS: Mapping[str, Json] = {"type": "object", "properties": {}}
_CHOICES = 'expected "none", "auto", "required", or an object that names a function'


@dataclass(frozen=True, slots=True)
class Choice:
    """The tools that may be called, and whether one must be."""

    tools: tuple[Tool, ...] = ()
    choice: ToolChoice = "auto"


def function(value: object, where: str) -> Tool:
    """A function as the core lists it, from its ``name``, ``description`` and ``parameters``, and whether it is ``strict``; what
    else there is does not reach the model. Without parameters it takes none. Raises `InvalidRequest` that names the place.
    """
    if not isinstance(value, dict):
        raise InvalidRequest(f"{where} must be an object with a name", param=where)
    name, description, parameters = (value.get(field) for field in ("name", "description", "parameters"))
    if not isinstance(name, str) or not name:
        raise InvalidRequest(f"{where}.name is missing: a function needs a name", param=f"{where}.name")
    if not isinstance(description, str | None):
        raise InvalidRequest(f"{where}.description must be a text", param=f"{where}.description")
    if not isinstance(parameters, dict | None):
        raise InvalidRequest(f"{where}.parameters must be a JSON Schema object", param=f"{where}.parameters")
    strict = value.get("strict")
    if not isinstance(strict, bool | None):
        raise InvalidRequest(f"{where}.strict must be true or false", param=f"{where}.strict")
    told: dict[str, Json] = {"name": name} if description is None else {"name": name, "description": description}
    told["parameters"] = parameters or _NO_PARAMETERS
    tool: Tool = {"type": "function", "function": {**told, "strict": True} if strict else told}
    check_strict(tool, f"{where}.parameters")
    return tool


def refuse_kind(kind: object, where: str) -> InvalidRequest:
    """The error for a tool, or a choice, that is no function."""
    what = "custom tools are" if kind == "custom" else f"tools of the type {quoted(str(kind))} are"
    return InvalidRequest(f"{where}: {what} not supported; only functions are", param=where)


def chosen(value: object, tools: Sequence[Tool], where: str = "tool_choice") -> Choice:
    """Which of ``tools`` may be called, by a ``tool_choice`` of either API. Raises `InvalidRequest` that names it."""
    every = tuple(tools)
    if value is None:
        return Choice(every)
    if isinstance(value, str):
        if value in ("none", "auto"):
            return Choice(every, "none" if value == "none" else "auto")
        if value in ("required", "any"):
            return Choice(_some(every, where), "required")
        raise InvalidRequest(f"{where} {quoted(value)} is not known; {_CHOICES}", param=where)
    if not isinstance(value, dict):
        raise InvalidRequest(f"{where} is of a wrong type; {_CHOICES}", param=where)
    match value.get("type"):
        case "function":
            name = _name(value)
            _known(name, every, where)
            return Choice(every, NamedTool(name))
        case "allowed_tools":
            return _allowed(value, every, where)
        case kind:
            raise refuse_kind(kind, f"{where}.type")


def _allowed(value: Mapping[str, object], tools: tuple[Tool, ...], where: str) -> Choice:
    inner = value.get("allowed_tools")
    allowed = inner if isinstance(inner, dict) else value
    listed, mode = allowed.get("tools"), allowed.get("mode", "auto")
    if not isinstance(listed, list) or not all(isinstance(tool, dict) for tool in listed):
        raise InvalidRequest(f"{where}.allowed_tools.tools must be a list of tools", param=f"{where}.allowed_tools")
    if mode not in ("auto", "required"):
        raise InvalidRequest(f'{where}.allowed_tools.mode must be "auto" or "required"', param=f"{where}.allowed_tools")
    names = [_name(tool) for tool in listed]
    for name in names:
        _known(name, tools, where)
    few = tuple(tool for tool in tools if tool_name(tool) in names)
    return Choice(_some(few, where), "required") if mode == "required" else Choice(few)


def _name(value: Mapping[str, object]) -> str:
    inner = value.get("function")
    return str((inner if isinstance(inner, dict) else value).get("name") or "")


def _known(name: str, tools: Sequence[Tool], where: str) -> None:
    if not any(tool_name(tool) == name for tool in tools):
        raise InvalidRequest(f"{where} names the function {quoted(name)}, which is not among the tools", param=where)


def _some(tools: tuple[Tool, ...], where: str) -> tuple[Tool, ...]:
    if not tools:
        raise InvalidRequest(f"{where} requires a call, but there are no tools", param=where)
    return tools
