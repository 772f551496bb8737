"""A generation as a response: events of a stream in the order that OpenAI's clients build on, or one object.

Both come from one machine, so that a stream ends with the very items that an answer in one piece has. `events` is the hot path: it
writes the bytes of a piece directly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from corral.dialects.gojson import dumps
from corral.dialects.refusals import Refusal
from corral.dialects.responses.items import Item, new_id
from corral.dialects.responses.objects import Response, broken, ended
from corral.dialects.wire.calls import call_id, compact
from corral.engine.base import Batch, Finished, Text, Thinking, TokenLogprob, ToolCall

Kept = Callable[[Response], None]


class Encoder:
    """Encodes one generation. ``keep`` gets the response when it has ended, before anyone is told so."""

    stream_type = "text/event-stream"

    def __init__(self, response: Response, keep: Kept | None = None, *, silent: bool = False) -> None:
        self.response = response
        self._keep = keep
        self._silent = silent  # nothing was asked, so nothing is answered
        self._sequence = 0
        self._output: list[Item] = []
        self._open: Item | None = None
        self._pieces: list[str] = []
        self._logprobs: list[dict[str, Any]] = []
        self._waiting: list[TokenLogprob] = []  # of tokens before the first text
        self._delta = b""  # what stands before the text of each piece of the open item
        self._begun = False

    def lines(self, batch: Batch) -> bytes:
        """What a stream says of what arrived together."""
        return b"".join(self.events(batch))

    def events(self, batch: Batch) -> list[bytes]:
        """The same, event by event."""
        written = [] if self._begun else self.beginning()
        for event in batch:
            match event:
                case Text() | Thinking():
                    self._piece(event, written)
                case ToolCall():
                    self._close(written)
                    self._call(event, written)
                case Finished():
                    self._end(event, written)
        return written

    def beginning(self, status: str = "in_progress") -> list[bytes]:
        """The events before the first piece. One that waits for its turn is ``queued`` at first."""
        self._begun = True
        written: list[bytes] = []
        waiting = {**self.response, "status": status}
        self._write(written, "response.created", {"response": waiting})
        self.response = waiting
        self._write(written, f"response.{status}", {"response": waiting})
        return written

    def begun(self) -> list[bytes]:
        """The event that says that work on a queued response has begun."""
        written: list[bytes] = []
        self.response = {**self.response, "status": "in_progress"}
        self._write(written, "response.in_progress", {"response": self.response})
        return written

    def whole(self, batches: Sequence[Batch]) -> bytes:
        """One object for the whole generation."""
        for batch in batches:
            self.events(batch)
        return dumps(self.response)

    def failed(self, refusal: Refusal) -> bytes:
        """The end of a stream that cannot go on: the response as far as it came, and why."""
        return b"".join(self.failure(refusal))

    def failure(self, refusal: Refusal) -> list[bytes]:
        """The same, event by event."""
        written = [] if self._begun else self.beginning()
        code = "invalid_prompt" if refusal.status == 400 else "rate_limit_exceeded" if refusal.status == 429 else ""
        self._stop(broken(self.response, self._so_far(), "failed", str(refusal), code))
        self._write(written, "response.failed", {"response": self.response})
        return written

    def cancelled(self) -> None:
        """The response was given up by its client."""
        self._stop(broken(self.response, self._so_far(), "cancelled"))

    def _piece(self, event: Text | Thinking, written: list[bytes]) -> None:
        kind = "message" if isinstance(event, Text) else "reasoning"
        if self._open is None or self._open["type"] != kind:
            if not event.text:
                if kind == "message" and not self._output and self._open is None:
                    self._waiting += event.logprobs  # of a text that may be a stop string, or the mark of a call
                return  # behind a thought it is the token of its tag, behind a call what ends it
            self._close(written)
            self._begin(kind, written)
        self._pieces.append(event.text)
        after = b',"sequence_number":%d}\n\n' % self._sequence
        self._sequence += 1
        if kind == "reasoning":
            written.append(self._delta + dumps(event.text) + after)
            return
        logprobs = [_logprob(entry) for entry in (*self._waiting, *event.logprobs)]
        self._waiting.clear()
        self._logprobs += logprobs
        middle = b',"logprobs":' + (dumps(logprobs) if logprobs else b"[]")
        written.append(self._delta + dumps(event.text) + middle + after)

    def _begin(self, kind: str, written: list[bytes]) -> None:
        """Open an item, and write its first events."""
        self._pieces, self._logprobs = [], []
        if kind == "reasoning":
            self._open = {"id": new_id("rs"), "type": "reasoning", "summary": []}
            part_event, part, name = "response.reasoning_summary_part", _summary(""), "response.reasoning_summary_text"
            index = "summary_index"
        else:
            item: Item = {"id": new_id("msg"), "type": "message", "status": "in_progress"}
            self._open = {**item, "role": "assistant", "content": []}
            part_event, part, name = "response.content_part", _text_part("", []), "response.output_text"
            index = "content_index"
        place = {"item_id": self._open["id"], "output_index": len(self._output), index: 0}
        self._write(written, "response.output_item.added", {"output_index": len(self._output), "item": self._open})
        self._write(written, f"{part_event}.added", {**place, "part": part})
        head = dumps({"type": f"{name}.delta", **place})
        self._delta = b"event: %s.delta\ndata: %s" % (name.encode(), head[:-1]) + b',"delta":'

    def _close(self, written: list[bytes], status: str = "completed") -> None:
        """End the open item, if there is one."""
        if self._open is None:
            return
        text, item = "".join(self._pieces), self._closed(status)
        place = {"item_id": item["id"], "output_index": len(self._output)}
        if item["type"] == "reasoning":
            place |= {"summary_index": 0}
            self._write(written, "response.reasoning_summary_text.done", {**place, "text": text})
            self._write(written, "response.reasoning_summary_part.done", {**place, "part": _summary(text)})
        else:
            place |= {"content_index": 0}
            self._write(written, "response.output_text.done", {**place, "text": text, "logprobs": self._logprobs})
            self._write(written, "response.content_part.done", {**place, "part": item["content"][0]})
        self._write(written, "response.output_item.done", {"output_index": len(self._output), "item": item})
        self._output.append(item)
        self._open = None

    def _closed(self, status: str) -> Item:
        """The open item as it stands when nothing more comes."""
        assert self._open is not None
        text = "".join(self._pieces)
        if self._open["type"] == "reasoning":
            return {**self._open, "summary": [_summary(text)], "encrypted_content": text}
        return {**self._open, "status": status, "content": [_text_part(text, self._logprobs)]}

    def _call(self, call: ToolCall, written: list[bytes]) -> None:
        item: Item = {"id": new_id("fc"), "type": "function_call", "status": "completed"}
        arguments = compact(call.arguments)
        item |= {"call_id": call_id(call.id), "name": call.name, "arguments": arguments}
        self._waiting.clear()
        index = len(self._output)
        place = {"item_id": item["id"], "output_index": index}
        opening = {**item, "status": "in_progress", "arguments": ""}
        self._write(written, "response.output_item.added", {"output_index": index, "item": opening})
        self._write(written, "response.function_call_arguments.delta", {**place, "delta": arguments})
        done = {**place, "name": call.name, "arguments": arguments}
        self._write(written, "response.function_call_arguments.done", done)
        self._write(written, "response.output_item.done", {"output_index": index, "item": item})
        self._output.append(item)

    def _end(self, end: Finished, written: list[bytes]) -> None:
        status = "incomplete" if end.reason == "length" else "completed"
        if self._open is not None and self._open["type"] == "reasoning":
            self._close(written)
        if self._open is None and not self._silent and all(item["type"] == "reasoning" for item in self._output):
            self._begin("message", written)  # an answer has a message, also where the model came to none
        self._close(written, status)
        self._stop(ended(self.response, self._output, end))
        self._write(written, f"response.{status}", {"response": self.response})

    def _so_far(self) -> list[Item]:
        return [*self._output, self._closed("incomplete")] if self._open is not None else self._output

    def _stop(self, response: Response) -> None:
        self.response = response
        if self._keep is not None:
            self._keep(response)

    def _write(self, written: list[bytes], kind: str, fields: dict[str, Any]) -> None:
        data = dumps({"type": kind, **fields, "sequence_number": self._sequence})
        written.append(b"event: %s\ndata: %s\n\n" % (kind.encode(), data))
        self._sequence += 1


def _summary(text: str) -> dict[str, Any]:
    return {"type": "summary_text", "text": text}


def _text_part(text: str, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


def _logprob(entry: TokenLogprob) -> dict[str, Any]:
    return {**_token(entry), "top_logprobs": _tokens(entry.top)}


def _tokens(entries: Iterable[TokenLogprob]) -> list[dict[str, Any]]:
    return [_token(entry) for entry in entries]


def _token(entry: TokenLogprob) -> dict[str, Any]:
    return {"token": entry.token, "bytes": list(entry.bytes), "logprob": entry.logprob}
