"""Conversations that are longer than the context: turns are left out, oldest first, and counted. Never silently."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace

from corral.engine.base import Batch, Conversation, Engine, Finished, Sampling
from corral.errors import PromptTooLong

_PLACEHOLDER = re.compile(r"\[img-[0-9]{1,6}\]")
Prompt = Callable[[Conversation], Awaitable[str]]
Answer = Callable[[Conversation, Sampling], AsyncGenerator[Batch, None]]


async def fitted_chat(
    engine: Engine,
    conversation: Conversation,
    prompt: Prompt,
    answer: Answer,
    *,
    limit: int,
    sampling: Sampling,
    truncate: bool,
) -> AsyncGenerator[Batch, None]:
    """An ``answer`` within ``limit`` tokens of context. ``prompt`` gives the text that a conversation is to the model.

    Raises `PromptTooLong` before the first batch when nothing more may be left out.
    """
    fitted, dropped = conversation, 0
    if limit < engine_limit(engine):
        fitted, dropped, used = await _fit(engine, conversation, prompt, limit, truncate)
        sampling = within(sampling, limit - used)
    try:
        async with aclosing(answer(fitted, sampling)) as stream:
            async for batch in stream:
                yield _with_dropped(batch, dropped)
        return
    except PromptTooLong:
        if dropped or not truncate:
            raise
    fitted, dropped, used = await _fit(engine, conversation, prompt, limit, truncate=True)
    async with aclosing(answer(fitted, within(sampling, limit - used))) as stream:
        async for batch in stream:
            yield _with_dropped(batch, dropped)


async def fitted_prompt(
    engine: Engine, prompt: str, limit: int, sampling: Sampling, media: tuple[bytes, ...] = ()
) -> Sampling:
    """``sampling`` that ends at the context's end. A prompt is never cut: `PromptTooLong` for what does not fit."""
    if limit >= engine_limit(engine):
        return sampling
    used = await prompt_tokens(engine, prompt, media)
    if used >= limit:
        raise PromptTooLong(used, limit)
    return within(sampling, limit - used)


async def prompt_tokens(engine: Engine, prompt: str, media: tuple[bytes, ...]) -> int:
    """How many tokens a prompt has, its images and sounds included; with those it may be a few less."""
    text = _PLACEHOLDER.sub("", prompt) if media else prompt
    counts = [await engine.media_tokens(data) for data in media]
    return len(await engine.tokenise(text, add_special=True)) + sum(counts)


def placed(prompt: str, media: tuple[bytes, ...]) -> str:
    """A prompt that is taken as it stands, with placeholders before it for what it has no place for itself.

    >>> placed("[img-1] and [img]", (b"1", b"2", b"3")), placed("Hello", ())
    ('[img-2][img-1] and [img-0]', 'Hello')
    """
    missing = [number for number in range(len(media)) if f"[img-{number}]" not in prompt]
    while missing and "[img]" in prompt:
        prompt = prompt.replace("[img]", f"[img-{missing.pop(0)}]", 1)
    return "".join(f"[img-{number}]" for number in missing) + prompt


def engine_limit(engine: Engine) -> int:
    """The context at which the engine itself stops: it rounds up to a multiple of 256."""
    return engine.config.rounded_context


def within(sampling: Sampling, room: int) -> Sampling:
    """Generate no more than the context has room for."""
    return replace(sampling, max_tokens=min(sampling.max_tokens or room, room))


async def _fit(
    engine: Engine, conversation: Conversation, prompt: Prompt, limit: int, truncate: bool
) -> tuple[Conversation, int, int]:
    """The conversation with as few of its oldest turns left out as make it fit, how many messages went, and its tokens.

    System messages stay, and so does the last turn. A turn begins with a user's message, so no tool's answer loses its question.
    Raises `PromptTooLong` when nothing more may go.
    """

    async def count(conversation: Conversation) -> int:
        return await prompt_tokens(engine, await prompt(conversation), conversation.media)

    whole = await count(conversation)
    if whole < limit:
        return conversation, 0, whole
    system = tuple(m for m in conversation.messages if m.role == "system")
    turns = tuple(m for m in conversation.messages if m.role != "system")
    starts = [i for i, m in enumerate(turns) if m.role == "user" and i > 0]
    if not truncate or not starts:
        raise PromptTooLong(whole, limit)
    low, high = 0, len(starts) - 1  # the first start that fits; the last one is tried whatever it is
    while low < high:
        middle = (low + high) // 2
        shorter = replace(conversation, messages=system + turns[starts[middle] :])
        if await count(shorter) < limit:
            high = middle
        else:
            low = middle + 1
    fitted = replace(conversation, messages=system + turns[starts[low] :])
    used = await count(fitted)
    if used >= limit:
        raise PromptTooLong(used, limit)
    return fitted, starts[low], used


def _with_dropped(batch: Batch, dropped: int) -> Batch:
    if dropped and isinstance(batch[-1], Finished):
        return [*batch[:-1], replace(batch[-1], dropped_messages=dropped)]
    return batch
