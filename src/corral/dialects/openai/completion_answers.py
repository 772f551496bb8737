"""Answers of completions. A thought is no text here: it stands beside it, in ``reasoning``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from corral.dialects.gojson import dumps
from corral.dialects.openai.answers import DONE, FINGERPRINT, Answer, logprob
from corral.engine.base import Finished, Text, Thinking, TokenLogprob
from corral.runtime.choices import Said


@dataclass(slots=True)
class _Choice:
    """One of the answers: what it repeats first, and what it has said."""

    index: int
    echo: str = ""
    length: int = 0  # characters that were said so far, for offsets
    text: list[str] = field(default_factory=list)
    thinking: list[str] = field(default_factory=list)
    logprobs: list[tuple[int, TokenLogprob]] = field(default_factory=list)  # with the token's offset

    def say(self, event: Text | Thinking) -> None:
        if isinstance(event, Thinking):
            self.thinking.append(event.text)
            return
        offset = self.length
        if event.text or self.text or not self.thinking:  # else it is a token of the tag behind the thought
            for entry in event.logprobs:
                self.logprobs.append((offset, entry))
                offset += len(entry.token)
        if event.text:
            self.text.append(event.text)
            self.length += len(event.text)


class CompletionEncoder(Answer):
    """Encodes one request's answers. ``echoes`` are the prompts that stand before their ``n`` answers each, if they shall."""

    def __init__(
        self,
        model: str,
        *,
        n: int = 1,
        include_usage: bool = False,
        with_logprobs: bool = False,
        echoes: Sequence[str] = (),
    ) -> None:
        super().__init__("cmpl", model, n=n, include_usage=include_usage)
        self._per_prompt = n
        self._with_logprobs = with_logprobs
        self._echoes = echoes
        self._choices: dict[int, _Choice] = {}
        self._head = (
            b"data: "
            + dumps({"id": self.id, "object": "text_completion", "created": self.created})[:-1]
            + b',"choices":['
        )
        self._tail = b"]," + dumps({"model": model, "system_fingerprint": FINGERPRINT})[1:] + b"\n\n"

    def lines(self, said: Said, /) -> bytes:
        """A chunk for each piece."""
        choice = self._choice(said.index)
        written: list[bytes] = []
        if choice.echo:
            written.append(self._chunk(choice, choice.echo))
            choice.echo = ""
        for event in said.batch:
            if isinstance(event, Finished):
                self.ends[choice.index] = event
                written.append(self._chunk(choice, "", reason=event.reason))
            elif isinstance(event, Text | Thinking):
                if self._with_logprobs:
                    choice.say(event)
                thought = isinstance(event, Thinking)
                written.append(self._chunk(choice, "" if thought else event.text, event.text if thought else ""))
        if said.last:
            if self.include_usage:
                written.append(self._head + self._tail[:-3] + b',"usage":%s}\n\n' % dumps(self.usage()))
            written.append(DONE)
        return b"".join(written)

    def whole(self, pieces: Sequence[Said], /) -> bytes:
        """One object for all answers."""
        for said in pieces:
            choice = self._choice(said.index)
            for event in said.batch:
                if isinstance(event, Finished):
                    self.ends[choice.index] = event
                elif isinstance(event, Text | Thinking):
                    choice.say(event)
        return self._object([self._written(self._choices[index]) for index in sorted(self._choices)])

    def loaded(self) -> bytes:
        """The answer where there was nothing to continue, and the model was loaded."""
        self.ends[0] = Finished("stop")
        return self._object([{"text": "", "index": 0, "finish_reason": "stop"}])

    def loaded_line(self) -> bytes:
        """The same as a whole stream."""
        return self.lines(Said(0, (Finished("stop"),), last=True))

    def _choice(self, index: int) -> _Choice:
        choice = self._choices.get(index)
        if choice is None:
            echo = self._echoes[index // self._per_prompt] if self._echoes else ""
            choice = self._choices[index] = _Choice(index, echo, length=len(echo))
        return choice

    def _chunk(self, choice: _Choice, text: str, reasoning: str = "", reason: str | None = None) -> bytes:
        written = [self._head, b'{"text":', dumps(text), b',"index":%d,"finish_reason":' % choice.index]
        written.append(b"null" if reason is None else b'"%s"' % reason.encode())
        if choice.logprobs:
            written += (b',"logprobs":', dumps(_logprobs(choice.logprobs)))
            choice.logprobs.clear()
        if reasoning:
            written += (b',"reasoning":', dumps(reasoning))
        return b"".join((*written, b"}", self._tail))

    def _written(self, choice: _Choice) -> dict[str, Any]:
        reason = self.ends[choice.index].reason if choice.index in self.ends else "stop"
        text = choice.echo + "".join(choice.text)
        written: dict[str, Any] = {"text": text, "index": choice.index, "finish_reason": reason}
        if self._with_logprobs:
            written["logprobs"] = _logprobs(choice.logprobs)
        if thinking := "".join(choice.thinking):
            written["reasoning"] = thinking
        return written

    def _object(self, choices: Sequence[dict[str, Any]]) -> bytes:
        return dumps(
            {
                "id": self.id,
                "object": "text_completion",
                "created": self.created,
                "model": self.model,
                "system_fingerprint": FINGERPRINT,
                "choices": choices,
                "usage": self.usage(),
            }
        )


def _logprobs(entries: Iterable[tuple[int, TokenLogprob]]) -> dict[str, Any]:
    """The old shape: four lists of one length."""
    found = list(entries)
    return {
        "tokens": [entry.token for _, entry in found],
        "token_logprobs": [logprob(entry) for _, entry in found],
        "top_logprobs": [{rival.token: logprob(rival) for rival in entry.top} for _, entry in found],
        "text_offset": [offset for offset, _ in found],
    }
