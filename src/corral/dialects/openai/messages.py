"""Messages of chat completions as turns of a conversation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from corral.dialects.media import Fetched
from corral.dialects.wire.content import Content, content
from corral.engine.base import Message, ToolCall
from corral.errors import InvalidRequest

_ROLES = {"developer": "system", "function": "tool"}


def messages(values: Sequence[object], fetched: Fetched) -> tuple[Message, ...]:
    """``messages``; a tool's answer without a name gets that of the call it answers. Raises `InvalidRequest`."""
    if not values:
        raise InvalidRequest("[] is too short - 'messages'", param="messages")
    turns: list[Message] = []
    for position, value in enumerate(values):
        where = f"messages[{position}]"
        if not isinstance(value, dict):
            raise InvalidRequest(f"{where} must be an object with a role and content", param=where)
        turns.append(_message(value, where, fetched, turns))
    return tuple(turns)


def _message(value: Mapping[str, Any], where: str, fetched: Fetched, before: Sequence[Message]) -> Message:
    role = _text(value, "role", where).lower()
    if not role:
        raise InvalidRequest(
            f"{where}.role is missing: system, developer, user, assistant or tool", param=f"{where}.role"
        )
    role = _ROLES.get(role, role)
    calls = _calls(value, where)
    said = _said(value, where, fetched, has_calls=bool(calls))
    answers = _text(value, "tool_call_id", where) if role == "tool" else ""
    return Message(
        role,
        said.text,
        thinking=_text(value, "reasoning", where) or _text(value, "reasoning_content", where),
        images=said.images,
        audio=said.audio,
        tool_calls=calls,
        tool_name=(_text(value, "name", where) or _called(answers, before)) if role == "tool" else "",
        tool_call_id=answers,
    )


def _said(value: Mapping[str, Any], where: str, fetched: Fetched, *, has_calls: bool) -> Content:
    given, refusal = value.get("content"), _text(value, "refusal", where)
    if given is None and (has_calls or refusal):
        return Content(refusal)
    return content(given, f"{where}.content", fetched)


def _calls(value: Mapping[str, Any], where: str) -> tuple[ToolCall, ...]:
    """Calls that an assistant made; in the old form at most one, without an id."""
    listed, old = value.get("tool_calls"), value.get("function_call")
    if listed is None:
        return () if old is None else (_call({"function": old}, f"{where}.function_call"),)
    if not isinstance(listed, list):
        raise InvalidRequest(f"{where}.tool_calls must be a list", param=f"{where}.tool_calls")
    return tuple(_call(call, f"{where}.tool_calls[{position}]") for position, call in enumerate(listed))


def _call(value: object, where: str) -> ToolCall:
    function = value.get("function") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(function, dict):
        raise InvalidRequest(f"{where} must have a function with a name and arguments", param=where)
    arguments = function.get("arguments")
    if isinstance(arguments, dict):  # as Ollama's own API has them
        arguments = orjson.dumps(arguments).decode()
    try:
        whole = isinstance(arguments, str) and isinstance(orjson.loads(arguments.strip() or "{}"), dict)
    except orjson.JSONDecodeError:
        whole = False
    if not whole:
        raise InvalidRequest(
            f"invalid tool call arguments: {where} must have the JSON text of an object", param=f"{where}.function"
        )
    return ToolCall(_text(function, "name", where), str(arguments).strip() or "{}", _text(value, "id", where))


def _called(call_id: str, before: Sequence[Message]) -> str:
    """The name of the function whose call had ``call_id``: of the latest, where several had it."""
    calls = (call for message in reversed(before) for call in message.tool_calls)
    return next((call.name for call in calls if call_id and call.id == call_id), "")


def _text(value: Mapping[str, Any], name: str, where: str) -> str:
    text = value.get(name)
    if text is not None and not isinstance(text, str):
        raise InvalidRequest(f"{where}.{name} must be a text", param=f"{where}.{name}")
    return text or ""
