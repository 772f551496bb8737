"""Marks in a stream of text: strings that end it, and tags around thoughts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

Piece = tuple[Literal["text", "thinking"], str]

# The pairs that open models use; a prompt that ends with an opening one leaves the model inside its thought.
_TAGS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant"),
    ("<|channel>thought", "<channel|>"),
)


def held_back(text: str, mark: str) -> int:
    """How many characters at the end of ``text`` may be the start of ``mark``.

    >>> held_back("an answer <thi", "<think>")
    4
    """
    for size in range(min(len(text), len(mark) - 1), 0, -1):
        if text.endswith(mark[:size]):
            return size
    return 0


class StopMatcher:
    """Ends a text before the first of ``stops``, wherever the pieces were cut; ``met`` is that one, once it was found."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.met = ""

    def feed(self, text: str) -> tuple[str, bool]:
        """What can be shown after ``text`` arrived, and whether a stop was met; after that nothing more may be fed."""
        text = self._held + text
        found = [(at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self._held = ""
            first, self.met = min(found)
            return text[:first], True
        keep = max((held_back(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], False

    def flush(self) -> str:
        """What was held back, now that no more comes."""
        rest, self._held = self._held, ""
        return rest


def thinking_tags(prompt: str) -> tuple[str, str] | None:
    """The tags around the thought that ``prompt`` ends inside of, if it does.

    >>> thinking_tags("<|im_start|>assistant\\n<think>\\n")
    ('<think>', '</think>')
    """
    end = prompt.rstrip()
    return next((pair for pair in _TAGS if end.endswith(pair[0])), None)


def tags_in(template: str) -> tuple[str, str] | None:
    """The tags around thoughts that a template speaks of."""
    found = (pair for pair in _TAGS if pair[0] in template and pair[1].partition("><")[0] in template)
    return next(found, None)


def without_thoughts(text: str) -> str:
    """``text`` without thoughts and their tags.

    >>> without_thoughts("<think></think>\\n<tool_call>")
    '<tool_call>'
    """
    for opening, closing in _TAGS:
        text = re.sub(rf"\s*{re.escape(opening)}.*?{re.escape(closing)}\s*", "", text, flags=re.DOTALL)
    return text


class ThinkingSplitter:
    """Tells thoughts from the answer by a pair of tags. ``inside`` when the prompt has opened the thought already, ``begun`` when
    it ends in the middle of it, so that white space at the beginning counts.

    A thought is only looked for at the beginning of the text; the tags and the white space behind them belong to neither.
    White space before the closing tag is the thought's.
    """

    def __init__(self, opening: str, closing: str, *, inside: bool = False, begun: bool = False) -> None:
        self._opening, self._closing = opening, closing
        self._state: Literal["start", "opened", "thinking", "gap", "text"] = "opened" if inside else "start"
        if begun:
            self._state = "thinking"
        self._held = ""

    def feed(self, text: str) -> list[Piece]:
        """The pieces that are certain after ``text`` arrived."""
        self._held += text
        pieces: list[Piece] = []
        while self._step(pieces):
            pass
        return pieces

    def flush(self) -> list[Piece]:
        """What was held back, now that no more comes."""
        rest, self._held = self._held, ""
        if not rest or self._state in ("opened", "gap"):
            return []
        return [("thinking" if self._state == "thinking" else "text", rest)]

    def _step(self, pieces: list[Piece]) -> bool:
        """Move on by one mark; whether there may be another."""
        if self._state == "start":
            begin = self._held.lstrip()
            if begin.startswith(self._opening):
                self._held, self._state = begin[len(self._opening) :], "opened"
                return True
            if self._opening.startswith(begin):  # also when nothing but white space came so far
                return False
            self._state = "text"
        if self._state == "opened":
            self._held = self._held.lstrip()
            self._state = "thinking" if self._held else "opened"
        if self._state == "thinking":
            thought, closed, rest = self._held.partition(self._closing)
            keep = 0 if closed else held_back(thought, self._closing)
            if shown := thought[: len(thought) - keep]:
                pieces.append(("thinking", shown))
            self._held = rest if closed else thought[len(thought) - keep :]
            self._state = "gap" if closed else "thinking"
            return bool(closed)
        if self._state == "gap":
            self._held = self._held.lstrip()
            self._state = "text" if self._held else "gap"
        if self._state == "text" and self._held:
            pieces.append(("text", self._held))
            self._held = ""
        return False
