"""Models whose prompts their engine renders, from the Jinja template in their weights.

The engine's own parsers read free answers. It cannot hold an answer to a format and to calls at once, and calls that are required
may come behind any text; so an answer that is not free is held to a grammar of ours and read by the marks that the model's
template shows. Only where answers stand in channels that it does not show, the engine does what it can.
"""

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
    Finished,
    OutputFormat,
    Reading,
    Sampling,
    Text,
    Thinking,
    Thoughts,
    ToolCall,
)
from corral.errors import EngineRefused, NotSupported, PromptTooLong
from corral.parsing import CallForm, tags_in, thinking_tags
from corral.parsing.forms import USUAL, call_form, marks_in
from corral.runtime import answers
from corral.runtime.choosy import accepted, rendered
from corral.runtime.conversations import chat_conversation, ends_inside, prompt_conversation, wanted_of
from corral.runtime.fitting import fitted_chat, fitted_prompt, placed, within
from corral.runtime.formats import Wanted, answer_grammar
from corral.runtime.probes import asking, shown
from corral.runtime.requests import ChatRequest, GenerateRequest, GenerationRequest
from corral.templates.chat import Rendered


async def render(engine: Engine, request: ChatRequest | GenerateRequest) -> str:
    """The prompt that a request would give to the model."""
    if isinstance(request, ChatRequest):
        return await rendered(engine, _template(request), chat_conversation(request))
    if request.raw:
        return request.prompt
    before = await engine.detokenise(request.context) if request.context else ""
    return before + await engine.apply_template(prompt_conversation(request))


def chat(
    engine: Engine, conversation: Conversation, request: GenerationRequest, limit: int, sampling: Sampling
) -> AsyncGenerator[Batch, None]:
    """The answer to a conversation, within ``limit`` tokens of context."""

    async def answer(fitted: Conversation, sampling: Sampling) -> AsyncGenerator[Batch, None]:
        stream = await _answer(engine, await accepted(engine, _template(request), fitted), request, sampling)
        async with aclosing(stream):
            async for batch in stream:
                yield batch

    async def prompt(fitted: Conversation) -> str:
        return await rendered(engine, _template(request), fitted)

    truncate = request.truncate
    return fitted_chat(engine, conversation, prompt, answer, limit=limit, sampling=sampling, truncate=truncate)


async def _answer(
    engine: Engine, conversation: Conversation, request: GenerationRequest, sampling: Sampling
) -> AsyncGenerator[Batch, None]:
    """The answer: free, as the engine reads it, or held to a grammar of ours where the marks of the model are known."""
    wanted = wanted_of(request, conversation)
    if conversation.thinking is None and request.think is not False and _goes_on(conversation):
        # A model that cannot be told whether to think may do so; it must not be kept from it.
        wanted = replace(wanted, thinks=tags_in(_template(request)) is not None)
    if conversation.tools and sampling.top_logprobs is not None:
        wanted = replace(wanted, held=True)  # the engine refuses them together where it finds the calls itself
    call = ChatCall(conversation, sampling, request.output, background=request.background)
    if conversation.tools:
        call = replace(call, tool_choice=wanted.choice, parallel_tool_calls=wanted.parallel)
    if wanted.free:
        return _free(engine, call, request, wanted)
    return await _held_answer(engine, call, request, wanted) or _chat(engine, call, wanted)


async def _held_answer(
    engine: Engine, call: ChatCall, request: GenerationRequest, wanted: Wanted
) -> AsyncGenerator[Batch, None] | None:
    """The answer held to a grammar of ours, or ``None`` where the marks of the model are not known."""
    conversation = call.conversation
    prompt = (await engine.apply_template(conversation)).removeprefix(await engine.beginning())
    begun = ends_inside(prompt, conversation)
    marks = await _marks(engine, wanted, request, prompt, begun=begun)
    if marks is None:
        return None
    if marks.form is not None and not _goes_on(conversation):
        marks = replace(marks, form=replace(marks.form, lead=""))  # what was begun stands behind it
    return answers.answer(
        engine, marks, Rendered(prompt, conversation.media), wanted, call.sampling, background=request.background
    )


