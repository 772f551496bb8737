"""Answers of chat completions. Order of keys and the cut into chunks are Ollama's, with what OpenAI has besides.

`ChatEncoder.lines` is the hot path: it writes the bytes of a streamed piece directly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from corral.dialects.gojson import dumps
from corral.dialects.openai.answers import DONE, FINGERPRINT, Answer, encoded, logprobs
from corral.dialects.wire.calls import call_id, compact
from corral.engine.base import Finished, Reading, Text, Thinking, TokenLogprob, ToolCall
from corral.runtime.choices import Said

_ROLE = b'"role":"assistant",'
_TAIL = b'},"finish_reason":null'
_END = b"}]}\n\n"


@dataclass(slots=True)
class _Choice:
    """One of the answers: its place, what its chunks begin with, and what it has said."""

    index: int
    head: bytes
    role: bytes = _ROLE  # on its first chunk
    num_calls: int = 0
    text: list[str] = field(default_factory=list)
    thinking: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)


class ChatEncoder(Answer):
    """Encodes one request's answers. ``functions`` is the old form, in which the one call is ``function_call``."""

    def __init__(self, model: str, *, n: int = 1, include_usage: bool = False, functions: bool = False) -> None:
        super().__init__("chatcmpl", model, n=n, include_usage=include_usage)
        self._functions = functions
        self._head = b"data: " + dumps(self._begin("chat.completion.chunk"))[:-1] + b',"choices":[{"index":'
        self._choices: dict[int, _Choice] = {}

    def lines(self, said: Said, /) -> bytes:
        """The chunks for what arrived together; calls that came together are one chunk."""
        choice = self._choice(said.index)
        written: list[bytes] = []
        calls: list[ToolCall] = []
        for event in said.batch:
            if isinstance(event, ToolCall):
                calls.append(event)
                continue
            if calls:
                written.append(self._called(choice, calls))
                calls = []
            if isinstance(event, Finished):
                written.append(self._finish(choice, event))
                continue
            if isinstance(event, Reading):
                continue
            text = dumps(event.text)
            if isinstance(event, Thinking):
                text = b'"content":"","reasoning":%s,"reasoning_content":%s' % (text, text)
            else:
                text = b'"content":%s' % text
            written += (choice.head, choice.role, text, _TAIL)
            if event.logprobs:
                written.append(b',"logprobs":%s' % dumps({"content": logprobs(event.logprobs)}))
            written.append(_END)
            choice.role = b""
        if calls:
            written.append(self._called(choice, calls))
        if said.last:
            written.append(self._last())
        return b"".join(written)

    def whole(self, pieces: Sequence[Said], /) -> bytes:
        """One object for all answers."""
        for said in pieces:
            choice = self._choice(said.index)
            for event in said.batch:
                if isinstance(event, Finished):
                    self.ends[said.index] = event
                elif isinstance(event, ToolCall):
                    choice.calls.append(event)
                elif not isinstance(event, Reading):
                    (choice.text if isinstance(event, Text) else choice.thinking).append(event.text)
                    choice.logprobs += event.logprobs
        choices = [self._message(self._choices[index]) for index in sorted(self._choices)]
        return dumps({**self._begin("chat.completion"), "choices": choices, "usage": self.usage()})

    def rendered(self, prompt: str) -> bytes:
        """The answer to a request that only wants to see its prompt."""
        message = {"role": "", "content": ""}
        choices = [{"index": 0, "message": message, "finish_reason": None}]
        debug = {"rendered_template": prompt}
        return dumps(
            {**self._begin("chat.completion"), "choices": choices, "usage": self.usage(), "_debug_info": debug}
        )

    def _begin(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": FINGERPRINT,
        }

    def _choice(self, index: int) -> _Choice:
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = _Choice(index, b'%s%d,"delta":{' % (self._head, index))
        return choice

    def _called(self, choice: _Choice, calls: Sequence[ToolCall]) -> bytes:
        """A chunk with whole calls; nobody sends them in pieces here."""
        delta = dumps({"content": "", **self._written(choice, calls)})[1:-1]
        role, choice.role = choice.role, b""
        return b"".join((choice.head, role, delta, _TAIL, _END))

    def _finish(self, choice: _Choice, end: Finished) -> bytes:
        self.ends[choice.index] = end
        opening = b""
        if choice.role:  # an answer without a word
            opening = b"".join((choice.head, choice.role, b'"content":""', _TAIL, _END))
            choice.role = b""
        return opening + choice.head + b'},"finish_reason":"%s"' % self._reason(choice, end).encode() + _END

    def _last(self) -> bytes:
        if not self.include_usage:
            return DONE
        return encoded({**self._begin("chat.completion.chunk"), "choices": [], "usage": self.usage()}) + DONE

    def _message(self, choice: _Choice) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": "".join(choice.text)}
        if thinking := "".join(choice.thinking):
            message["reasoning"] = message["reasoning_content"] = thinking
        message |= self._written(choice, choice.calls)
        reason = self._reason(choice, self.ends.get(choice.index, Finished("stop")))
        written: dict[str, Any] = {"index": choice.index, "message": message, "finish_reason": reason}
        if choice.logprobs:
            written["logprobs"] = {"content": logprobs(choice.logprobs)}
        return written

    def _written(self, choice: _Choice, calls: Sequence[ToolCall]) -> dict[str, Any]:
        """Calls as they are written; they are numbered through the whole answer."""
        written = []
        for call in calls:
            function = {"name": call.name, "arguments": compact(call.arguments)}
            written.append(
                {"id": call_id(call.id), "index": choice.num_calls, "type": "function", "function": function}
            )
            choice.num_calls += 1
        if not written:
            return {}
        return {"function_call": written[0]["function"]} if self._functions else {"tool_calls": written}

    def _reason(self, choice: _Choice, end: Finished) -> str:
        if end.reason == "stop" and choice.num_calls:
            return "function_call" if self._functions else "tool_calls"
        return end.reason
