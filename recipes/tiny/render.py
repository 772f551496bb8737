"""Conversation to text, in the ChatML form that ``chat_template.jinja`` produces when it is served."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from conversation import Message, Sample, ToolCall, ToolSchema

START = "<|im_start|>"
END = "<|im_end|>"
HOW_TO_CALL = 'To use one, write <tool_call>{"name": ..., "arguments": ...}</tool_call>'


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a conversation's text, and whether the model learns to write it."""

    text: str
    learned: bool = False


def segments(sample: Sample, *, compact_tools: bool = False) -> list[Segment]:
    """The text of a conversation, piece by piece; joined, the pieces are what the template prints.

    Template engines differ in how they print the tools: ``compact_tools`` leaves the blanks out of their JSON.
    """
    messages = sample.messages
    prompt = ""
    if messages and messages[0]["role"] == "system":
        prompt, messages = messages[0]["content"], messages[1:]
    if sample.tools:
        block = _tool_block(sample.tools, compact=compact_tools)
        prompt = f"{prompt}\n\n{block}" if prompt else block
    pieces = [_turn("system", prompt)] if prompt else []
    for message in messages:
        pieces += _message_segments(message)
    return pieces


def _message_segments(message: Message) -> list[Segment]:
    if message["role"] == "assistant":
        return _assistant_segments(message)
    if message["role"] == "tool":
        return [_turn("user", f"<tool_response>\n{message['content']}\n</tool_response>")]
    return [_turn(message["role"], message["content"])]


def _assistant_segments(message: Message) -> list[Segment]:
    pieces = [Segment(f"{START}assistant\n")]
    body = ""
    if thinking := message.get("thinking"):
        pieces.append(Segment("<think>\n"))  # the template writes it, when thinking is on
        body = f"{thinking}\n</think>\n\n"
    body += message["content"]
    if calls := message.get("tool_calls"):
        body += "\n" if message["content"] else ""
        body += "\n".join(_call_text(call) for call in calls)
    return [*pieces, Segment(body + END, learned=True), Segment("\n")]


def _turn(role: str, text: str) -> Segment:
    return Segment(f"{START}{role}\n{text}{END}\n")


def _call_text(call: ToolCall) -> str:
    return f"<tool_call>\n{json.dumps(call)}\n</tool_call>"


def _tool_block(tools: Sequence[ToolSchema], *, compact: bool) -> str:
    separators = (",", ":") if compact else (", ", ": ")
    listing = "\n".join(json.dumps(tool, separators=separators) for tool in tools)
    return f"Tools:\n{listing}\n{HOW_TO_CALL}"