async def _free(
    engine: Engine, call: ChatCall, request: GenerationRequest, wanted: Wanted
) -> AsyncGenerator[Batch, None]:
    """An answer that may be anything, as the engine reads it.

    Of some models the engine takes nothing but what they were trained to write, and fails with what it was not told of.
    Then they are held to write what it takes; thoughts are passed on once.
    """
    said = thought = False
    try:
        async with aclosing(engine.chat(call)) as stream:
            async for batch in stream:
                thought = thought or any(isinstance(event, Thinking) for event in batch)
                said = said or not all(isinstance(event, Reading | Thinking) for event in batch)
                yield batch
        return
    except EngineRefused as exc:
        if said or _UNREADABLE not in str(exc):
            raise
        again = await _held_answer(engine, call, request, replace(wanted, held=True))
        if again is None:
            raise
    async with aclosing(again):
        async for batch in again:
            if rest := [event for event in batch if not (thought and isinstance(event, Thinking))]:
                yield rest


def _chat(engine: Engine, call: ChatCall, wanted: Wanted) -> AsyncGenerator[Batch, None]:
    """An answer that the engine reads, and holds to what is wanted as well as it can."""
    if call.output is None:
        return engine.chat(call)
    if call.output.grammar or call.output.regex:
        raise NotSupported("the model cannot be held to a grammar or a regular expression here; try: a JSON Schema")
    if wanted.tools and wanted.choice == "auto":
        return _tools_or_output(engine, call)
    return engine.chat(replace(call, output=None) if wanted.tools else call)


async def _marks(
    engine: Engine, wanted: Wanted, request: GenerationRequest, prompt: str, *, begun: bool
) -> answers.Marks | None:
    """How thoughts and calls look in an answer to ``prompt``, or ``None`` where only the engine knows.

    ``begun`` is whether the prompt ends in the middle of a thought.
    """
    template = _template(request)
    opened = thinking_tags(prompt)
    if opened is None and begun:
        opened = tags_in(template)
    tags = opened or ((tags_in(template) or _USUAL_TAGS) if wanted.thinks else None)
    form = await _form(engine, template)
    if (tags is None and begun) or (_CHANNEL in template and not (form and form.lead)):
        return None
    thoughts = Thoughts(*tags, inside=opened is not None, begun=begun) if tags else None
    shown_marks = (*(tags or ()), *marks_in(*(tags or ())), *(form.marks if form else ()))
    return answers.Marks(thoughts, form.begin if form else "", form, tuple(dict.fromkeys(shown_marks)))


def _goes_on(conversation: Conversation) -> bool:
    """Whether an answer is to come that was not begun."""
    return not (conversation.messages and conversation.messages[-1].role == "assistant")


def _template(request: GenerationRequest) -> str:
    return (request.spec.facts.chat_template if request.spec.facts else "") or ""


async def _form(engine: Engine, template: str) -> CallForm | None:
    """The form in which a template writes calls, if it can be told."""
    if template not in _FORMS:
        prompts = []
        for conversation in asking():
            try:
                if all(
                    len(message.tool_calls) < 2 for message in conversation.messages
                ):  # two are to be seen in one turn
                    conversation = await accepted(engine, template, conversation)
                prompts.append(await engine.apply_template(conversation))
            except EngineRefused:
                prompts.append("")
        while len(_FORMS) >= _MOST_FORMS:
            del _FORMS[next(iter(_FORMS))]
        _FORMS[template] = call_form(shown(prompts))
    return _FORMS[template]


_FORMS: dict[str, CallForm | None] = {}  # by the text of the template
_MOST_FORMS = 64
_USUAL_TAGS = ("<think>", "</think>")
_UNREADABLE = "does not match the expected"  # of the engine's parsers
_CHANNEL = "<|channel|>"  # such models never answer at once


