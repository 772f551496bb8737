"""Answers that a grammar held to a form of calls, read by it to the letter."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, Literal

import orjson

from corral.parsing.calls import ParsedCall
from corral.parsing.forms import ID, CallForm, Tagged
from corral.parsing.json_text import ObjectScanner
from corral.parsing.marks import held_back
from corral.parsing.pieces import Splitter, ToolPiece

Place = int | Literal["open", "other"]  # where something ends; or it may still come; or something else stands there


def after(part: str, text: str, at: int = 0) -> Place:
    """Where ``part`` of a form, in which `ID` stands for any number or name, ends in ``text``, if it stands at ``at``.

    >>> after(', "id": "\\0"}', ', "id": "abc"} and more'), after("</a>", "</"), after("</a>", "<b>")
    (14, 'open', 'other')
    """
    for number, literal in enumerate(part.split(ID)):
        if number:
            while at < len(text) and (text[at].isalnum() or text[at] in "_-"):
                at += 1
            if at == len(text):
                return "open"
        if not text.startswith(literal, at):
            return "open" if literal.startswith(text[at:]) else "other"
        at += len(literal)
    return at


class FormSplitter(Splitter):
    """Tells calls from text, in an answer that was held to ``form``. ``texts`` are the tools that may be called.

    With each stand the arguments that are texts, which a form may write without quotes.
    """

    def __init__(self, form: CallForm, texts: Mapping[str, Collection[str]]) -> None:
        super().__init__()
        self._form = form
        self._texts = texts
        self._names = sorted(texts, key=len, reverse=True)
        self._at: int | None = None  # where the name of a call is looked for
        self._after = False  # a call stands before it
        self._leads = bool(form.lead)  # what stands before an answer may come
        self._first = True  # nothing was shown

    def _step(self, pieces: list[ToolPiece], ended: bool) -> bool:
        if self._at is not None:
            return self._call(pieces, ended)
        if self._after:
            return self._between(pieces, ended)
        if self._leads:
            return self._lead(pieces, ended)
        return self._text(pieces, ended)

    def _lead(self, pieces: list[ToolPiece], ended: bool) -> bool:
        """Leave out what stands before an answer."""
        begin = self._held.lstrip()
        place = after(self._form.lead, begin)
        if place == "open" and not ended:
            return False
        self._leads = False
        if isinstance(place, int):
            self._take(pieces, len(self._held) - len(begin) + place)
        return True

    def _text(self, pieces: list[ToolPiece], ended: bool) -> bool:
        begin, trail = self._form.begin, self._form.trail
        first = begin.partition(ID)[0]
        at = self._held.find(first) if first and self._names else -1
        if at >= 0 and (place := after(begin, self._held, at)) != "other":
            if self._first and not self._held[:at].strip():
                self._take(pieces, at)
                at = 0
                place = after(begin, self._held)
            self._show(pieces, at)
            if not isinstance(place, int):
                if ended:
                    self._show(pieces, len(self._held))
                return False
            self._at = place - at
            return True
        if at >= 0:  # something else that begins alike
            self._show(pieces, at + 1)
            return True
        if ended:
            if trail and self._held.endswith(trail):
                self._show(pieces, len(self._held) - len(trail))
                self._take(pieces, len(trail))
            self._show(pieces, len(self._held))
            return False
        keep = held_back(self._held, first) if self._names else 0
        if trail:
            keep = max(keep, held_back(self._held, trail), len(trail) if self._held.endswith(trail) else 0)
        shown = len(self._held) - keep
        if self._first and self._names and not self._held[:shown].strip():
            return False  # it may stand before a call
        self._show(pieces, shown)
        return False

    def _call(self, pieces: list[ToolPiece], ended: bool) -> bool:
        assert self._at is not None
        form, waits = self._form, False
        for name in self._names:
            start = after(name + form.middle, self._held, self._at)
            if start == "open":
                waits = True
            if not isinstance(start, int):
                continue
            end, arguments = self._arguments(name, start)
            if end == "open":
                waits = True
            if isinstance(end, int):
                source, self._held = self._held[start:end], self._held[end:]
                pieces.append(ParsedCall(name, arguments, source))
                self._at, self._after, self._first = None, True, False
                return True
        if waits and not ended:
            return False
        return self._no_call(pieces)

    def _arguments(self, name: str, start: int) -> tuple[Place, str]:
        """Where the arguments that begin at ``start`` end, and what they are as JSON."""
        if self._form.arguments is not None:
            return self._tagged(self._form.arguments, name, start)
        end: Any = ObjectScanner(start).end(self._held) if self._held[start:] else "open"
        return (end, self._held[start:end]) if isinstance(end, int) else ("open" if end == "open" else "other", "")

    def _tagged(self, tags: Tagged, name: str, at: int) -> tuple[Place, str]:
        text, found = self._held, dict[str, Any]()
        while True:
            begin = after((tags.separator if found else "") + tags.key, text, at)
            ends = [after(part, text, at) for part in (self._form.end, self._form.joint) if part]
            if any(isinstance(end, int) for end in ends):
                return at, orjson.dumps(found).decode()
            if not isinstance(begin, int):
                if begin == "open" or "open" in ends:
                    return "open", ""
                return (
                    (at, orjson.dumps(found).decode()) if not any((self._form.end, self._form.joint)) else ("other", "")
                )
            closed = text.find(tags.value, begin)
            if closed < 0:
                return "open", ""
            key, value_at = text[begin:closed], closed + len(tags.value)
            end, found[key] = self._value(tags, key in self._texts[name], value_at)
            if not isinstance(end, int):
                return end, ""
            at = end

    def _value(self, tags: Tagged, is_text: bool, at: int) -> tuple[Place, Any]:
        text = self._held
        if tags.quote and (opened := after(tags.quote, text, at)) != "other":
            closed = text.find(tags.unquote + tags.after, opened) if isinstance(opened, int) else -1
            if not isinstance(opened, int) or closed < 0:
                return "open", None
            return closed + len(tags.unquote + tags.after), text[opened:closed]
        if tags.after:
            mark = ("" if tags.quote else tags.unquote) + tags.after
            closed = text.find(mark, at)
            if closed < 0:
                return "open", None
            return closed + len(mark), text[at:closed] if is_text else _json_or_text(text[at:closed])
        try:
            value, end = json.JSONDecoder().raw_decode(text, at)
        except json.JSONDecodeError:
            return "open", None
        return (end, value) if end < len(text) else ("open", None)

    def _between(self, pieces: list[ToolPiece], ended: bool) -> bool:
        form = self._form
        joined = after(form.joint, self._held) if form.joint is not None else "other"
        if isinstance(joined, int):
            self._at, self._after = joined, False
            return True
        closed = after(form.end, self._held)
        if not ended and "open" in (joined, closed):
            return False
        if isinstance(closed, int):
            self._take(pieces, closed)
        elif "open" in (joined, closed):  # cut off behind a call that is whole
            self._take(pieces, len(self._held))
        self._after = False
        return True

    def _no_call(self, pieces: list[ToolPiece]) -> bool:
        """What began a call was text after all."""
        assert self._at is not None
        self._show(pieces, max(self._at, 1))
        self._at = None
        return True

    def _show(self, pieces: list[ToolPiece], length: int) -> str:
        text = super()._show(pieces, length)
        self._first = self._first and not text.strip()
        return text


def _json_or_text(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
