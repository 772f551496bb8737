"""What llama.cpp's server streams, object by object, as events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from corral.engine.base import (
    CompletionCall,
    Event,
    Finished,
    Reading,
    Sampling,
    Text,
    Thinking,
    Thoughts,
    TokenLogprob,
    ToolCall,
)
from corral.parsing import StopMatcher, ThinkingSplitter


class ChatAnswer:
    """Turns the chunks of one chat stream into events; tool calls are gathered until they are whole."""

    def __init__(self, sampling: Sampling) -> None:
        self.finished = False
        self.stops: StopMatcher | None = None
        self._top_logprobs = sampling.top_logprobs
        self._calls: dict[int, list[str]] = {}  # index: id, name, arguments so far
        self._thought = _ThoughtTokens()

    def read(self, data: Mapping[str, Any]) -> list[Event]:
        """What ``data`` adds to the answer; nothing once it is finished, whatever came along with its last piece."""
        if self.finished:
            return []
        if progress := data.get("prompt_progress"):
            return [_reading(progress)]
        events: list[Event] = []
        for choice in data.get("choices") or ():
            delta = choice.get("delta") or {}
            self._thought.count(
                data,
                thinks=bool(delta.get("reasoning_content")),
                answers=bool(delta.get("content") or delta.get("tool_calls")),
            )
            logprobs = self._logprobs(choice["logprobs"]) if choice.get("logprobs") else ()
            if thought := delta.get("reasoning_content"):
                events.append(Thinking(thought, logprobs))
            elif (content := delta.get("content")) or logprobs:
                text, stopped = self.stops.feed(content or "") if self.stops else (content or "", False)
                if text or logprobs:
                    events.append(Text(text, logprobs))
                if stopped:
                    assert self.stops is not None
                    end = self._thought.told(_finished("stop", data.get("timings") or {}))
                    events.append(replace(end, stop_string=self.stops.met))
                    self.finished = True
                    return events
            for call in delta.get("tool_calls") or ():
                self._gather(call)
            if choice.get("finish_reason"):
                length = choice["finish_reason"] == "length"
                if self.stops and (held := self.stops.flush()):
                    events.append(Text(held))
                events += self._whole_calls()
                events.append(self._thought.told(_finished("length" if length else "stop", data.get("timings") or {})))
                self.finished = True
        return events

    def _logprobs(self, logprobs: Mapping[str, Any]) -> tuple[TokenLogprob, ...]:
        return tuple(_logprob(entry, self._top_logprobs) for entry in logprobs.get("content") or ())

    def _gather(self, call: Mapping[str, Any]) -> None:
        gathered = self._calls.setdefault(call["index"], ["", "", ""])
        function = call.get("function") or {}
        gathered[0] += call.get("id") or ""
        gathered[1] += function.get("name") or ""
        gathered[2] += function.get("arguments") or ""

    def _whole_calls(self) -> list[Event]:
        """The calls; one that was cut off becomes text, so that nothing the model wrote is lost."""
        events: list[Event] = []
        for index in sorted(self._calls):
            id_, name, arguments = self._calls[index]
            try:
                whole = isinstance(orjson.loads(arguments or "{}"), dict)
            except orjson.JSONDecodeError:
                whole = False
            if whole:
                events.append(ToolCall(name, arguments or "{}", id_))
            else:
                events.append(Text(f'{{"name": "{name}", "arguments": {arguments}'))
        return events


class _ThoughtTokens:
    """Counts the tokens of a thought: all that came before the first of the answer, tags included."""

    def __init__(self) -> None:
        self.earlier = 0  # in parts of the answer that have ended
        self._thinks = False
        self._before_answer: int | None = None

    def count(self, data: Mapping[str, Any], *, thinks: bool, answers: bool) -> None:
        """Take in what came: a piece of the thought, or of the answer."""
        self._thinks = self._thinks or thinks
        if answers and self._before_answer is None:
            counted = (data.get("timings") or {}).get("predicted_n", data.get("tokens_predicted"))
            self._before_answer = self.earlier + max(int(counted or 1) - 1, 0)

    def since(self, generated: int) -> int:
        """How many of ``generated`` tokens are the answer's, or the thought's while there is no answer."""
        return generated - (self._before_answer or 0)

    def told(self, finished: Finished) -> Finished:
        """``finished`` with the number."""
        if not self._thinks:
            return finished
        generated = self.earlier + finished.generated_tokens
        tokens = generated if self._before_answer is None else self._before_answer
        return replace(finished, thinking_tokens=min(tokens, generated))


class CompletionAnswer:
    """Turns the chunks of one completion into events; told by tags, thoughts are events of their own."""

    def __init__(self, call: CompletionCall, *, own_stops: bool = False) -> None:
        """With ``own_stops`` the engine does not look for stop strings; with thoughts it never does."""
        self.finished = False
        self._own_stops = own_stops or call.thoughts is not None
        self._top_logprobs = call.sampling.top_logprobs
        self._thought = _ThoughtTokens()
        self._context = call.limit_each
        self._most = call.sampling.max_tokens
        tags = call.thoughts
        self._thoughts = _splitter(tags) if tags else None
        self._stops = StopMatcher(call.sampling.stop if self._own_stops else ())
        self._written: list[str] = []
        self._answered = self._shown = 0  # characters of the answer that came, and that were given out

    def read(self, data: Mapping[str, Any]) -> list[Event]:
        """What ``data`` adds to the answer; nothing once it is finished."""
        if self.finished:
            return []
        if progress := data.get("prompt_progress"):
            return [_reading(progress)]
        content = str(data.get("content") or "")
        logprobs = _completion_logprobs(data, self._top_logprobs) if content else ()
        events = self._told(content, logprobs, ended=bool(data.get("stop")))
        self._thought.count(data, thinks=any(isinstance(e, Thinking) for e in events), answers=self._answered > 0)
        if data.get("stop") and not self.finished:
            reason = "length" if data.get("stop_type") == "limit" else "stop"
            end = _finished(reason, data.get("timings") or {})
            events.append(self._end(replace(end, stop_string=str(data.get("stopping_word") or ""))))
        elif self.finished:
            ending = _finished("stop", data.get("timings") or {})
            events.append(self._end(replace(ending, stop_string=self._stops.met)))
        elif self._is_at_limit(data.get("timings") or {}):
            events += self._told("", (), ended=True)
            events.append(self._end(_finished("length", data.get("timings") or {})))
        return events

    def goes_on(self, num_tokens: int) -> None:
        """A part of the answer has ended after ``num_tokens``; what is read from now on counts from 0 again."""
        self._thought.earlier += num_tokens

    def _is_at_limit(self, timings: Mapping[str, Any]) -> bool:
        if self._context is None or self._most is None:
            return False
        end = _finished("length", timings)
        all_tokens = end.prompt_tokens + end.generated_tokens
        return self._thought.since(end.generated_tokens) >= self._most or all_tokens >= self._context

    def _told(self, content: str, logprobs: tuple[TokenLogprob, ...], *, ended: bool) -> list[Event]:
        if self._thoughts is None:
            if not self._own_stops:
                return [Text(content, logprobs)] if content else []
            shown, self.finished = self._stops.feed(content)
            if ended and not self.finished:
                shown += self._stops.flush()
            return _with_logprobs([Text(shown)] if shown else [], logprobs)
        self._written.append(content)
        pieces = self._thoughts.feed(content) + (self._thoughts.flush() if ended else [])
        events: list[Text | Thinking] = []
        for kind, text in pieces:
            if kind == "thinking":
                events.append(Thinking(text))
                continue
            self._answered += len(text)
            shown, self.finished = self._stops.feed(text)
            events.append(Text(shown))
            if self.finished:
                break
        if ended and not self.finished:
            events.append(Text(self._stops.flush()))
        self._shown += sum(len(event.text) for event in events if isinstance(event, Text))
        return _with_logprobs([event for event in events if event.text], logprobs)

    def _end(self, finished: Finished) -> Finished:
        """``finished`` with all that was written, up to where it was ended here."""
        self.finished = True
        if self._thoughts is None:
            return finished
        finished = self._thought.told(finished)
        written = "".join(self._written)
        return replace(finished, written=written[: len(written) - self._answered + self._shown])


def _splitter(tags: Thoughts) -> ThinkingSplitter:
    return ThinkingSplitter(tags.opening, tags.closing, inside=tags.inside, begun=tags.begun)


def _with_logprobs(events: Sequence[Text | Thinking], logprobs: tuple[TokenLogprob, ...]) -> list[Event]:
    """``events`` with the log-probabilities of the tokens that brought them, or of a token that is held back."""
    if not logprobs:
        return list(events)
    if events:
        return [replace(events[0], logprobs=logprobs), *events[1:]]
    return [Text("", logprobs), *events]


def _reading(progress: Mapping[str, Any]) -> Reading:
    return Reading(int(progress["total"]), int(progress["cache"]), int(progress["processed"]))


def _finished(reason: str, timings: Mapping[str, Any]) -> Finished:
    cached, read = int(timings.get("cache_n", 0)), int(timings.get("prompt_n", 0))
    return Finished(
        reason="length" if reason == "length" else "stop",
        prompt_tokens=cached + read,
        cached_tokens=cached,
        prompt_ns=int(float(timings.get("prompt_ms", 0)) * 1e6),
        generated_tokens=int(timings.get("predicted_n", 0)),
        generated_ns=int(float(timings.get("predicted_ms", 0)) * 1e6),
    )


def _completion_logprobs(data: Mapping[str, Any], wanted: int | None) -> tuple[TokenLogprob, ...]:
    if wanted is None:
        return ()
    return tuple(_logprob(entry, wanted) for entry in data.get("completion_probabilities") or ())


def _logprob(entry: Mapping[str, Any], most: int | None = None) -> TokenLogprob:
    rivals = (entry.get("top_logprobs") or ())[:most]
    return TokenLogprob(
        token=entry["token"],
        bytes=tuple(entry.get("bytes") or ()),
        logprob=entry["logprob"],
        top=tuple(_logprob(rival) for rival in rivals),
    )
