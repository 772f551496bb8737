"""Answers of Anthropic's Messages API, from events to server-sent events or to one message.

An encoder serves one request. `lines` is the hot path: it writes the bytes of a streamed piece directly.
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Sequence
from typing import Any, Literal

import orjson

from corral.dialects.anthropic.errors import error_body
from corral.dialects.anthropic.thoughts import carrier, signature
from corral.dialects.refusals import Refusal
from corral.engine.base import Batch, Finished, Reading, Text, Thinking, ToolCall

_ALPHABET = string.ascii_letters + string.digits
_PING = b'event: ping\ndata: {"type":"ping"}\n\n'
_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


class Encoder:
    """Encodes one answer. ``stops`` are the request's own: those of the model are none that a client hears of."""

    stream_type = "text/event-stream"

    def __init__(
        self, model: str, request_id: str, *, max_tokens: int, stops: Sequence[str] = (), show_thoughts: bool = True
    ) -> None:
        self._model = model
        self._request_id = request_id
        self._max_tokens = max_tokens
        self._stops = frozenset(stops)
        self._show_thoughts = show_thoughts
        self._id = "msg_" + secrets.token_hex(12)
        self._started = self._called = False
        self._index = -1  # of the last block
        self._open: Literal["", "text", "thinking"] = ""
        self._delta = b""  # how a piece of the open block begins
        self._thought: list[str] = []

    def lines(self, batch: Batch) -> bytes:
        """The events for what arrived together."""
        written: list[bytes] = []
        for event in batch:
            if isinstance(event, Text | Thinking):
                if not event.text:
                    continue
                kind: Literal["text", "thinking"] = "text" if isinstance(event, Text) else "thinking"
                if self._open != kind:
                    written.append(self._begin(kind))
                if kind == "thinking":
                    self._thought.append(event.text)
                    if not self._show_thoughts:
                        continue
                written += (self._delta, orjson.dumps(event.text), b"}}\n\n")
            elif isinstance(event, Reading):
                if not self._started:
                    written.append(self._start(event.prompt_tokens, event.cached_tokens))
                elif event.read_tokens < event.prompt_tokens:
                    written.append(_PING)
            elif isinstance(event, ToolCall):
                written.append(self._call(event))
            else:
                written.append(self._end(event))
        return b"".join(written)

    def whole(self, batches: Sequence[Batch]) -> bytes:
        """The message, whose blocks stand in the order in which they came."""
        content: list[dict[str, Any]] = []
        end = Finished("stop")
        for event in (event for batch in batches for event in batch):
            if isinstance(event, Text | Thinking):
                kind = "text" if isinstance(event, Text) else "thinking"
                if not event.text:
                    continue
                if not content or content[-1]["type"] != kind:
                    content.append({"type": kind, kind: []})
                content[-1][kind].append(event.text)
            elif isinstance(event, ToolCall):
                self._called = True
                given = orjson.Fragment(event.arguments)
                content.append({"type": "tool_use", "id": _call_id(), "name": event.name, "input": given})
            elif isinstance(event, Finished):
                end = event
        for block in content:
            if block["type"] in ("text", "thinking"):
                block[block["type"]] = "".join(block[block["type"]])
            if block["type"] == "thinking":
                block |= self._signed(block["thinking"])
        message = self._message(content, *self._reason(end), _final_usage(end))
        return orjson.dumps(message)

    def failed(self, refusal: Refusal) -> bytes:
        """An error as the end of a stream."""
        return b"event: error\ndata: " + error_body(refusal, self._request_id) + b"\n\n"

    def _message(
        self, content: list[dict[str, Any]], reason: str | None, stop: str | None, usage: dict[str, Any]
    ) -> dict[str, Any]:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": content,
            "stop_reason": reason,
            "stop_sequence": stop,
            "usage": usage,
        }

    def _start(self, prompt_tokens: int, cached_tokens: int) -> bytes:
        self._started = True
        message = self._message([], None, None, _usage(prompt_tokens, cached_tokens))
        return _event({"type": "message_start", "message": message}) + _PING

    def _begin(self, kind: Literal["text", "thinking"]) -> bytes:
        """Close the open block, and open one."""
        start = b"" if self._started else self._start(0, 0)
        closed = self._close()
        self._index, self._open = self._index + 1, kind
        name = b'"text_delta","text":' if kind == "text" else b'"thinking_delta","thinking":'
        head = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":'
        self._delta = head % self._index + name
        block = {"type": kind, kind: ""} | ({"signature": ""} if kind == "thinking" else {})
        return start + closed + self._block(block)

    def _block(self, block: dict[str, Any]) -> bytes:
        return _event({"type": "content_block_start", "index": self._index, "content_block": block})

    def _close(self) -> bytes:
        if not self._open:
            return b""
        signed = b""
        if self._open == "thinking":
            delta = {"type": "signature_delta", "signature": self._signed("".join(self._thought))["signature"]}
            signed = _event({"type": "content_block_delta", "index": self._index, "delta": delta})
            self._thought = []
        self._open = ""
        return signed + _event({"type": "content_block_stop", "index": self._index})

    def _signed(self, thought: str) -> dict[str, str]:
        """What a thinking block says of ``thought``: all of it, or nothing that can be read."""
        if self._show_thoughts:
            return {"thinking": thought, "signature": signature(thought)}
        return {"thinking": "", "signature": carrier(thought)}

    def _call(self, call: ToolCall) -> bytes:
        self._called = True
        start = (b"" if self._started else self._start(0, 0)) + self._close()
        self._index += 1
        begin = self._block({"type": "tool_use", "id": _call_id(), "name": call.name, "input": {}})
        delta = {"type": "input_json_delta", "partial_json": call.arguments}
        piece = _event({"type": "content_block_delta", "index": self._index, "delta": delta})
        return start + begin + piece + _event({"type": "content_block_stop", "index": self._index})

    def _end(self, end: Finished) -> bytes:
        start = b"" if self._started else self._start(end.prompt_tokens, end.cached_tokens)
        closed = self._close()
        reason, stop = self._reason(end)
        usage = _final_usage(end)
        delta = {"stop_reason": reason, "stop_sequence": stop}
        return start + closed + _event({"type": "message_delta", "delta": delta, "usage": usage}) + _STOP

    def _reason(self, end: Finished) -> tuple[str, str | None]:
        """Why the answer ended, and the stop sequence that ended it."""
        if end.stop_string in self._stops:
            return "stop_sequence", end.stop_string
        if end.reason == "length":
            full = end.generated_tokens < self._max_tokens
            return ("model_context_window_exceeded" if full else "max_tokens"), None
        return ("tool_use" if self._called else "end_turn"), None


def _event(data: dict[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (data["type"].encode(), orjson.dumps(data))


def _usage(prompt_tokens: int, cached_tokens: int) -> dict[str, int]:
    """Tokens in Anthropic's meaning: those read from the cache are not among the input tokens. Keeping them costs nothing here."""
    return {
        "input_tokens": prompt_tokens - cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached_tokens,
        "output_tokens": 0,
    }


def _final_usage(end: Finished) -> dict[str, Any]:
    """The counts of the whole answer, and how much of it was thought."""
    details = {"output_tokens": end.generated_tokens, "output_tokens_details": {"thinking_tokens": end.thinking_tokens}}
    return _usage(end.prompt_tokens, end.cached_tokens) | details


def _call_id() -> str:
    return "toolu_" + "".join(secrets.choice(_ALPHABET) for _ in range(24))
