"""Items: what the input of a response is made of, and the turns that they are to a model.

An item is JSON as clients send it and as it is kept. It is checked when it is made into turns, so that one that is not kept
any longer, or that a client has changed, is never trusted.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from corral.dialects import media
from corral.dialects.gojson import kind
from corral.dialects.gojson_errors import why_invalid
from corral.dialects.media import Fetched
from corral.durations import quoted
from corral.engine.base import Message, ToolCall
from corral.errors import InvalidRequest

Item = dict[str, Any]

_PREFIXES = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}
_ROLES = ("user", "assistant", "system", "developer")
_TEXTS = ("input_text", "output_text", "text")


def new_id(kind: str) -> str:
    """A name for something new, which nobody can guess.

    >>> new_id("resp")[:5], len(new_id("resp"))
    ('resp_', 37)
    """
    return f"{kind}_{secrets.token_hex(16)}"


def items_of(value: object) -> list[Item]:
    """The input of a request as items. A text is a user's message. Raises `InvalidRequest`."""
    if value is None or value == "":
        return []
    if isinstance(value, str):
        return [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": value}]}]
    if not isinstance(value, list):
        why = f"json: cannot unmarshal {kind(value)} into Go value of type []json.RawMessage"
        raise InvalidRequest(f"input must be a string or array: {why}", param="input")
    return [_typed(item, f"input[{place}]") for place, item in enumerate(value)]


def _typed(item: object, where: str) -> Item:
    if not isinstance(item, dict):
        raise InvalidRequest(f"{where}: an input item must be an object, not {kind(item)}", param=where)
    if item.get("type") is None:
        if "role" in item:
            return {**item, "type": "message"}
        if set(item) == {"id"} or set(item) == {"id", "type"}:
            return {**item, "type": "item_reference"}
        raise InvalidRequest(f"{where}: input item missing required 'type' field", param=where)
    return item


def references(items: Iterable[Item]) -> list[str]:
    """The ids of items that are only named."""
    return [str(item.get("id")) for item in items if item.get("type") == "item_reference"]


def kept(items: Iterable[Item]) -> list[Item]:
    """Items as they are kept and listed: each has an id, and a content that is a list."""
    return [_kept(item) for item in items]


def _kept(item: Item) -> Item:
    named = {**item, "id": item.get("id") or new_id(_PREFIXES.get(str(item.get("type")), "item"))}
    if item.get("type") != "message":
        return named if item.get("type") == "reasoning" else {**named, "status": item.get("status") or "completed"}
    content = item.get("content")
    if isinstance(content, str):
        part = "output_text" if item.get("role") == "assistant" else "input_text"
        more: Item = {"annotations": []} if part == "output_text" else {}
        content = [{"type": part, "text": content, **more}]
    return {**named, "content": content, "status": item.get("status") or "completed"}


@dataclass(slots=True)
class _Turns:
    """Turns as they are built, item by item."""

    messages: list[Message] = field(default_factory=list)
    thought: str = ""
    names: dict[str, str] = field(default_factory=dict)  # of tools, by the id of a call

    def say(self, message: Message) -> None:
        if message.role != "assistant":
            self.rest()
            self.messages.append(message)
            return
        message = replace(message, thinking=self.thought)
        self.thought = ""
        last = self.messages[-1] if self.messages else None
        if last is not None and last.role == "assistant" and last.tool_calls:
            # What is said between a call and its result belongs to the turn that called.
            joined = "\n".join(filter(None, (last.content, message.content)))
            self.messages[-1] = replace(last, content=joined, thinking=last.thinking or message.thinking)
        else:
            self.messages.append(message)

    def call(self, call: ToolCall) -> None:
        self.names[call.id] = call.name
        last = self.messages[-1] if self.messages else None
        if last is not None and last.role == "assistant":
            calls, thinking = (*last.tool_calls, call), last.thinking or self.thought
            self.messages[-1] = replace(last, tool_calls=calls, thinking=thinking)
        else:
            self.messages.append(Message("assistant", thinking=self.thought, tool_calls=(call,)))
        self.thought = ""

    def rest(self) -> None:
        """A thought that nothing followed is a turn of its own."""
        if self.thought:
            self.messages.append(Message("assistant", thinking=self.thought))
            self.thought = ""


def messages(items: Sequence[Item], fetched: Fetched, past: int = 0) -> tuple[Message, ...]:
    """The turns that ``items`` are; the first ``past`` of them were not sent with this request. Raises `InvalidRequest`."""
    turns = _Turns()
    for place, item in enumerate(items):
        where = f"input[{place - past}]" if place >= past else f"item {item.get('id')} of an earlier response"
        _add(turns, item, where, fetched)
    turns.rest()
    return tuple(turns.messages)


def _add(turns: _Turns, item: Item, where: str, fetched: Fetched) -> None:
    match item.get("type"):
        case "message":
            role = item.get("role")
            if role not in _ROLES:
                expected = f"expected one of {', '.join(_ROLES)}"
                raise InvalidRequest(f"{where}: unknown role {quoted(str(role))}; {expected}", param=f"{where}.role")
            said = _content(item.get("content"), where, "content", fetched)
            turns.say(replace(said, role="system" if role == "developer" else str(role)))
        case "function_call":
            turns.call(_call(item, where))
        case "function_call_output":
            turns.rest()
            said = _content(item.get("output"), where, "output", fetched)
            call_id = _text(item, "call_id", where)
            name = turns.names.get(call_id, "")
            turns.messages.append(replace(said, role="tool", tool_call_id=call_id, tool_name=name))
        case "reasoning":
            turns.thought += _thought(item, where)
        case "web_search_call":
            pass  # says only that a search took place; what it found is in the answer that followed
        case unknown:
            raise InvalidRequest(f"{where}: unknown input item type: {quoted(str(unknown))}", param=f"{where}.type")


def _call(item: Item, where: str) -> ToolCall:
    arguments = item.get("arguments")
    text = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
    try:
        parsed = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise InvalidRequest(
            f"failed to parse function call arguments: {why_invalid(text.encode())}", param=f"{where}.arguments"
        ) from None
    if not isinstance(parsed, dict):
        why = f"json: cannot unmarshal {kind(parsed)} into Go value of type map[string]interface {{}}"
        raise InvalidRequest(f"failed to parse function call arguments: {why}", param=f"{where}.arguments")
    return ToolCall(_text(item, "name", where), text, _text(item, "call_id", where))


def _thought(item: Item, where: str) -> str:
    """The thought in full where the client has it, else its summary. Here both are the same text."""
    whole = item.get("encrypted_content")
    if isinstance(whole, str) and whole:
        return whole
    parts = [part for name in ("content", "summary") for part in item.get(name) or () if isinstance(part, dict)]
    texts = [part.get("text") for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise InvalidRequest(f"{where}: a part of a reasoning item must have a text", param=where)
    return "".join(map(str, texts))


def _content(value: object, where: str, name: str, fetched: Fetched) -> Message:
    """What a message or a result says and shows, as a message without a role."""
    if isinstance(value, str):
        return Message("", value)
    if not isinstance(value, list):
        why = f"json: cannot unmarshal {kind(value)} into Go value of type []json.RawMessage"
        raise InvalidRequest(f"{where}: {name} must be a string or array: {why}", param=f"{where}.{name}")
    texts: list[str] = []
    images: list[bytes] = []
    audio: list[bytes] = []
    for position, part in enumerate(value):
        place = f"{where}: {name}[{position}]"
        if not isinstance(part, dict):
            raise InvalidRequest(f"{place}: must be an object, not {kind(part)}", param=_path(place))
        match part.get("type"):
            case text_type if text_type in _TEXTS:
                texts.append(_text(part, "text", place))
            case "refusal":
                texts.append(_text(part, "refusal", place))
            case "input_image":
                images.append(_image(part, place, fetched))
            case "input_audio":
                audio.append(_audio(part, place))
            case "input_file":
                texts.append(_file(part, place))
            case unknown:
                raise InvalidRequest(
                    f"{place}: unknown content type: {unknown}", param=f"{where}.{name}[{position}].type"
                )
    return Message("", "".join(texts), images=tuple(images), audio=tuple(audio))


def _text(item: Mapping[str, Any], name: str, where: str) -> str:
    value = item.get(name)
    if not isinstance(value, str):
        raise InvalidRequest(
            f"{where}: {name} must be a string, not {kind(value) if value is not None else 'null'}", param=_path(where)
        )
    return value


def _image(part: Mapping[str, Any], where: str, fetched: Fetched) -> bytes:
    url = part.get("image_url")
    if isinstance(url, dict):  # as chat completions have it
        url = url.get("url")
    if not isinstance(url, str):
        why = "images by file_id are not supported" if part.get("file_id") else "it has no image_url"
        raise InvalidRequest(f"{where}: {why}; send the image as a data URL in image_url", param=_path(where))
    try:
        return media.image(url, fetched)
    except InvalidRequest as exc:
        raise InvalidRequest(str(exc), param=_path(where)) from exc


def _audio(part: Mapping[str, Any], where: str) -> bytes:
    inner = part.get("input_audio")
    data = inner.get("data") if isinstance(inner, dict) else part.get("data")
    if not isinstance(data, str) or not data:
        raise InvalidRequest(f"{where}: invalid input_audio format: missing data", param=_path(where))
    return media.decoded(data, "input_audio")


def _file(part: Mapping[str, Any], where: str) -> str:
    """The text of a file that was sent along, behind its name. Other files are refused by name."""
    data, name = part.get("file_data"), part.get("filename")
    title = name if isinstance(name, str) and name else "file"
    if not isinstance(data, str):
        raise InvalidRequest("file inputs are not currently supported", param=_path(where))
    try:
        text = base64.b64decode(data.rpartition(",")[2], validate=True).decode()
    except (binascii.Error, ValueError):
        text = "\0"
    if "\0" in text:
        raise InvalidRequest(
            f"{where}: {quoted(title)} is not a text; only text files are supported, as base64 in file_data",
            param=_path(where),
        )
    return f"{title}:\n{text}\n"


def _path(where: str) -> str:
    """A place in a text for people as the name of a field.

    >>> _path("input[0]: content[1]")
    'input[0].content[1]'
    """
    return where.replace(": ", ".")
