"""Conversations that show how a template writes calls: the same, once with a text and once with calls."""

from __future__ import annotations

from collections.abc import Sequence

from corral.engine.base import Conversation, Message, ToolCall
from corral.parsing.forms import ARGUMENTS, IDS, NAMES, QUESTION, RESULT, TEXT, Shown


def asking() -> tuple[Conversation, ...]:
    """What `corral.parsing.forms.call_form` looks at, to be rendered."""
    question, said = Message("user", QUESTION), Message("assistant", TEXT)
    result = Message("tool", RESULT, tool_name=NAMES[0], tool_call_id=IDS[0][0])
    conversations = [(question,), (question, said, question), (question, said, result, question)]
    # Some templates want ids of nine characters, some make the name of the id, and some write one call of a turn and no more.
    for ids, number in ((IDS[0], 2), (IDS[1], 2), (IDS[0], 1)):
        names = NAMES[:number]
        calls = tuple(ToolCall(name, of, id_) for name, of, id_ in zip(names, ARGUMENTS, ids, strict=False))
        results = (Message("tool", RESULT, tool_name=n, tool_call_id=i) for n, i in zip(names, ids, strict=False))
        conversations.append((question, Message("assistant", tool_calls=calls), *results, question))
    return tuple(map(Conversation, conversations))


def shown(prompts: Sequence[str]) -> Shown:
    """What a template made of the conversations; empty for each that it refused."""
    opened, said, told, *called = prompts
    return Shown(opened, said, told, called)
