"""Models whose prompts their engine renders, from the Jinja template in their weights."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from corral.engine.base import (
    Batch,
    ChatCall,
    CompletionCall,
    Conversation,
    Engine,
    Event,
    Finished,
    OutputFormat,
    Sampling,
    Text,
    Thinking,
    ToolCall,
)
from corral.errors import PromptTooLong
from corral.parsing import ThinkingSplitter, thinking_tags
from corral.runtime.conversations import chat_conversation, prompt_conversation
from corral.runtime.fitting import fitted_chat, fitted_prompt, placed, within
from corral.runtime.formats import check_format
from corral.runtime.requests import ChatRequest, GenerateRequest, GenerationRequest


async def render(engine: Engine, request: ChatRequest | GenerateRequest) -> str:
    """The prompt that a request would give to the model."""
    if isinstance(request, ChatRequest):
        return await engine.apply_template(chat_conversation(request))
    if request.raw:
        return request.prompt
    before = await engine.detokenise(request.context) if request.context else ""
    return before + await engine.apply_template(prompt_conversation(request))


def chat(
    engine: Engine, conversation: Conversation, request: GenerationRequest, limit: int, sampling: Sampling
) -> AsyncGenerator[Batch, None]:
    """The answer to a conversation, within ``limit`` tokens of context."""

    def answer(fitted: Conversation, sampling: Sampling) -> AsyncGenerator[Batch, None]:
        return _answer(engine, fitted, request, sampling)

    prompt, truncate = engine.apply_template, request.truncate
    return fitted_chat(engine, conversation, prompt, answer, limit=limit, sampling=sampling, truncate=truncate)


def _answer(
    engine: Engine, conversation: Conversation, request: GenerationRequest, sampling: Sampling
) -> AsyncGenerator[Batch, None]:
    if request.output is not None and conversation.messages and conversation.messages[-1].role == "assistant":
        return _constrained_prefill(engine, conversation, request.output, sampling)
    if request.output is not None and conversation.tools:
        return _tools_or_output(engine, conversation, request.output, sampling)
    call = ChatCall(conversation, sampling, request.output, background=request.background)
    if isinstance(request, ChatRequest) and conversation.tools:
        call = replace(call, tool_choice=request.tool_choice, parallel_tool_calls=request.parallel_tool_calls)
    return engine.chat(call)


async def _constrained_prefill(
    engine: Engine, conversation: Conversation, output: OutputFormat, sampling: Sampling
) -> AsyncGenerator[Batch, None]:
    """Continue the client's own beginning of an answer as JSON, which the engine's chat cannot."""
    await check_format(engine, output)
    prompt = await engine.apply_template(conversation)
    stream = engine.complete(CompletionCall(prompt, sampling, output, images=conversation.media))
    async with aclosing(stream):
        async for batch in stream:
            yield batch


async def _tools_or_output(
    engine: Engine, conversation: Conversation, output: OutputFormat, sampling: Sampling
) -> AsyncGenerator[Batch, None]:
    """Tools and a format together: a call is a call, and an answer has the format.

    The engine would force the format on both. So it begins freely; when what comes is an answer, it is asked again with the same
    prompt (which it has in memory), without calls and with the format. Thoughts are passed on once.
    """
    stream = engine.chat(ChatCall(conversation, sampling))
    async with aclosing(stream):
        async for batch in stream:
            if any(isinstance(event, Text) and event.text.strip() for event in batch):
                break
            yield batch
        else:
            return
    again = engine.chat(ChatCall(conversation, sampling, output, tool_choice="none"))
    async with aclosing(again):
        async for batch in again:
            if rest := [event for event in batch if not isinstance(event, Thinking)]:
                yield rest


async def generate(
    engine: Engine, request: GenerateRequest, limit: int, sampling: Sampling
) -> AsyncGenerator[Batch, None]:
    """The answer to a prompt."""
    if request.raw:
        media = prompt_conversation(request).media
        stream = _complete(engine, placed(request.prompt, media), media, request, limit, sampling)
    elif request.context:
        stream = _after_context(engine, request, limit, sampling)
    elif request.want_context:
        stream = _with_context(engine, request, limit, sampling)
    else:
        stream = chat(engine, prompt_conversation(request), request, limit, sampling)
    async with aclosing(stream):
        async for batch in stream:
            yield batch


async def go_on(
    engine: Engine, request: GenerateRequest, limit: int, sampling: Sampling
) -> AsyncGenerator[Batch, None]:
    """What follows the request's tokens, taken as they stand. What does not fit is an error."""
    assert request.tokens is not None
    if request.output is not None:
        await check_format(engine, request.output)
    used = len(request.tokens)
    if used >= limit:
        raise PromptTooLong(used, limit)
    call = CompletionCall(request.tokens, within(sampling, limit - used), request.output, background=request.background)
    async with aclosing(engine.complete(call)) as stream:
        async for batch in stream:
            yield batch


