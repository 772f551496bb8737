"""What a request turns into: a conversation or a text, continued by an engine, as one stream of events.

One request type and one event type serve every dialect. What differs between models (thinking, templates, what fits into
the context) is decided here and nowhere else.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from corral.durations import quoted
from corral.engine.base import (
    Batch,
    ChatCall,
    CompletionCall,
    Conversation,
    Engine,
    Event,
    Finished,
    Json,
    Message,
    OutputFormat,
    Sampling,
    Text,
    Thinking,
    ToolCall,
)
from corral.errors import EngineCrashed, InvalidRequest, NotSupported, PromptTooLong
from corral.library import ModelSpec
from corral.parsing import ThinkingSplitter, thinking_tags
from corral.runtime.options import Options, parse_options
from corral.runtime.pool import EnginePool

logger = logging.getLogger(__name__)

Think = bool | Literal["low", "medium", "high", "max"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """What every generation has. ``model`` is the name as the client wrote it, for answers and errors."""

    model: str
    spec: ModelSpec
    options: Options = field(default_factory=Options)
    think: Think | None = None
    output: OutputFormat | None = None
    keep_alive_s: float | None = None
    truncate: bool = True
    top_logprobs: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest(GenerationRequest):
    """A conversation to be continued."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Json], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest(GenerationRequest):
    """A prompt to be answered: as it stands if ``raw``, else as a user's turn after ``system`` and ``context``."""

    prompt: str
    raw: bool = False
    system: str | None = None
    images: tuple[bytes, ...] = ()
    context: tuple[int, ...] | None = None
    want_context: bool = True


class Sessions:
    """Runs requests on the engines of a pool."""

    def __init__(self, pool: EnginePool) -> None:
        self._pool = pool

    async def load(self, request: GenerationRequest) -> None:
        """Have the model in memory."""
        options = _effective(request)
        async with self._pool.lease(request.spec, options.wishes, request.keep_alive_s):
            pass

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Batch, None]:
        """The answer to a conversation. Raises before the first batch whatever is wrong with the request."""
        conversation = _conversation(request, _with_model_turns(request.spec, request.messages), request.tools)
        stream = self._on_engine(
            request, lambda engine, limit, sampling: _chat(engine, conversation, request, limit, sampling)
        )
        async with aclosing(stream):
            async for batch in stream:
                yield batch

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Batch, None]:
        """The answer to a prompt. Raises before the first batch whatever is wrong with the request."""
        stream = self._on_engine(request, lambda engine, limit, sampling: _generate(engine, request, limit, sampling))
        async with aclosing(stream):
            async for batch in stream:
                yield batch

    async def render(self, request: ChatRequest | GenerateRequest) -> str:
        """The prompt that the request would give to the model, which is loaded for it."""
        options = _effective(request)
        async with self._pool.lease(request.spec, options.wishes, request.keep_alive_s) as lease:
            if isinstance(request, GenerateRequest) and request.raw:
                return request.prompt
            if isinstance(request, GenerateRequest):
                before = await lease.engine.detokenise(request.context) if request.context else ""
                return before + await lease.engine.apply_template(_prompt_conversation(request))
            turns = _with_model_turns(request.spec, request.messages)
            return await lease.engine.apply_template(_conversation(request, turns, request.tools))

    async def _on_engine(self, request: GenerationRequest, generate: _Generate) -> AsyncGenerator[Batch, None]:
        """Run ``generate`` on a leased engine; once more on a fresh one if it crashed before anything was sent."""
        options = _effective(request)
        for attempt in (1, 2):
            sent = False
            async with self._pool.lease(request.spec, options.wishes, request.keep_alive_s) as lease:
                limit = min(options.wishes.num_ctx or lease.engine.config.context, lease.engine.config.context)
                sampling = options.sampling(num_ctx=limit, top_logprobs=request.top_logprobs)
                try:
                    stream = generate(lease.engine, limit, sampling)
                    async with aclosing(stream):
                        async for batch in stream:
                            sent = True
                            yield _with_load_time(batch, lease.load_ns)
                    return
                except EngineCrashed as exc:
                    lease.discard()
                    if sent or attempt == 2:
                        raise
                    logger.warning("%s; trying once more on a fresh engine", exc)