async def _tools_or_output(engine: Engine, call: ChatCall) -> AsyncGenerator[Batch, None]:
    """Tools and a format together, for a model whose calls only the engine knows: a call is a call, and an answer has the format.

    The engine would force the format on both. So it begins freely; when what comes is an answer, it is asked again with the same
    prompt (which it has in memory), without calls and with the format. Thoughts are passed on once.
    """
    stream = engine.chat(replace(call, output=None))
    async with aclosing(stream):
        async for batch in stream:
            if any(isinstance(event, Text) and event.text.strip() for event in batch):
                break
            yield batch
        else:
            return
    again = engine.chat(replace(call, tool_choice="none"))
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
    used = len(request.tokens)
    if used >= limit:
        raise PromptTooLong(used, limit)
    output = _held(request, None)
    call = CompletionCall(request.tokens, within(sampling, limit - used), output, background=request.background)
    async with aclosing(engine.complete(call)) as stream:
        async for batch in stream:
            yield batch


def _held(request: GenerationRequest, thoughts: Thoughts | None) -> OutputFormat | None:
    """What holds a text that is continued as it stands to the request's format."""
    if request.output is None:
        return None
    return OutputFormat(grammar=answer_grammar(Wanted(request.output), thoughts, USUAL))


async def _complete(
    engine: Engine,
    prompt: str,
    media: tuple[bytes, ...],
    request: GenerationRequest,
    limit: int,
    sampling: Sampling,
) -> AsyncGenerator[Batch, None]:
    """Continue ``prompt`` as it stands, within ``limit`` tokens. It is never cut: what does not fit is an error."""
    sampling = await fitted_prompt(engine, prompt, limit, sampling, media)
    tags = thinking_tags(prompt)
    thoughts = Thoughts(*(tags or _USUAL_TAGS), inside=tags is not None)
    output = _held(request, thoughts if tags else None)
    call = CompletionCall(prompt, sampling, output, images=media, background=request.background, thoughts=thoughts)
    async with aclosing(engine.complete(replace(call, shown=(thoughts.opening, thoughts.closing)))) as stream:
        async for batch in stream:
            yield batch


async def _after_context(
    engine: Engine, request: GenerateRequest, limit: int, sampling: Sampling
) -> AsyncGenerator[Batch, None]:
    """Continue behind the tokens of an earlier answer."""
    assert request.context is not None
    conversation = prompt_conversation(request)
    prompt = await engine.detokenise(request.context) + await engine.apply_template(conversation)
    stream = _complete(engine, prompt, conversation.media, request, limit, sampling)
    async with aclosing(stream):
        async for batch in stream:
            end = batch[-1]
            if isinstance(end, Finished) and request.want_context:
                batch = [*batch[:-1], await _with_tokens(engine, prompt, end)]
            yield batch


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
                whole = last if last.written else replace(last, written=told.written(prompt))
                batch = [*batch[:-1], await _with_tokens(engine, prompt, whole)]
            yield batch


async def _with_tokens(engine: Engine, prompt: str, finished: Finished) -> Finished:
    """``finished`` with the tokens of the whole exchange, up to and with the end of the turn where it came."""
    end = await engine.end_of_turn() if finished.reason == "stop" else ""
    return replace(finished, context=tuple(await engine.tokenise(f"{prompt}{finished.written}{end}")))


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

    def written(self, prompt: str) -> str:
        """What the model wrote after ``prompt``, tags included, as far as it can be told from what the engine made of it."""
        said, thought = "".join(self._text), "".join(self._thought)
        if not thought:
            return said
        tags = thinking_tags(prompt)
        opening, closing = tags or _USUAL_TAGS
        begun = "" if tags else f"{opening}\n"
        return f"{begun}{thought}{closing}\n\n{said}" if said else begun + thought
