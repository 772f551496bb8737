"""The blocks of Anthropic's messages as turns of a conversation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from corral.dialects import media
from corral.dialects.anthropic.thoughts import restored
from corral.dialects.gojson import kind
from corral.dialects.media import Fetched
from corral.durations import quoted
from corral.engine.base import Message, ToolCall
from corral.errors import InvalidRequest

ROLES = ("user", "assistant", "system")
# Claude Code begins its system prompt with a line that differs from request to request. No model has use for it, and a prompt
# that begins otherwise each time would be read anew each time.
_ATTRIBUTION = "x-anthropic-billing-header:"

Block = Mapping[str, Any]


def system_text(value: object) -> str:
    """The ``system`` of a request as one text: blocks stand one behind the other, as in Ollama. Raises `InvalidRequest`."""
    if value is None or isinstance(value, str):
        return _without_attribution(value or "")
    if not isinstance(value, list):
        raise InvalidRequest(f"system: expected a string or a list of text blocks, got {kind(value)}")
    texts = []
    for number, block in enumerate(value):
        where = f"system.{number}"
        if not isinstance(block, dict):
            raise InvalidRequest(f"{where}: expected a text block, got {kind(block)}")
        if block.get("type") != "text":
            raise InvalidRequest(
                f"{where}.type: {quoted(str(block.get('type')))} cannot stand in a system prompt; use text"
            )
        texts.append(_without_attribution(_string(block, "text", where)))
    return "".join(texts)


def _without_attribution(text: str) -> str:
    return text.partition("\n")[2].lstrip("\n") if text.startswith(_ATTRIBUTION) else text


def conversation(messages: Sequence[object], system: str, fetched: Fetched) -> tuple[Message, ...]:
    """The turns that the model sees, ``system`` first. ``fetched`` are the images behind links. Raises `InvalidRequest`."""
    turns: list[Message] = [Message("system", system)] if system else []
    tools: dict[str, str] = {}
    for number, message in enumerate(messages):
        where = f"messages.{number}"
        if not isinstance(message, dict):
            raise InvalidRequest(f"{where}: expected an object with role and content, got {kind(message)}")
        role = message.get("role")
        if role not in ROLES:
            raise InvalidRequest(f"{where}.role: {quoted(str(role))} is none of {', '.join(ROLES)}")
        is_last = number == len(messages) - 1
        for turn in _turns(role, _blocks(message, where, may_be_empty=is_last and role == "assistant"), fetched, tools):
            if turn.role == "system" and len(turns) == 1 and turns[0].role == "system":
                turns[0] = Message("system", f"{turns[0].content}\n\n{turn.content}")  # templates know one at the top
            else:
                turns.append(turn)
    return tuple(turns)


def _blocks(message: Block, where: str, *, may_be_empty: bool) -> list[tuple[str, Block]]:
    """The blocks of a message, each with its place."""
    content = message.get("content")
    if isinstance(content, str):
        return [(f"{where}.content", {"type": "text", "text": content})]
    if content is None or content == []:
        if may_be_empty:
            return []
        raise InvalidRequest(f"{where}.content is required: a text, or a list of blocks that is not empty")
    into = "into Go struct field MessagesRequest.messages of type"
    if not isinstance(content, list):
        raise InvalidRequest(f"json: cannot unmarshal {kind(content)} {into} []anthropic.ContentBlock")
    for block in content:
        if not isinstance(block, dict):
            raise InvalidRequest(f"json: cannot unmarshal {kind(block)} {into} anthropic.ContentBlock")
    return [(f"{where}.content.{number}", block) for number, block in enumerate(content)]


@dataclass
class _Turn:
    """One message under construction; the results of tools in it are turns of their own."""

    role: str
    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    images: list[bytes] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    results: list[Message] = field(default_factory=list)

    def done(self) -> list[Message]:
        """The turns so far, and begin again. What a user says stands behind the results that come with it."""
        said = []
        if self.texts or self.images or self.calls or self.thoughts:
            message = Message(
                self.role,
                "".join(self.texts),
                thinking="\n".join(self.thoughts),
                images=tuple(self.images),
                tool_calls=tuple(self.calls),
            )
            said = [message]
        turns = [*self.results, *said] if self.role == "user" else [*said, *self.results]
        self.texts, self.thoughts, self.images, self.calls, self.results = [], [], [], [], []
        return turns


def _turns(role: str, blocks: Sequence[tuple[str, Block]], fetched: Fetched, tools: dict[str, str]) -> list[Message]:
    """The turns of one message. ``tools`` are the names of the tools called so far, by the id of the call."""
    turns: list[Message] = []
    turn = _Turn(role)
    for where, block in blocks:
        type_ = block.get("type")
        if turn.results and role != "user" and not str(type_).endswith("_result"):
            turns += turn.done()  # what the model said knowing the results
        match type_:
            case "thinking":
                thought = _string(block, "thinking", where) or restored(str(block.get("signature") or ""))
                turn.thoughts += [thought] if thought else []
            case "redacted_thinking":
                pass  # only its maker can read it
            case "tool_use" | "server_tool_use":
                call = _call(block, where)
                tools[call.id] = call.name
                turn.calls.append(call)
            case "tool_result":
                turn.results.append(_result(block, where, fetched, tools))
            case "web_search_tool_result":
                turn.results.append(_search_result(block, tools))
            case "compaction":
                turn.texts.append(str(block.get("content") or ""))
            case _ if role == "assistant" and type_ not in ("text", "image", "document", "search_result"):
                pass  # another provider's own, in the history of a conversation begun there
            case _:
                text, images = _shown(block, where, fetched)
                turn.texts += [text] if text else []
                turn.images += images
    return turns + turn.done()


def _shown(block: Block, where: str, fetched: Fetched) -> tuple[str, list[bytes]]:
    """A block that the model is to see, as text and images."""
    match block.get("type"):
        case "text":
            return _string(block, "text", where), []
        case "image":
            return "", [_image(block.get("source"), where, fetched)]
        case "document":
            return _document(block, where, fetched)
        case "search_result":
            title, source = _string(block, "title", where), _string(block, "source", where)
            text, _ = _several(block.get("content"), f"{where}.content", fetched, only=("text",))
            return f"<search_result>\n<title>{title}</title>\n<source>{source}</source>\n{text}\n</search_result>\n", []
        case "tool_reference":
            return f"The tool {_string(block, 'tool_name', where)} can be used.\n", []
        case other:
            raise InvalidRequest(
                f"{where}.type: blocks of the type {quoted(str(other))} are not supported; supported are text, image, "
                "document, search_result, tool_use, tool_result and thinking"
            )


def _several(
    content: object, where: str, fetched: Fetched, only: Sequence[str] | None = None
) -> tuple[str, list[bytes]]:
    """A text, or a list of blocks, as text and images. ``only`` are the types that may stand here; else all that can be shown."""
    if content is None or isinstance(content, str):
        return content or "", []
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        raise InvalidRequest(f"{where}: expected a string or a list of blocks, got {kind(content)}")
    wrong = next((block.get("type") for block in content if only and block.get("type") not in only), None)
    if only and wrong is not None:
        raise InvalidRequest(
            f"{where}: a block of the type {quoted(str(wrong))} cannot stand here; use {' or '.join(only)}"
        )
    shown = [_shown(block, f"{where}.{number}", fetched) for number, block in enumerate(content)]
    return "".join(text for text, _ in shown), [image for _, images in shown for image in images]


def _image(source: object, where: str, fetched: Fetched) -> bytes:
    if not isinstance(source, dict):
        raise InvalidRequest("invalid image source")
    match source.get("type"):
        case "base64":
            return media.decoded(_string(source, "data", f"{where}.source"), "image")
        case "url":
            return media.image(_string(source, "url", f"{where}.source"), fetched)
        case other:
            raise InvalidRequest(
                f"invalid image source type: {other}. Only base64 images and links are supported ({where}.source.type)"
            )


def _document(block: Block, where: str, fetched: Fetched) -> tuple[str, list[bytes]]:
    source = block.get("source")
    if not isinstance(source, dict):
        raise InvalidRequest(f"{where}.source is required: where the document is")
    media_type = source.get("media_type")
    images: list[bytes] = []
    match source.get("type"):
        case "text":
            text = _string(source, "data", f"{where}.source")
        case "base64" if media_type == "text/plain":
            text = media.decoded(_string(source, "data", f"{where}.source"), "document").decode(errors="replace")
        case "content":
            text, images = _several(source.get("content"), f"{where}.source.content", fetched, only=("text", "image"))
        case other:
            what = (
                "PDF documents"
                if media_type == "application/pdf" or other == "url"
                else f"documents of the type {other}"
            )
            raise InvalidRequest(f"{where}.source: {what} are not supported; send the text of the document instead")
    facts = "".join(
        f"<{name}>{_string(block, name, where)}</{name}>\n" for name in ("title", "context") if block.get(name)
    )
    return f"<document>\n{facts}{text}\n</document>\n", images


def _call(block: Block, where: str) -> ToolCall:
    for name in ("id", "name"):
        if not block.get(name):
            raise InvalidRequest(f"tool_use block missing required '{name}' field")
    given = block.get("input")
    if given is not None and not isinstance(given, dict):
        raise InvalidRequest(f"{where}.input: expected an object, got {kind(given)}")
    return ToolCall(_string(block, "name", where), orjson.dumps(given or {}).decode(), _string(block, "id", where))


def _result(block: Block, where: str, fetched: Fetched, tools: Mapping[str, str]) -> Message:
    id_ = _string(block, "tool_use_id", where)
    text, images = _several(block.get("content"), f"{where}.content", fetched)
    if block.get("is_error") and not text.lower().startswith("error"):
        text = f"Error: {text}"
    return Message("tool", text, images=tuple(images), tool_name=tools.get(id_, ""), tool_call_id=id_)


def _search_result(block: Block, tools: Mapping[str, str]) -> Message:
    """What a search found on another provider's server, as lines of titles and links."""
    id_, content = str(block.get("tool_use_id") or ""), block.get("content")
    if isinstance(content, dict):
        text = f"web_search_tool_result_error: {content.get('error_code', '')}"
    else:
        found = [entry for entry in content or () if isinstance(entry, dict)]
        text = "\n".join(f"- {entry.get('title', '')}: {entry.get('url', '')}" for entry in found)
    return Message("tool", text, tool_name=tools.get(id_, ""), tool_call_id=id_)


def _string(block: Block, name: str, where: str) -> str:
    value = block.get(name)
    if not isinstance(value, str):
        got = "nothing" if value is None else kind(value)
        raise InvalidRequest(f"{where}.{name}: expected a string, got {got}")
    return value
