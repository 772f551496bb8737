"""What is known of an answer under way, so that it can be ended in the middle and go on later as if nothing had been."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from corral.engine.answers import CompletionAnswer
from corral.engine.base import CompletionCall, Engine, Finished
from corral.engine.hold import Resumed


@dataclass(frozen=True, slots=True)
class _Gap:
    """Tokens that the engine did not name: the first bytes of a character, whose last token it did. ``text`` is all of them."""

    at: int
    num: int
    text: str


@dataclass(slots=True)
class AnswerSoFar:
    """A completion in parts, each of which is one request to the engine. Its counts are those of one answer."""

    call: CompletionCall
    answer: CompletionAnswer
    said: list[int] = field(default_factory=list, repr=False)
    _prompt: list[int] | None = field(default=None, repr=False)
    _gaps: list[_Gap] = field(default_factory=list)
    _before: int = 0  # tokens of parts that have ended, by the engine's count
    _in_part: int = 0  # tokens of the part under way
    _first: Mapping[str, Any] | None = None  # the engine's counts of the first part
    _last: Mapping[str, Any] = field(default_factory=dict)
    _earlier_ns: int = 0

    @classmethod
    def of(cls, call: CompletionCall, prompt: list[int] | None) -> AnswerSoFar:
        """An answer that has not begun. ``prompt`` are the tokens of the prompt, where known."""
        return cls(call, CompletionAnswer(call, own_stops=True), _prompt=prompt)

    @property
    def num_tokens(self) -> int:
        """Tokens of prompt and answer so far; 0 before the engine has said anything."""
        first = self._first
        return int(first["cache_n"]) + int(first["prompt_n"]) + self._before + self._in_part if first else 0

    def hear(self, objects: Sequence[Mapping[str, Any]]) -> None:
        """Take in what the engine sends, object by object."""
        for data in objects:
            timings = data.get("timings")
            if not timings:
                continue
            self._first = self._first or timings
            self._last = timings
            if data.get("stop"):
                continue
            named = list(data.get("tokens") or ())
            unnamed = int(timings["predicted_n"]) - self._in_part - len(named)
            if unnamed > 0:
                self._gaps.append(_Gap(len(self.said), unnamed, str(data.get("content") or "")))
                self.said += [-1] * unnamed
            self.said += named
            self._in_part = int(timings["predicted_n"])

    async def resumed(self, engine: Engine) -> Resumed:
        """How it goes on, now that a part of it has been ended."""
        if self._prompt is None:
            prompt = self.call.prompt
            self._prompt = await engine.tokenise(prompt, add_special=True) if isinstance(prompt, str) else list(prompt)
        for gap in reversed(self._gaps):
            # A character has one way to be said as a rule; should the model have found another, the text is the same.
            found = await engine.tokenise(gap.text)
            if found[-1:] == self.said[gap.at + gap.num :][:1]:
                self.said[gap.at : gap.at + gap.num] = found[-gap.num - 1 : -1]
            else:
                self.said[gap.at : gap.at + gap.num + 1] = found
        self._gaps.clear()
        self._before += self._in_part
        self.answer.goes_on(self._in_part)
        self._earlier_ns += int(float(self._last.get("predicted_ms", 0)) * 1e6)
        self._in_part, self._last = 0, {}
        most = self.call.sampling.max_tokens
        return Resumed([*self._prompt, *self.said], None if most is None else max(1, most - self._before))

    def whole(self, end: Finished) -> Finished:
        """``end`` of the last part as the end of the whole."""
        if not self._before or self._first is None:
            return end
        first = self._first
        return replace(
            end,
            prompt_tokens=int(first["cache_n"]) + int(first["prompt_n"]),
            cached_tokens=int(first["cache_n"]),
            prompt_ns=int(float(first["prompt_ms"]) * 1e6),
            generated_tokens=self._before + end.generated_tokens,
            generated_ns=self._earlier_ns + end.generated_ns,
        )
