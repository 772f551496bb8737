"""What a request turns into: a conversation or a text, continued by an engine, as one stream of events.

One request type and one event type serve every dialect. What differs between models (thinking, templates, what fits into
the context) is decided here and nowhere else.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol

from corral.durations import quoted
from corral.engine.base import Batch, Engine, Finished, Sampling
from corral.errors import EngineCrashed, InvalidRequest
from corral.runtime import native, rendered
from corral.runtime.conversations import chat_conversation
from corral.runtime.embedding import Embedded, embed
from corral.runtime.formats import check_output
from corral.runtime.numbers import label
from corral.runtime.options import Options, parse_options
from corral.runtime.pool import EnginePool
from corral.runtime.requests import ChatRequest, EmbedRequest, GenerateRequest, GenerationRequest

logger = logging.getLogger(__name__)


class Sessions:
    """Runs requests on the engines of a pool."""

    def __init__(self, pool: EnginePool) -> None:
        self._pool = pool

    async def load(self, request: GenerationRequest | EmbedRequest) -> None:
        """Have the model in memory."""
        options = _effective(request)
        async with self._pool.lease(request.spec, options.wishes, request.keep_alive_s):
            pass

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Batch, None]:
        """The answer to a conversation. Raises before the first batch whatever is wrong with the request."""
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
        try:
            return await self._embed(request)
        except EngineCrashed as exc:
            self._pool.numbers.retries[label(request.spec.name)] += 1
            logger.warning("%s; trying once more on a fresh engine", exc)
        return await self._embed(request)

    async def _embed(self, request: EmbedRequest) -> Embedded:
        options = _effective(request)
        async with self._pool.lease(request.spec, options.wishes, request.keep_alive_s) as lease:
            try:
                found = await embed(lease.engine, request, _limit(options, lease.engine))
            except EngineCrashed:
                lease.discard()
                raise
            return replace(found, load_ns=lease.load_ns)

    async def render(self, request: ChatRequest | GenerateRequest) -> str:
        """The prompt that the request would give to the model, which is loaded for it."""
        options = _effective(request)
        render = native.render if request.template is None else rendered.render
        async with self._pool.lease(request.spec, options.wishes, request.keep_alive_s) as lease:
            return await render(lease.engine, request)

    async def _on_engine(self, request: GenerationRequest, generate: _Generate) -> AsyncGenerator[Batch, None]:
        """Run ``generate`` on a leased engine; once more on a fresh one if it crashed before anything was sent."""
        check_output(request.output)
        started, model, numbers = time.monotonic(), label(request.spec.name), self._pool.numbers
        options = _effective(request)
        for attempt in (1, 2):
            sent = False
            async with self._pool.lease(request.spec, options.wishes, request.keep_alive_s) as lease:
                limit = _limit(options, lease.engine)
                sampling = options.sampling(num_ctx=limit, top_logprobs=request.top_logprobs)
                if request.logit_bias:
                    sampling = replace(sampling, logit_bias=tuple(request.logit_bias.items()))
                try:
                    stream = generate(lease.engine, limit, sampling)
                    async with aclosing(stream):
                        async for batch in stream:
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


def _effective(request: GenerationRequest | EmbedRequest) -> Options:
    """The request's options over the model's own."""
    try:
        own = parse_options(request.spec.parameters)
    except InvalidRequest as exc:
        raise InvalidRequest(f"a parameter of the model {quoted(request.spec.name.short)} is wrong: {exc}") from exc
    return request.options.over(own)
