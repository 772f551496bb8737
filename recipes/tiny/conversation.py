"""The shape of a training conversation: what the generators write, and what rendering and evaluation read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NotRequired, TypedDict


class ToolCall(TypedDict):
    name: str
    arguments: dict[str, object]


class Message(TypedDict):
    """One turn. It stays a dictionary because JSON is what it becomes, in training text and in requests."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    thinking: NotRequired[str]
    tool_calls: NotRequired[list[ToolCall]]
    name: NotRequired[str]  # the tool that a message of role "tool" comes from


ToolSchema = Mapping[str, object]
"""A tool as chat APIs take it: ``{"type": "function", "function": {"name", "description", "parameters"}}``."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A conversation, and the tools its model may call."""

    messages: list[Message]
    tools: Sequence[ToolSchema] = ()


def system(text: str) -> Message:
    return {"role": "system", "content": text}


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}
