"""What a model says after a prompt: thoughts, calls, and answers in a format, told apart by marks.

The engine sees text only. The marks are those that the model's template puts around thoughts and before calls. What an answer is
held to is one grammar (`corral.runtime.formats`), so there is one generation, and no token is shown twice.
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
    Thoughts,
    ToolCall,
    tool_name,
)
from corral.parsing import CallForm, FormSplitter, ParsedCall, Splitter, ToolCallSplitter, ToolPiece
from corral.parsing.forms import USUAL
from corral.runtime.formats import Wanted, answer_grammar, texts_of
from corral.templates.chat import Rendered


@dataclass(frozen=True, slots=True)
class Marks:
    """How thoughts and calls look in an answer. ``tag`` stands before calls, ``form`` is how they are written where that is known.

    ``shown`` are control tokens that must come as text. ``limit_each`` is that of `CompletionCall`.
    """

    thoughts: Thoughts | None
    tag: str
    form: CallForm | None
    shown: tuple[str, ...] = ()
    limit_each: int | None = None


async def answer(
    engine: Engine, marks: Marks, rendered: Rendered, wanted: Wanted, sampling: Sampling, *, background: bool = False
) -> AsyncGenerator[Batch, None]:
    """What the model says after a prompt. The last event has all that was written, tags included."""
    form = marks.form or USUAL
    output = None if wanted.free else OutputFormat(grammar=answer_grammar(wanted, marks.thoughts, form))
    call = CompletionCall(
        rendered.prompt,
        sampling,
        output,
        images=rendered.images,
        background=background,
        thoughts=marks.thoughts,
        shown=marks.shown,
        limit_each=marks.limit_each if wanted.output is not None and marks.thoughts is not None else None,
    )
    stream = _with_written(engine.complete(call))
    held = form if output is not None else None
    if wanted.tools or (held is not None and (held.lead or held.trail)):
        stream = _with_calls(stream, splitter(marks, wanted.tools, held))
    async with aclosing(stream):
        async for batch in stream:
            yield batch


def splitter(marks: Marks, tools: Sequence[Mapping[str, Json]], held: CallForm | None) -> Splitter:
    """What tells calls of ``tools`` from text, in an answer that was ``held`` to a form, or to nothing."""
    if held is None and marks.form is not None and marks.form.arguments is not None:
        held = marks.form  # the other reader knows only JSON
    if held is None:
        return ToolCallSplitter(marks.tag, [tool_name(tool) for tool in tools])
    return FormSplitter(held, {tool_name(tool): texts_of(tool) for tool in tools})


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


async def _with_calls(stream: AsyncGenerator[Batch, None], splitter: Splitter) -> AsyncGenerator[Batch, None]:
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
