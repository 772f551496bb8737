"""Conversations that show how a template writes calls: the same, once with a text and once with calls."""

from __future__ import annotations

from corral.engine.base import Conversation, Message, ToolCall
from corral.parsing.forms import ARGUMENTS, NAMES, RESULT, TEXT

_IDS = ("corral001", "corral002")  # of nine characters, which some templates insist on


def asking(calls: int = len(NAMES)) -> tuple[Conversation, Conversation]:
    """What `corral.parsing.forms.call_form` compares, to be rendered; with two ``calls`` in a turn, or one."""
    made = tuple(map(ToolCall, NAMES, ARGUMENTS, _IDS))[:calls]
    results = (Message("tool", RESULT, tool_name=call.name, tool_call_id=call.id) for call in made)
    question = Message("user", "corral_question")
    said = (question, Message("assistant", TEXT), question)
    called = (question, Message("assistant", tool_calls=made), *results, question)
    return Conversation(said), Conversation(called)
