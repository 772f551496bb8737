"""Conversations for templates that refuse what others take, by the ``raise_exception`` of Jinja templates.

Clients know nothing of a model's template, so what it refuses is told in the way that it takes, and nothing is left out: ids of
calls are as short as it wants them, calls that were made together come one by one, and turns of one side in a row are one
turn. What a template has no place for, system messages or tools, is told as text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from hashlib import sha256

from corral.engine.base import Conversation, Engine, Message
from corral.errors import EngineRefused

_SHORT_ID = re.compile(r"[A-Za-z0-9]{9}", re.ASCII)  # as Mistral's templates want it


async def rendered(engine: Engine, template: str, conversation: Conversation) -> str:
    """The prompt of ``conversation``, told as ``template`` takes it. Raises `EngineRefused` if it takes it in no way."""
    if _may_be_refused(template, conversation):
        return (await _told(engine, conversation))[1]
    return await engine.apply_template(conversation)


async def accepted(engine: Engine, template: str, conversation: Conversation) -> Conversation:
    """``conversation``, or the same told otherwise where ``template`` refuses it. Raises `EngineRefused` if it refuses all."""
    return (await _told(engine, conversation))[0] if _may_be_refused(template, conversation) else conversation


def _may_be_refused(template: str, conversation: Conversation) -> bool:
    return "raise_exception" in template and not _usual(conversation.messages)


async def _told(engine: Engine, conversation: Conversation) -> tuple[Conversation, str]:
    """What the template takes of the ways to tell ``conversation``, and the prompt of it."""
    refusal: EngineRefused | None = None
    tried: list[tuple[Message, ...]] = []
    for messages in _tellings(tuple(conversation.messages)):
        if messages in tried:
            continue
        tried.append(messages)
        told = replace(conversation, messages=messages)
        try:
            return told, await engine.apply_template(told)
        except EngineRefused as exc:
            refusal = refusal or exc
    assert refusal is not None
    raise refusal


def _tellings(messages: tuple[Message, ...]) -> Iterator[tuple[Message, ...]]:
    """``messages``, and what is the same in other words, farther from it each time."""
    yield messages
    short = with_short_ids(messages)
    yield short
    yield alternating(short)
    single = with_single_calls(short)
    yield single
    yield alternating(single)
    yield alternating(without_system(single))
    yield alternating(without_tools(messages))
    yield alternating(without_system(without_tools(messages)))


def _usual(messages: Iterable[Message]) -> bool:
    """Whether this is what no template refuses: questions and answers in turn, behind a system message at most."""
    roles = [message.role for message in messages]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    expected = ["user", "assistant"] * (len(turns) // 2 + 1)
    return turns == expected[: len(turns)] and not any(message.tool_calls for message in messages)


def with_short_ids(messages: Iterable[Message]) -> tuple[Message, ...]:
    """Calls, and their results, with ids of nine characters: always the same for the same id. Who has none gets one.

    >>> from corral.engine.base import ToolCall
    >>> call, result = Message("assistant", tool_calls=(ToolCall("f", "{}"),)), Message("tool", "5")
    >>> [(m.tool_call_id, [c.id for c in m.tool_calls]) for m in with_short_ids((call, result))]
    [('', ['call00000']), ('call00000', [])]
    """
    told: list[Message] = []
    waiting: list[str] = []  # calls without a result
    number = 0
    for message in messages:
        calls = []
        for call in message.tool_calls:
            calls.append(replace(call, id=_short(call.id) or f"call{number:05d}"))
            waiting.append(calls[-1].id)
            number += 1
        if calls:
            message = replace(message, tool_calls=tuple(calls))
        if message.role == "tool":
            id_ = _short(message.tool_call_id) or (waiting[0] if waiting else f"call{number:05d}")
            if id_ in waiting:
                waiting.remove(id_)
            message = replace(message, tool_call_id=id_)
        told.append(message)
    return tuple(told)


def _short(id_: str) -> str:
    return id_ if not id_ or _SHORT_ID.fullmatch(id_) else sha256(id_.encode()).hexdigest()[:9]


def with_single_calls(messages: Iterable[Message]) -> tuple[Message, ...]:
    """Calls that were made together as one turn each, with its result behind it."""
    told: list[Message] = []
    rest = list(messages)
    while rest:
        message = rest.pop(0)
        if len(message.tool_calls) < 2:
            told.append(message)
            continue
        results = []
        while rest and rest[0].role == "tool":
            results.append(rest.pop(0))
        for place, call in enumerate(message.tool_calls):
            first = place == 0
            turn = replace(message, tool_calls=(call,)) if first else Message("assistant", tool_calls=(call,))
            result = next((result for result in results if call.id and result.tool_call_id == call.id), None)
            if result is None:
                result = next((result for result in results if not result.tool_call_id), None)
            told.append(turn)
            if result is not None:
                results.remove(result)
                told.append(result)
        told += results
    return tuple(told)


def alternating(messages: Iterable[Message]) -> tuple[Message, ...]:
    """Turns of the same side in a row as one turn, and an empty one where the other side's is missing.

    System messages behind the first turn are the user's words.

    >>> turns = [Message("assistant", "Hi"), Message("user", "a"), Message("system", "b")]
    >>> [(turn.role, turn.content) for turn in alternating(turns)]
    [('user', ''), ('assistant', 'Hi'), ('user', 'a\\n\\nb')]
    """
    told: list[Message] = []
    for message in messages:
        if message.role == "system" and any(before.role != "system" for before in told):
            message = replace(message, role="user")
        last = told[-1] if told else None
        if message.role == "user" and last is not None and last.role == "tool":
            told.append(Message("assistant"))
        if message.role == "assistant" and all(before.role == "system" for before in told):
            told.append(Message("user"))
        if last is None or last.role != message.role or message.role == "tool" or last.tool_calls or message.tool_calls:
            told.append(message)
            continue
        told[-1] = replace(
            last,
            content="\n\n".join(filter(None, (last.content, message.content))),
            thinking=last.thinking or message.thinking,
            images=last.images + message.images,
            audio=last.audio + message.audio,
        )
    return tuple(told)


def without_system(messages: Iterable[Message]) -> tuple[Message, ...]:
    """System messages as the user's words.

    >>> [turn.role for turn in without_system([Message("system", "Be brief."), Message("user", "Hi")])]
    ['user', 'user']
    """
    return tuple(replace(message, role="user") if message.role == "system" else message for message in messages)


def without_tools(messages: Iterable[Message]) -> tuple[Message, ...]:
    """Calls as text of the assistant's, and results as the user's.

    >>> from corral.engine.base import ToolCall
    >>> turns = [Message("assistant", tool_calls=(ToolCall("f", "{}"),)), Message("tool", "5")]
    >>> [(turn.role, turn.content) for turn in without_tools(turns)]
    [('assistant', '{"name": "f", "arguments": {}}'), ('user', '5')]
    """
    told = []
    for message in messages:
        if message.role == "tool":
            message = Message("user", message.content, images=message.images, audio=message.audio)
        elif message.tool_calls:
            calls = [
                f'{{"name": {json.dumps(call.name)}, "arguments": {call.arguments}}}' for call in message.tool_calls
            ]
            message = replace(message, content="\n".join(filter(None, (message.content, *calls))), tool_calls=())
        told.append(message)
    return tuple(told)
