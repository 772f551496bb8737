"""Conversations that show how a template writes calls: the same, once with a text and once with two calls."""

from __future__ import annotations

from corral.engine.base import Conversation, Message, ToolCall
from corral.parsing.forms import ARGUMENTS, NAMES, RESULT, TEXT

_IDS = ("corral001", "corral002")  # of nine characters, which some templates insist on


def asking() -> tuple[Conversation, Conversation]:
    """What `corral.parsing.forms.call_form` compares, to be rendered."""
    calls = tuple(map(ToolCall, NAMES, ARGUMENTS, _IDS))
    results = (Message("tool", RESULT, tool_name=name, tool_call_id=id_) for name, id_ in zip(NAMES, _IDS, strict=True))
    question = Message("user", "corral_question")
    said = (question, Message("assistant", TEXT), question)
    called = (question, Message("assistant", tool_calls=calls), *results, question)
    return Conversation(said), Conversation(called)