async def _complete(
    engine: Engine,
    prompt: str,
    media: tuple[bytes, ...],
    request: GenerationRequest,
    limit: int,
    sampling: Sampling,
) -> AsyncGenerator[Batch, None]:
    """Continue ``prompt`` as it stands, within ``limit`` tokens. It is never cut: what does not fit is an error."""
    if request.output is not None:
        await check_format(engine, request.output)
    sampling = await fitted_prompt(engine, prompt, limit, sampling, media)
    call = CompletionCall(prompt, sampling, request.output, images=media, background=request.background)
    stream = engine.complete(call)
    async with aclosing(stream):
        async for batch in stream:
            yield batch


async def _after_context(
    engine: Engine, request: GenerateRequest, limit: int, sampling: Sampling
) -> AsyncGenerator[Batch, None]:
    """Continue behind the tokens of an earlier answer; thoughts are told from the answer here, as the engine sees text."""
    assert request.context is not None
    before = await engine.detokenise(request.context)
    conversation = prompt_conversation(request)
    prompt = before + await engine.apply_template(conversation)
    tags = thinking_tags(prompt)
    splitter = ThinkingSplitter(*(tags or ("<think>", "</think>")), inside=tags is not None)
    told = _Told()
    stream = _complete(engine, prompt, conversation.media, request, limit, sampling)
    async with aclosing(stream):
        async for batch in stream:
            events: list[Event] = []
            for event in batch:
                if isinstance(event, Text):
                    pieces = splitter.feed(event.text)
                    events += [_piece(kind, text) for kind, text in pieces]
                    if event.logprobs:
                        events.append(Text("", event.logprobs))
                else:
                    events += [_piece(kind, text) for kind, text in splitter.flush()]
                    events.append(event)
            told.hear(events)
            if events and isinstance(events[-1], Finished) and request.want_context:
                events[-1] = await told.with_context(engine, prompt, events[-1])
            if events:
                yield events


async def _with_context(
    engine: Engine, request: GenerateRequest, limit: int, sampling: Sampling
) -> AsyncGenerator[Batch, None]:
    """A chat whose end carries the tokens of prompt and answer, so that a client can go on from them."""
    conversation = prompt_conversation(request)
    told = _Told()
    stream = chat(engine, conversation, request, limit, sampling)
    async with aclosing(stream):
        async for batch in stream:
            told.hear(batch)
            last = batch[-1]
            if isinstance(last, Finished):
                prompt = await engine.apply_template(conversation)
                batch = [*batch[:-1], await told.with_context(engine, prompt, last)]
            yield batch


class _Told:
    """What an answer has said so far."""

    def __init__(self) -> None:
        self._thought: list[str] = []
        self._text: list[str] = []

    def hear(self, batch: Batch) -> None:
        for event in batch:
            if isinstance(event, Thinking):
                self._thought.append(event.text)
            elif isinstance(event, Text):
                self._text.append(event.text)
            elif isinstance(event, ToolCall):
                self._text.append(event.arguments)

    async def with_context(self, engine: Engine, prompt: str, finished: Finished) -> Finished:
        """``finished`` with the tokens of the whole exchange, up to and with the end of the turn where it came."""
        said = "".join(self._text)
        if self._thought:
            opening, closing = thinking_tags(prompt) or ("<think>", "</think>")
            begun = "" if thinking_tags(prompt) else f"{opening}\n"
            said = f"{begun}{''.join(self._thought)}{closing}\n\n{said}" if said else begun + "".join(self._thought)
        end = await engine.end_of_turn() if finished.reason == "stop" else ""
        return replace(finished, context=tuple(await engine.tokenise(f"{prompt}{said}{end}")))


def _piece(kind: str, text: str) -> Event:
    return Thinking(text) if kind == "thinking" else Text(text)
