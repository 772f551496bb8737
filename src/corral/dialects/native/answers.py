"""Answers of the native API, from events to JSON lines: field names, order and omissions are Ollama's (``api/types.go``).

An encoder serves one request. `lines` is the hot path: it writes the bytes of a streamed piece directly.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import orjson

from corral.dialects.gojson import dumps
from corral.dialects.refusals import Refusal
from corral.engine.base import Batch, Finished, Reading, Text, TokenLogprob, ToolCall


class Encoder:
    """Encodes one generation. ``chat`` chooses between the shapes of ``/api/chat`` and ``/api/generate``."""

    stream_type = "application/x-ndjson"

    def __init__(self, model: str, *, chat: bool) -> None:
        self._model = model
        self._chat = chat
        self._started_ns = time.monotonic_ns()
        self._num_calls = 0
        self._head = b'{"model":' + dumps(model) + b',"created_at":"'
        if chat:
            self._text = (b'","message":{"role":"assistant","content":', b'},"done":false')
            self._thinking = (b'","message":{"role":"assistant","content":"","thinking":', b'},"done":false')
        else:
            self._text = (b'","response":', b',"done":false')
            self._thinking = (b'","response":"","thinking":', b',"done":false')

    def lines(self, batch: Batch) -> bytes:
        """The lines for what arrived together. Tool calls stand on the line of the end that comes with them, or on their own."""
        written: list[bytes] = []
        calls: list[ToolCall] = []
        for event in batch:
            if isinstance(event, Finished):
                written.append(dumps(self._end(event, calls=calls)))
                written.append(b"\n")
            elif isinstance(event, ToolCall):
                calls.append(event)
            elif not isinstance(event, Reading):
                before, after = self._text if isinstance(event, Text) else self._thinking
                written += (self._head, timestamp(), before, dumps(event.text), after)
                if event.logprobs:
                    written += (b',"logprobs":', orjson.dumps(_logprobs(event.logprobs)))
                written.append(b"}\n")
        if calls and not isinstance(batch[-1], Finished):
            written.append(dumps({**self._begin(), **self._body("", "", calls), "done": False}) + b"\n")
        return b"".join(written)

    def whole(self, batches: Iterable[Batch]) -> bytes:
        """One object for the whole generation."""
        text: list[str] = []
        thinking: list[str] = []
        calls: list[ToolCall] = []
        logprobs: list[TokenLogprob] = []
        end = Finished("stop")
        for batch in batches:
            for event in batch:
                if isinstance(event, Finished):
                    end = event
                elif isinstance(event, ToolCall):
                    calls.append(event)
                elif not isinstance(event, Reading):
                    (text if isinstance(event, Text) else thinking).append(event.text)
                    logprobs += event.logprobs
        return dumps(self._end(end, text="".join(text), thinking="".join(thinking), calls=calls, logprobs=logprobs))

    def failed(self, refusal: Refusal) -> bytes:
        """An error as the last line of a stream."""
        return error_line(str(refusal))

    def without_generation(self, reason: str) -> bytes:
        """The answer to a request that only loads or unloads a model."""
        return dumps({**self._begin(), **self._body("", "", ()), "done": True, "done_reason": reason})

    def rendered(self, prompt: str, num_images: int) -> bytes:
        """The answer to a request that only wants to see its prompt."""
        body = {"message": {"role": "", "content": ""}} if self._chat else {"response": ""}
        debug: dict[str, Any] = {"rendered_template": prompt}
        if num_images:
            debug["image_count"] = num_images
        return dumps({**self._begin(), **body, "done": False, "_debug_info": debug})

    def _begin(self) -> dict[str, Any]:
        return {"model": self._model, "created_at": timestamp().decode()}

    def _body(self, text: str, thinking: str, calls: Iterable[ToolCall]) -> dict[str, Any]:
        if not self._chat:
            return {"response": text} | ({"thinking": thinking} if thinking else {})
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if thinking:
            message["thinking"] = thinking
        if written := self._calls(calls):
            message["tool_calls"] = written
        return {"message": message}

    def _end(
        self,
        end: Finished,
        *,
        text: str = "",
        thinking: str = "",
        calls: Iterable[ToolCall] = (),
        logprobs: Iterable[TokenLogprob] = (),
    ) -> dict[str, Any]:
        answer = {
            **self._begin(),
            **self._body(text, thinking, calls),
            "done": True,
            "done_reason": end.reason,
        }
        written = _logprobs(logprobs)
        if self._chat and written:
            answer["logprobs"] = written
        rest = {
            "context": list(end.context),
            "total_duration": time.monotonic_ns() - self._started_ns,
            "load_duration": end.load_ns,
            "prompt_eval_count": end.prompt_tokens,
            "prompt_eval_duration": end.prompt_ns,
            "eval_count": end.generated_tokens,
            "eval_duration": end.generated_ns,
            "tool_calls": [] if self._chat else self._calls(calls),
            "logprobs": [] if self._chat else written,
            "dropped_messages": end.dropped_messages,  # not in Ollama, which does not say so
        }
        return answer | {name: value for name, value in rest.items() if value}

    def _calls(self, calls: Iterable[ToolCall]) -> list[dict[str, Any]]:
        """Calls as they are written; they are numbered through the whole answer."""
        written = []
        for call in calls:
            function = {"index": self._num_calls, "name": call.name, "arguments": orjson.loads(call.arguments)}
            written.append({**({"id": call.id} if call.id else {}), "function": function})
            self._num_calls += 1
        return written


def error_line(message: str) -> bytes:
    """An error as the last line of a stream."""
    return dumps({"error": message}) + b"\n"


def error_body(message: str) -> bytes:
    """An error as the body of an answer."""
    return dumps({"error": message})


def _logprobs(logprobs: Iterable[TokenLogprob]) -> list[dict[str, Any]]:
    return [_logprob(entry) for entry in logprobs]


def _logprob(entry: TokenLogprob) -> dict[str, Any]:
    written: dict[str, Any] = {"token": entry.token, "logprob": entry.logprob}
    if entry.bytes:
        written["bytes"] = list(entry.bytes)
    if entry.top:
        written["top_logprobs"] = [_logprob(rival) for rival in entry.top]
    return written


_second = (0, "")


def timestamp() -> bytes:
    """Now, UTC, RFC 3339 with the fraction that Go prints: up to nine digits, no zeros at the end."""
    global _second
    seconds, fraction = divmod(time.time_ns(), 1_000_000_000)
    if _second[0] != seconds:
        _second = (seconds, datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S"))
    digits = f"{fraction:09d}".rstrip("0")
    return f"{_second[1]}.{digits}Z".encode() if digits else f"{_second[1]}Z".encode()


def local_time(moment: datetime, fraction_ns: int | None = None) -> str:
    """``moment`` in the server's own zone, RFC 3339 as Go prints it. ``fraction_ns`` gives more digits than a datetime has."""
    nanoseconds = moment.microsecond * 1000 if fraction_ns is None else fraction_ns
    digits = f"{nanoseconds:09d}".rstrip("0")
    zone = moment.strftime("%z")
    offset = "Z" if zone in ("", "+0000") else f"{zone[:3]}:{zone[3:]}"
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + (f".{digits}" if digits else "") + offset
