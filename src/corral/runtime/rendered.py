"""Models whose prompts are rendered here, from Go templates: from a request to a prompt within the context."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from corral.engine.base import Batch, Conversation, Engine, Finished, Sampling
from corral.runtime.answers import answer
from corral.runtime.conversations import chat_conversation, ends_inside, prompt_conversation, wanted_of
from corral.runtime.fitting import fitted_chat, fitted_prompt, placed
from corral.runtime.formats import Wanted
from corral.runtime.gotemplates import GoPrompt, go_prompt, without_past_thoughts
from corral.runtime.requests import ChatRequest, GenerateRequest, GenerationRequest
from corral.templates.chat import Rendered


async def render(engine: Engine, request: ChatRequest | GenerateRequest) -> str:
    """The prompt that a request would give to the model."""
    go = go_prompt(request)
    if isinstance(request, ChatRequest):
        return await go.prompt(without_past_thoughts(request, chat_conversation(request)))
    return (await _prompt(engine, go, request)).prompt


async def chat(
    engine: Engine, conversation: Conversation, request: GenerationRequest, limit: int, sampling: Sampling
) -> AsyncGenerator[Batch, None]:
    """The answer to a conversation, within ``limit`` tokens of context."""
    go = go_prompt(request)
    wanted = wanted_of(request, conversation)

    async def answered(fitted: Conversation, sampling: Sampling) -> AsyncGenerator[Batch, None]:
        rendered = await _without_beginning(engine, await go.render(fitted))
        marks = replace(
            await go.marks(rendered.prompt, tools=wanted.about_calls, begun=ends_inside(rendered.prompt, fitted)),
            limit_each=limit if request.thinks_apart else None,
        )
        stream = answer(engine, marks, rendered, wanted, sampling, background=request.background)
        async with aclosing(stream):
            async for batch in stream:
                yield await _with_context(engine, rendered.prompt, batch) if _wants_context(request) else batch

    conversation = without_past_thoughts(request, conversation)
    truncate = request.truncate
    stream = fitted_chat(engine, conversation, go.prompt, answered, limit=limit, sampling=sampling, truncate=truncate)
    async with aclosing(stream):
        async for batch in stream:
            yield batch


async def generate(
    engine: Engine, request: GenerateRequest, limit: int, sampling: Sampling
) -> AsyncGenerator[Batch, None]:
    """The answer to a prompt. What is no conversation is never cut: `PromptTooLong` for what does not fit."""
    if not (request.raw or request.suffix or request.context):
        stream = chat(engine, prompt_conversation(request), request, limit, sampling)
    else:
        stream = _uncut(engine, request, limit, sampling)
    async with aclosing(stream):
        async for batch in stream:
            yield batch


async def _uncut(
    engine: Engine, request: GenerateRequest, limit: int, sampling: Sampling
) -> AsyncGenerator[Batch, None]:
    go = go_prompt(request)
    rendered = await _prompt(engine, go, request)
    sampling = await fitted_prompt(engine, rendered.prompt, limit, sampling, rendered.images)
    thinks = not request.raw and not request.suffix and bool(prompt_conversation(request).thinking)
    marks = replace(await go.marks(rendered.prompt, tools=False), limit_each=limit if request.thinks_apart else None)
    wanted = Wanted(request.output, thinks=thinks)
    stream = answer(engine, marks, rendered, wanted, sampling, background=request.background)
    async with aclosing(stream):
        async for batch in stream:
            yield await _with_context(engine, rendered.prompt, batch) if _wants_context(request) else batch


async def _prompt(engine: Engine, go: GoPrompt, request: GenerateRequest) -> Rendered:
    """The whole text that is to be continued. Raises `NotSupported` for what the model cannot do."""
    if request.raw:
        media = prompt_conversation(request).media
        return Rendered(placed(request.prompt, media), media)
    if request.suffix and not request.own_template:
        rendered = Rendered(await go.fill(request.prompt, request.suffix))
    else:
        rendered = await go.render(prompt_conversation(request))
    before = await engine.detokenise(request.context) if request.context else ""
    return await _without_beginning(engine, replace(rendered, prompt=before + rendered.prompt))


async def _without_beginning(engine: Engine, rendered: Rendered) -> Rendered:
    """Some templates write the token with which the engine begins every prompt; twice makes a model worse."""
    return replace(rendered, prompt=rendered.prompt.removeprefix(await engine.beginning()))


def _wants_context(request: GenerationRequest) -> bool:
    return isinstance(request, GenerateRequest) and request.want_context


async def _with_context(engine: Engine, prompt: str, batch: Batch) -> Batch:
    """``batch``, whose end has the tokens of prompt and answer, up to and with the end of the turn where it came."""
    end = batch[-1]
    if not isinstance(end, Finished):
        return batch
    turn = await engine.end_of_turn() if end.reason == "stop" else ""
    tokens = await engine.tokenise(f"{prompt}{end.written}{turn}")
    return [*batch[:-1], replace(end, context=tuple(tokens))]