class _Generate(Protocol):
    """The shape of what `_on_engine` runs: an engine, the context in tokens, the sampling."""

    def __call__(self, engine: Engine, limit: int, sampling: Sampling, /) -> AsyncGenerator[Batch, None]: ...


def _effective(request: GenerationRequest) -> Options:
    """The request's options over the model's own."""
    try:
        own = parse_options(request.spec.parameters)
    except InvalidRequest as exc:
        raise InvalidRequest(f"a parameter of the model {quoted(request.spec.name.short)} is wrong: {exc}") from exc
    return request.options.over(own)


def _with_load_time(batch: Batch, load_ns: int) -> Batch:
    if isinstance(batch[-1], Finished):
        return [*batch[:-1], replace(batch[-1], load_ns=load_ns)]
    return batch


# -- conversations --------------------------------------------------------------------------------------------


def _conversation(
    request: GenerationRequest, messages: tuple[Message, ...], tools: tuple[Mapping[str, Json], ...]
) -> Conversation:
    """What the template is to render. Raises `NotSupported` for what the model cannot do."""
    capabilities = request.spec.capabilities
    name = quoted(request.model)
    if request.think and "thinking" not in capabilities:
        raise NotSupported(f"{name} does not support thinking")
    if tools and "tools" not in capabilities:
        raise NotSupported(f"{request.spec.name} does not support tools")
    if any(message.images for message in messages) and "vision" not in capabilities:
        raise NotSupported(f"{name} does not support images")
    facts = request.spec.facts
    if request.spec.template is not None and facts is not None and facts.chat_template is None:
        raise NotSupported(
            f"{name} has only a Go template, which this version of Corral does not render; "
            'write the whole prompt and send it to /api/generate with "raw": true'
        )
    if "thinking" not in capabilities:
        return Conversation(messages, tools)
    think = True if request.think is None else request.think
    return Conversation(messages, tools, bool(think), think if isinstance(think, str) else None)


