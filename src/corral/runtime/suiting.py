"""Conversations as their Jinja template insists on having them. Pure functions.

Some templates refuse what others print: turns that do not alternate, ids of calls that have not nine characters, two calls in one
turn. Clients know nothing of that, so where the text of a template says that it refuses, the conversation is arranged so that it
does not. Nothing that was said is left out, and conversations for other templates stay as they are.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

from corral.engine.base import Message, ToolCall

_ALTERNATES = re.compile(r"raise_exception\([^)]*\balternate\b")
_ONE_CALL = re.compile(r"tool_calls\s*\|\s*length\s*==\s*1\b")
_NINE = re.compile(r"\|\s*length\s*!=\s*9\b")
_ID = re.compile(r"[A-Za-z0-9]{9}", re.ASCII)
_ALPHABET = string.ascii_letters + string.digits


def suited(messages: Sequence[Message], template: str) -> tuple[Message, ...]:
    """``messages``, arranged for ``template``."""
    turns = list(messages)
    if _NINE.search(template):
        turns = _with_short_ids(turns)
    if one_call_a_turn(template):
        turns = _one_call_a_turn(turns)
    if _ALTERNATES.search(template):
        turns = _alternating(turns if "tool" in template else list(map(_told, turns)))
    return tuple(turns)


def one_call_a_turn(template: str) -> bool:
    """Whether ``template`` refuses turns with more than one call."""
    return bool(_ONE_CALL.search(template))


def short_id(text: str) -> str:
    """An id of nine characters for a call that has another.

    >>> short_id("abcdefghi"), short_id("toolu_1"), len(short_id(""))
    ('abcdefghi', 'k4KiuOmJf', 9)
    """
    if _ID.fullmatch(text):
        return text
    digest = sha256(text.encode(errors="replace")).digest()
    return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest[:9])


def _with_short_ids(turns: Sequence[Message]) -> list[Message]:
    """Calls and results with ids of nine characters; a result without one answers the first call that has none yet."""
    found: list[Message] = []
    waiting: list[ToolCall] = []  # calls without a result so far
    for turn in turns:
        if turn.tool_calls:
            calls = tuple(
                replace(call, id=short_id(call.id or f"{len(found)}.{number}"))
                for number, call in enumerate(turn.tool_calls)
            )
            waiting += calls
            turn = replace(turn, tool_calls=calls)
        elif turn.role == "tool":
            asked = short_id(turn.tool_call_id) if turn.tool_call_id else _id_of(turn, waiting)
            waiting = [call for call in waiting if call.id != asked]
            turn = replace(turn, tool_call_id=asked)
        found.append(turn)
    return found


def _id_of(result: Message, waiting: Sequence[ToolCall]) -> str:
    named = [call for call in waiting if call.name == result.tool_name] or waiting
    return named[0].id if named else short_id("")


def _one_call_a_turn(turns: Sequence[Message]) -> list[Message]:
    """Each call in a turn of its own, its result behind it."""
    found: list[Message] = []
    rest = list(turns)
    while rest:
        turn = rest.pop(0)
        if len(turn.tool_calls) < 2:
            found.append(turn)
            continue
        results = []
        while rest and rest[0].role == "tool":
            results.append(rest.pop(0))
        for number, call in enumerate(turn.tool_calls):
            first = turn if number == 0 else Message(turn.role)
            found.append(replace(first, tool_calls=(call,)))
            if answered := _answer_to(call, results):
                results.remove(answered)
                found.append(answered)
        found += results
    return found


def _answer_to(call: ToolCall, results: Sequence[Message]) -> Message | None:
    by_id = next((result for result in results if call.id and result.tool_call_id == call.id), None)
    return by_id or next((result for result in results if not result.tool_call_id), None)


def _told(turn: Message) -> Message:
    """A call or a result as text, for a template that knows of neither."""
    if turn.role == "tool":
        return Message("user", turn.content, images=turn.images, audio=turn.audio)
    if not turn.tool_calls:
        return turn
    calls = [f'{{"name": "{call.name}", "arguments": {call.arguments}}}' for call in turn.tool_calls]
    return replace(turn, content="\n".join(filter(None, (turn.content, *calls))), tool_calls=())


def _alternating(turns: Sequence[Message]) -> list[Message]:
    """A turn of the user, then one of the assistant, and so on, behind the system message at the top.

    What follows its like becomes one with it; what a user says behind results of tools, a part of the last of them.
    """
    found: list[Message] = []
    for turn in turns:
        if turn.role not in ("assistant", "tool") and (turn.role != "system" or found):
            turn = replace(turn, role="user")  # a template that alternates knows one system message
        last = found[-1].role if found else ""
        if turn.role == "assistant" and last in ("", "system"):
            found.append(Message("user"))
        if turn.role == last != "tool" or (turn.role, last) == ("user", "tool"):
            found[-1] = _joined(found[-1], turn)
        else:
            found.append(turn)
    return found


def _joined(first: Message, second: Message) -> Message:
    return replace(
        first,
        content="\n\n".join(filter(None, (first.content, second.content))),
        thinking="\n\n".join(filter(None, (first.thinking, second.thinking))),
        images=first.images + second.images,
        audio=first.audio + second.audio,
        tool_calls=first.tool_calls + second.tool_calls,
    )
