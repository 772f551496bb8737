"""What a request turns into: a conversation or a text, continued by an engine, as one stream of events.

One request type and one event type serve every dialect. What differs between models (thinking, templates, what fits into
the context) is decided here and nowhere else.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol, TypeVar

from corral.durations import quoted
from corral.engine.base import Batch, Engine, Finished, Reading, Sampling
from corral.errors import EngineCrashed, InvalidRequest
from corral.runtime import native, rendered
from corral.runtime.conversations import chat_conversation
from corral.runtime.embedding import Embedded, embed
from corral.runtime.fitting import prompt_tokens
from corral.runtime.formats import check_output
from corral.runtime.media import MediaReader
from corral.runtime.numbers import label
from corral.runtime.options import Options, parse_options
from corral.runtime.pool import EnginePool, Lease
from corral.runtime.requests import (
    ChatRequest,
    EmbedRequest,
    EngineRequest,
    GenerateRequest,
    GenerationRequest,
    RerankRequest,
)
from corral.runtime.reranking import Ranked, rerank

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Sessions:
    """Runs requests on the engines of a pool."""

    def __init__(self, pool: EnginePool, media: MediaReader) -> None:
        self._pool = pool
        self._media = media

    async def load(self, request: GenerationRequest | EngineRequest) -> None:
        """Have the model in memory."""
        options = _effective(request)
        async with self._pool.lease(request.spec, options.wishes, request.keep_alive_s):
            pass

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Batch, None]:
        """The answer to a conversation. Raises before the first batch whatever is wrong with the request."""
        request = await self._media.read(request)
        conversation = chat_conversation(request)
        chat = native.chat if request.template is None else rendered.chat
        stream = self._on_engine(
            request, lambda engine, limit, sampling: chat(engine, conversation, request, limit, sampling)
        )
        async with aclosing(stream):
            async for batch in stream:
                yield batch

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Batch, None]:
        """The answer to a prompt. Raises before the first batch whatever is wrong with the request."""
        request = await self._media.read(request)
        if request.tokens is not None:
            generate = native.go_on
        else:
            generate = native.generate if request.template is None else rendered.generate
        stream = self._on_engine(request, lambda engine, limit, sampling: generate(engine, request, limit, sampling))
        async with aclosing(stream):
            async for batch in stream:
                yield batch

    async def embed(self, request: EmbedRequest) -> Embedded:
        """The vectors of texts; once more on a fresh engine if one crashed."""

        async def work(lease: Lease, limit: int) -> Embedded:
            return replace(await embed(lease.engine, request, limit), load_ns=lease.load_ns)

        return await self._ask(request, work)

    async def rerank(self, request: RerankRequest) -> Ranked:
        """How well documents answer a query; once more on a fresh engine if one crashed."""
        return await self._ask(request, lambda lease, limit: rerank(lease.engine, request, limit))

    async def tokenise(self, request: EngineRequest, text: str, *, add_special: bool) -> list[int]:
        """The tokens of ``text``."""
        return await self._ask(request, lambda lease, _: lease.engine.tokenise(text, add_special=add_special))

    async def pieces(self, request: EngineRequest, text: str, *, add_special: bool) -> list[tuple[int, bytes]]:
        """The tokens of ``text``, each with its own bytes."""
        return await self._ask(request, lambda lease, _: lease.engine.pieces(text, add_special=add_special))

    async def detokenise(self, request: EngineRequest, tokens: Sequence[int]) -> str:
        """The text of ``tokens``."""
        return await self._ask(request, lambda lease, _: lease.engine.detokenise(tokens))

    async def _ask(self, request: EngineRequest, work: Callable[[Lease, int], Awaitable[T]]) -> T:
        """What ``work`` makes of a lease and the context in tokens; once more on a fresh engine if one crashed."""
        options = _effective(request)
        for attempt in (1, 2):
            async with self._pool.lease(request.spec, options.wishes, request.keep_alive_s) as lease:
                try:
                    return await work(lease, _limit(options, lease.engine))
                except EngineCrashed as exc:
                    lease.discard()
                    if attempt == 2:
                        raise
                    self._pool.numbers.retries[label(request.spec.name)] += 1
                    logger.warning("%s; trying once more on a fresh engine", exc)
        raise AssertionError("the second attempt returns or raises")

    async def render(self, request: ChatRequest | GenerateRequest) -> str:
        """The prompt that the request would give to the model, which is loaded for it."""
        request = await self._media.read(request)
        options = _effective(request)
        render = native.render if request.template is None else rendered.render
        async with self._pool.lease(request.spec, options.wishes, request.keep_alive_s) as lease:
            return await render(lease.engine, request)

    async def count(self, request: ChatRequest) -> int:
        """How many tokens the prompt of a conversation has for the model, which is loaded for it, images included."""
        chat_conversation(request)  # refuses what the model cannot do, before it is loaded
        request = await self._media.read(request)
        conversation = chat_conversation(request)
        options = _effective(request)
        async with self._pool.lease(request.spec, options.wishes, request.keep_alive_s) as lease:
            engine = lease.engine
            if request.template is None:
                prompt = await native.render(engine, request)
            else:
                prompt = (await rendered.render(engine, request)).removeprefix(await engine.beginning())
            return await prompt_tokens(engine, prompt, conversation.media)

    async def _on_engine(self, request: GenerationRequest, generate: _Generate) -> AsyncGenerator[Batch, None]:
        """Run ``generate`` on a leased engine; once more on a fresh one if it crashed before anything was sent."""
        check_output(request.output)
        started, model, numbers = time.monotonic(), label(request.spec.name), self._pool.numbers
        options = _effective(request)
        for attempt in (1, 2):
            sent = False
            async with self._pool.lease(request.spec, options.wishes, request.keep_alive_s) as lease:
                limit = _limit(options, lease.engine)
                sampling = replace(
                    options.sampling(num_ctx=limit, top_logprobs=request.top_logprobs),
                    progress=request.progress,
                )
                try:
                    stream = generate(lease.engine, limit, sampling)
                    async with aclosing(stream):
                        async for batch in stream:
                            if all(isinstance(event, Reading) for event in batch):
                                yield batch
                                continue
                            if not sent and not isinstance(batch[0], Finished):
                                numbers.first_token[model].observe(time.monotonic() - started)
                            sent = True
                            end = batch[-1]
                            if isinstance(end, Finished):
                                numbers.finished(model, end)
                                batch = [*batch[:-1], replace(end, load_ns=lease.load_ns)]
                            yield batch
                    return
                except EngineCrashed as exc:
                    lease.discard()
                    if sent or attempt == 2:
                        raise
                    numbers.retries[model] += 1
                    logger.warning("%s; trying once more on a fresh engine", exc)


class _Generate(Protocol):
    """The shape of what `_on_engine` runs: an engine, the context in tokens, the sampling."""

    def __call__(self, engine: Engine, limit: int, sampling: Sampling, /) -> AsyncGenerator[Batch, None]: ...


def _limit(options: Options, engine: Engine) -> int:
    """The context of a request in tokens."""
    return min(options.wishes.num_ctx or engine.config.context, engine.config.context)


def _effective(request: GenerationRequest | EngineRequest) -> Options:
    """The request's options over the model's own."""
    try:
        own = parse_options(request.spec.parameters)
    except InvalidRequest as exc:
        raise InvalidRequest(f"a parameter of the model {quoted(request.spec.name.short)} is wrong: {exc}") from exc
    return request.options.over(own)