def _with_model_turns(spec: ModelSpec, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The request's turns behind the model's own system message and examples."""
    turns = tuple(Message(role, content) for role, content in spec.messages) + messages
    if spec.system and not (messages and messages[0].role == "system"):
        return (Message("system", spec.system), *turns)
    return turns


def _prompt_conversation(request: GenerateRequest) -> Conversation:
    system = request.system or request.spec.system
    examples = request.spec.messages if request.context is None else ()
    messages = (
        *((Message("system", system),) if system else ()),
        *(Message(role, content) for role, content in examples),
        Message("user", request.prompt, images=request.images),
    )
    return _conversation(request, messages, ())


# -- chat -----------------------------------------------------------------------------------------------------


async def _chat(
    engine: Engine, conversation: Conversation, request: GenerationRequest, limit: int, sampling: Sampling
) -> AsyncGenerator[Batch, None]:
    """A chat within ``limit`` tokens of context: turns that do not fit are left out, oldest first, and counted."""
    fitted, dropped = conversation, 0
    if limit < _engine_limit(engine):
        fitted, dropped, used = await _fit(engine, conversation, limit, request.truncate)
        sampling = _within(sampling, limit - used)
    try:
        stream = _answer(engine, fitted, request, sampling)
        async with aclosing(stream):
            async for batch in stream:
                yield _with_dropped(batch, dropped)
        return
    except PromptTooLong:
        if dropped or not request.truncate:
            raise
    fitted, dropped, used = await _fit(engine, conversation, limit, truncate=True)
    stream = _answer(engine, fitted, request, _within(sampling, limit - used))
    async with aclosing(stream):
        async for batch in stream:
            yield _with_dropped(batch, dropped)


def _answer(
    engine: Engine, conversation: Conversation, request: GenerationRequest, sampling: Sampling
) -> AsyncGenerator[Batch, None]:
    if request.output is not None and conversation.messages and conversation.messages[-1].role == "assistant":
        return _constrained_prefill(engine, conversation, request.output, sampling)
    if request.output is not None and conversation.tools:
        return _tools_or_output(engine, conversation, request.output, sampling)
    return engine.chat(ChatCall(conversation, sampling, request.output))


async def _constrained_prefill(
    engine: Engine, conversation: Conversation, output: OutputFormat, sampling: Sampling
) -> AsyncGenerator[Batch, None]:
    """Continue the client's own beginning of an answer as JSON, which the engine's chat cannot."""
    prompt = await engine.apply_template(conversation)
    stream = engine.complete(CompletionCall(prompt, sampling, output))
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


def _engine_limit(engine: Engine) -> int:
    """The context at which the engine itself stops: it rounds up to a multiple of 256."""
    return -(-engine.config.context // 256) * 256


def _within(sampling: Sampling, room: int) -> Sampling:
    """Generate no more than the context has room for."""
    return replace(sampling, max_tokens=min(sampling.max_tokens or room, room))


async def _fit(engine: Engine, conversation: Conversation, limit: int, truncate: bool) -> tuple[Conversation, int, int]:
    """The conversation with as few of its oldest turns left out as make it fit, how many messages went, and its tokens.

    System messages stay, and so does the last turn. A turn begins with a user's message, so no tool's answer loses its question.
    Raises `PromptTooLong` when nothing more may go.
    """
    whole = await _count(engine, conversation)
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
        if await _count(engine, shorter) < limit:
            high = middle
        else:
            low = middle + 1
    fitted = replace(conversation, messages=system + turns[starts[low] :])
    used = await _count(engine, fitted)
    if used >= limit:
        raise PromptTooLong(used, limit)
    return fitted, starts[low], used


async def _count(engine: Engine, conversation: Conversation) -> int:
    return len(await engine.tokenise(await engine.apply_template(conversation), add_special=True))


def _with_dropped(batch: Batch, dropped: int) -> Batch:
    if dropped and isinstance(batch[-1], Finished):
        return [*batch[:-1], replace(batch[-1], dropped_messages=dropped)]
    return batch


# -- generate -------------------------------------------------------------------------------------------------


async def _generate(
    engine: Engine, request: GenerateRequest, limit: int, sampling: Sampling
) -> AsyncGenerator[Batch, None]:
    if request.raw:
        stream = _complete(engine, request.prompt, request, limit, sampling)
    elif request.context:
        stream = _after_context(engine, request, limit, sampling)
    elif request.want_context:
        stream = _with_context(engine, request, limit, sampling)
    else:
        stream = _chat(engine, _prompt_conversation(request), request, limit, sampling)
    async with aclosing(stream):
        async for batch in stream:
            yield batch


async def _complete(
    engine: Engine, prompt: str, request: GenerationRequest, limit: int, sampling: Sampling
) -> AsyncGenerator[Batch, None]:
    """Continue ``prompt`` as it stands, within ``limit`` tokens. It is never cut: what does not fit is an error."""
    if limit < _engine_limit(engine):
        used = len(await engine.tokenise(prompt, add_special=True))
        if used >= limit:
            raise PromptTooLong(used, limit)
        sampling = _within(sampling, limit - used)
    stream = engine.complete(CompletionCall(prompt, sampling, request.output))
    async with aclosing(stream):
        async for batch in stream:
            yield batch


async def _after_context(
    engine: Engine, request: GenerateRequest, limit: int, sampling: Sampling
) -> AsyncGenerator[Batch, None]:
    """Continue behind the tokens of an earlier answer; thoughts are told from the answer here, as the engine sees text."""
    assert request.context is not None
    before = await engine.detokenise(request.context)
    prompt = before + await engine.apply_template(_prompt_conversation(request))
    tags = thinking_tags(prompt)
    splitter = ThinkingSplitter(*(tags or ("<think>", "</think>")), inside=tags is not None)
    told = _Told()
    stream = _complete(engine, prompt, request, limit, sampling)
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
    conversation = _prompt_conversation(request)
    told = _Told()
    stream = _chat(engine, conversation, request, limit, sampling)
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
