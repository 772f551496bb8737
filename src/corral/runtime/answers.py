"""What a model says after a prompt that was rendered here: thoughts, calls, and answers in a format, told apart by marks.

The engine sees text only. The marks are those that the model's template puts around thoughts and before calls.
"""

from __future__ import annotations

import secrets
import string
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from corral.engine.base import (
    Batch,
    CompletionCall,
    Engine,
    Event,
    Finished,
    Json,
    OutputFormat,
    Sampling,
    Text,
    ToolCall,
    tool_name,
)
from corral.parsing import ParsedCall, ToolCallSplitter, ToolPiece
from corral.runtime.fitting import within
from corral.runtime.formats import check_format
from corral.runtime.gotemplates import GoPrompt
from corral.templates.chat import Rendered


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an answer is to be: of ``output``, with calls to ``tools``; ``thinks`` when the model is to think first.

    ``limit`` is the context of the request in tokens.
    """

    limit: int
    output: OutputFormat | None = None
    tools: Sequence[Mapping[str, Json]] = ()
    thinks: bool = False


async def answer(
    engine: Engine, go: GoPrompt, rendered: Rendered, wanted: Wanted, sampling: Sampling
) -> AsyncGenerator[Batch, None]:
    """What the model says after a prompt. The last event has all that was written, tags included."""
    thoughts = go.thoughts(rendered.prompt)
    call = CompletionCall(
        rendered.prompt,
        sampling,
        images=rendered.images,
        thoughts=thoughts,
        shown=go.shown(thoughts, tools=bool(wanted.tools)),
    )
    output = wanted.output
    stream = _free(engine, go, call, wanted) if output is None else _formatted(engine, go, call, wanted, output)
    async with aclosing(stream):
        async for batch in stream:
            yield batch


async def _free(engine: Engine, go: GoPrompt, call: CompletionCall, wanted: Wanted) -> AsyncGenerator[Batch, None]:
    stream = _with_written(engine.complete(call))
    if wanted.tools:
        stream = _with_calls(stream, ToolCallSplitter(go.facts.tool_tag, [tool_name(tool) for tool in wanted.tools]))
    async with aclosing(stream):
        async for batch in stream:
            yield batch


async def _formatted(
    engine: Engine, go: GoPrompt, call: CompletionCall, wanted: Wanted, output: OutputFormat
) -> AsyncGenerator[Batch, None]:
    """A thought, free; calls, if the model wants any; and an answer that has the format.

    The engine would force the format on all three. So the thought is generated first, and what follows it with the prompt that
    the engine has in memory by then. Raises `InvalidRequest` for a schema it cannot take before anything is generated.
    """
    thinks = call.thoughts is not None and (call.thoughts.inside or wanted.thinks)
    await check_format(engine, output)
    thought = Finished("stop")
    if thinks:
        free = replace(call, only_thought=True, sampling=replace(call.sampling, stop=()))
        async with aclosing(engine.complete(free)) as stream:
            async for batch in stream:
                if isinstance(batch[-1], Finished):
                    thought = batch[-1]
                if told := [event for event in batch if not isinstance(event, Finished)]:
                    yield told
        assert call.thoughts is not None
        unclosed = bool(thought.written.strip()) and call.thoughts.closing not in thought.written
        room = wanted.limit - thought.prompt_tokens - thought.generated_tokens
        if thought.reason == "length" or unclosed or room <= 0:
            yield [thought]
            return
        assert isinstance(call.prompt, str)
        # A limit of tokens is one for the answer: what the thought took is not taken from it.
        call = replace(call, prompt=call.prompt + thought.written, sampling=within(call.sampling, room), thoughts=None)
    if wanted.tools:
        called = False
        async with aclosing(_free(engine, go, call, wanted)) as stream:
            async for batch in stream:
                called = called or any(isinstance(event, ToolCall) for event in batch)
                if not called and any(isinstance(event, Text) and event.text.strip() for event in batch):
                    break
                yield _joined(thought, batch)
            else:
                return
    async with aclosing(_with_written(engine.complete(replace(call, output=output, thoughts=None)))) as stream:
        async for batch in stream:
            yield _joined(thought, batch)


def _joined(thought: Finished, batch: Batch) -> Batch:
    """``batch``, whose end counts the thought too: it was one answer to one prompt."""
    end = batch[-1]
    if not isinstance(end, Finished) or not thought.written:
        return batch
    whole = replace(
        end,
        prompt_tokens=thought.prompt_tokens,
        cached_tokens=thought.cached_tokens,
        prompt_ns=thought.prompt_ns + end.prompt_ns,
        generated_tokens=thought.generated_tokens + end.generated_tokens,
        thinking_tokens=thought.thinking_tokens + end.thinking_tokens,
        generated_ns=thought.generated_ns + end.generated_ns,
        written=thought.written + end.written,
    )
    return [*batch[:-1], whole]


async def _with_written(stream: AsyncGenerator[Batch, None]) -> AsyncGenerator[Batch, None]:
    """``stream``, whose end has the text that came, where the engine did not say."""
    told: list[str] = []
    async with aclosing(stream):
        async for batch in stream:
            told += [event.text for event in batch if isinstance(event, Text)]
            end = batch[-1]
            if isinstance(end, Finished) and not end.written:
                batch = [*batch[:-1], replace(end, written="".join(told))]
            yield batch


async def _with_calls(stream: AsyncGenerator[Batch, None], splitter: ToolCallSplitter) -> AsyncGenerator[Batch, None]:
    """``stream`` with calls as events of their own. The end stands alone, so that calls are told when they are whole."""
    async with aclosing(stream):
        async for batch in stream:
            events: list[Event] = []
            for event in batch:
                if isinstance(event, Text):
                    events += _events(splitter.feed(event.text), event)
                elif isinstance(event, Finished):
                    events += _events(splitter.flush(), Text(""))
                else:
                    events.append(event)
            if events:
                yield events
            if isinstance(batch[-1], Finished):
                yield [batch[-1]]


def _events(pieces: Sequence[ToolPiece], brought_by: Text) -> list[Event]:
    events: list[Event] = []
    for piece in pieces:
        if isinstance(piece, ParsedCall):
            events.append(ToolCall(piece.name, piece.arguments, _call_id()))
        elif piece[0] == "text":
            events.append(Text(piece[1]))
    if not brought_by.logprobs:
        return events
    if events and isinstance(events[0], Text):
        return [replace(events[0], logprobs=brought_by.logprobs), *events[1:]]
    return [Text("", brought_by.logprobs), *events]


def _call_id() -> str:
    return "call_" + "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(8))
