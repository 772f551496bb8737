"""Tool calls in a stream of text, by the tag that a model's template puts before them.

A call is taken out of the text only when it is whole, is JSON, and calls a tool that the request listed. Whatever else stands
behind a tag comes back as text: nothing that a model wrote is lost.

    text ──tag──► section ──an object that is a call──► between ──► section (another call), or text
      ▲              └── anything else: the tag is text, and what follows it is read again ──┘
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace
from typing import Literal

from corral.parsing.calls import FIRST_KEYS, calls_in
from corral.parsing.json_text import ObjectScanner
from corral.parsing.marks import held_back
from corral.parsing.pieces import Splitter, ToolPiece

_MOST_BEFORE = 256  # characters between a tag and its object; behind a longer text it is no call
_SPECIAL = r"<[|｜][^<>\n]{1,60}[|｜]>"  # how many families write their control tokens
_SPECIAL_BEGUN = re.compile(r"<(?:[|｜][^<>\n]{0,61})?")
_MARKUP = re.compile(rf"(?:\s|,|;|\[ARGS\]|\[|```(?:json)?|{_SPECIAL})*")
_AROUND_NAME = rf"(?:function|functions\.|\s|\[ARGS\]|\[|```(?:json)?|{_SPECIAL})*"
_BARE = re.compile(r"\n[^\S\n]*[{\[]")
_BARE_AT_ONCE = re.compile(r"[^\S\n]*[{\[]")
_SEPARATOR = re.compile(r"[,;]?\s{0,64}")


class ToolCallSplitter(Splitter):
    """Tells calls from text. ``tag`` is what stands before calls, ``closing`` what stands behind; ``names`` are the tools.

    A tag that is only a bracket, or none, means that a call is an object of JSON where a line begins.
    Pieces that are "markup" belong to calls: tags, and white space and brackets around and between calls.
    """

    def __init__(self, tag: str, names: Collection[str], closing: str | None = None) -> None:
        super().__init__()
        # Models do not repeat the white space and brackets that a template has behind its tag.
        self._tag = re.sub(r"(?:[\s\[{]|```(?:json)?)*$", "", tag.strip())
        if closing is None:
            found = re.search(r"<([\w.-]+)>$", self._tag)
            closing = f"</{found[1]}>" if found else ""
        self._closing = closing.strip()
        self._ends = tuple(mark for mark in (self._closing, self._tag) if mark)
        marks = (r"\s", "```", _SPECIAL, re.escape(self._closing)) if self._closing else (r"\s", "```", _SPECIAL)
        self._behind = {array: re.compile(f"(?:{'|'.join((*marks, *array))})*") for array in ("", "]")}
        self._names = tuple(sorted(filter(None, names), key=len, reverse=True))
        self._state: Literal["text", "section", "between"] = "text"
        self._line_start = True
        self._scanner: ObjectScanner | None = None
        self._after_call = False  # the section has no tag of its own: it follows a call
        self._outside = False  # the last call's name stood before its object
        self._array: Literal["", "]"] = ""  # what closes the list that the last call stood in
        self._tag_opens_array = tag.rstrip().endswith("[")

    def _step(self, pieces: list[ToolPiece], ended: bool) -> bool:
        steps = {"text": self._text, "section": self._section, "between": self._between}
        return steps[self._state](pieces, ended)

    # -- text -------------------------------------------------------------------------------------------------

    def _text(self, pieces: list[ToolPiece], ended: bool) -> bool:
        """Show text up to the next tag; whether there is one."""
        at = self._held.find(self._tag) if self._tag else self._bare_object()
        found = at >= 0
        if not found:
            at = len(self._held) if ended or not self._tag else len(self._held) - held_back(self._held, self._tag)
        self._show(pieces, at)
        self._state = "section" if found else "text"
        self._after_call = False
        return found

    def _bare_object(self) -> int:
        """Where a line begins with a bracket, or -1."""
        found = (self._line_start and _BARE_AT_ONCE.match(self._held)) or _BARE.search(self._held)
        return found.end() - 1 if found else -1

    def _show(self, pieces: list[ToolPiece], length: int) -> str:
        text = super()._show(pieces, length)
        if text:
            _, newline, line = text.rpartition("\n")
            self._line_start = not line.strip() and (bool(newline) or self._line_start)
        return text

    # -- a section: a tag, and perhaps a call ---------------------------------------------------------------------

    def _section(self, pieces: list[ToolPiece], ended: bool) -> bool:
        """Read the call behind the tag with which what is held begins; whether what follows can be read now."""
        start = 0 if self._after_call else len(self._tag)
        end = self._object_end(start)
        if end == "open" and not ended:
            return False
        if not isinstance(end, int) or self._scanner is None:
            return self._no_call(pieces)
        before, source = self._held[start : self._scanner.start], self._held[self._scanner.start : end]
        named = self._name_in(before)
        calls = calls_in(source, self._names, named)
        is_markup = self._is_markup(before, named)
        if not calls or (self._after_call and not is_markup):
            return self._no_call(pieces)
        self._take(pieces, start)
        if is_markup:
            self._take(pieces, len(before))
        else:
            self._show(pieces, len(before))
        pieces += [replace(call, source="" if number else source) for number, call in enumerate(calls)]
        self._held = self._held[len(source) :]
        self._outside, self._scanner, self._state = named is not None, None, "between"
        if "[" in before.replace("[ARGS]", "") or (start and self._tag_opens_array):
            self._array = "]"
        return True

    def _no_call(self, pieces: list[ToolPiece]) -> bool:
        """What began the section was text after all; go on behind it."""
        if not self._after_call:
            self._show(pieces, max(len(self._tag), 1))
        self._scanner, self._state = None, "text"
        self._after_call = False
        return True

    def _object_end(self, start: int) -> int | Literal["open", "broken", "none"]:
        """Where the object of a section ends; `_scanner` knows where it begins."""
        if self._scanner is None:
            begin = self._object_start(start)
            if not isinstance(begin, int):
                return begin
            self._scanner = ObjectScanner(begin, self._ends)
        return self._scanner.end(self._held)

    def _object_start(self, start: int) -> int | Literal["open", "none"]:
        """Where the object begins, if one does soon behind ``start``, and before anything ends the section."""
        if not self._tag or (self._after_call and not self._outside):
            return self._next_object(start)
        brace = self._held.find("{", start, start + _MOST_BEFORE)
        reached = brace if brace >= 0 else min(len(self._held), start + _MOST_BEFORE)
        if any(0 <= self._held.find(mark, start) < reached for mark in self._ends):
            return "none"
        if brace >= 0:
            return brace
        return "open" if len(self._held) < start + _MOST_BEFORE else "none"

    def _next_object(self, start: int) -> int | Literal["open", "none"]:
        """Where an object without a tag begins: at once, and with a key that a call may begin with."""
        at = start
        while at < len(self._held) and self._held[at] in " \t\r\n[,;":
            at += 1
        if at - start > _MOST_BEFORE:
            return "none"
        if at == len(self._held):
            return "open"
        if self._held[at] != "{":
            return "none"
        begin = self._held[at + 1 : at + 1 + _MOST_BEFORE].lstrip()
        if not begin:
            return "open" if len(self._held) <= at + _MOST_BEFORE else "none"
        key, closed, _ = begin[1:].partition('"')
        allowed = (*FIRST_KEYS, *self._names)
        if begin[0] != '"' or not (key in allowed if closed else any(name.startswith(key) for name in allowed)):
            return "none"
        return at if closed else "open"

    def _name_in(self, before: str) -> str | None:
        """The tool whose name stands in ``before`` as a word of its own; the longest, if there are several."""
        return next((n for n in self._names if re.search(rf"(?<!\w){re.escape(n)}(?!\w)", before)), None)

    def _is_markup(self, before: str, named: str | None) -> bool:
        if named is not None:
            return re.fullmatch(_AROUND_NAME + re.escape(named) + _AROUND_NAME, before) is not None
        return _MARKUP.fullmatch(before) is not None

    # -- behind a call ----------------------------------------------------------------------------------------------

    def _between(self, pieces: list[ToolPiece], ended: bool) -> bool:
        """Skip what closes a call; whether what follows can be read now: another call, or text."""
        closers = self._behind[self._array].match(self._held)
        self._take(pieces, closers.end() if closers else 0)
        rest = self._held
        if not rest or (not ended and self._may_close(rest)):
            return False
        separator = _SEPARATOR.match(rest)
        next_at = separator.end() if separator else 0
        if next_at == len(rest) and not ended:
            return False
        self._after_call = self._outside or rest[next_at : next_at + 1] == "{"
        self._state, self._line_start = ("section" if self._after_call else "text"), True
        return True

    def _may_close(self, rest: str) -> bool:
        """Whether ``rest`` may be the beginning of a mark that closes a call."""
        begun = any(mark.startswith(rest) for mark in ("```", self._closing))
        return begun or _SPECIAL_BEGUN.fullmatch(rest) is not None
