"""The form in which a model's template writes calls, found by looking at one that it wrote; and answers in that very form.

An answer that a grammar held to the form is read by it to the letter; one that is free is read by `corral.parsing.tools`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass

from corral.parsing.calls import ParsedCall
from corral.parsing.json_text import ObjectScanner
from corral.parsing.marks import held_back
from corral.parsing.tools import ToolPiece

# What a template is given to write, and looked for in what it wrote.
TEXT = "corral_said_this"
NAMES = ("corral_first_tool", "corral_second_tool")
RESULT = "corral_result"
ARGUMENTS = ('{"corral_key": "corral_value"}', '{"corral_other": "corral_more"}')
_TAIL = re.compile(r"\s*(?:<[^<>\s]+>|\S{0,12})")  # what ends a turn
_VALUES = tuple(json.loads(arguments) for arguments in ARGUMENTS)


@dataclass(frozen=True, slots=True)
class CallForm:
    """A call is ``begin``, a name, ``middle``, its arguments; ``joint`` stands before a further one's name, ``end`` last.

    An empty ``joint`` means that there is no further one.
    """

    begin: str
    middle: str
    joint: str
    end: str


USUAL = CallForm('{"name": "', '", "arguments": ', '}\n{"name": "', "}")


def call_form(said: str, called: str, calls: int = len(NAMES)) -> CallForm | None:
    """The form of calls, from a conversation in which a turn says `TEXT` and one in which it makes ``calls`` instead.

    ``None`` where arguments are not written as an object of JSON behind a name.
    """
    text = said.find(TEXT)
    made = NAMES[:calls]
    names = [called.find(name) for name in made]
    if text < 0 or min(names) < 0:
        return None
    start = next((at for at in range(text) if called[at : at + 1] != said[at]), text)
    ends, begins = [], []
    for at, name, value in zip(names, made, _VALUES, strict=False):
        begin = called.find("{", at + len(name))
        end = _object_end(called, begin, value)
        if begin < 0 or end is None:
            return None
        begins.append(begin)
        ends.append(end)
    middles = {called[at + len(name) : begin] for at, name, begin in zip(names, made, begins, strict=True)}
    tail = _TAIL.match(said[text + len(TEXT) :])
    finish = called.find(tail[0], ends[-1]) if tail and tail[0].strip() else -1
    middle = middles.pop()
    if finish < 0 or middles or not middle.strip('" '):
        return None
    joint = called[ends[0] : names[1]] if calls > 1 else ""
    return CallForm(called[start : names[0]].lstrip(), middle, joint, called[ends[-1] : finish].rstrip())


def _object_end(text: str, begin: int, value: object) -> int | None:
    if begin < 0:
        return None
    try:
        found, end = json.JSONDecoder().raw_decode(text, begin)
    except json.JSONDecodeError:
        return None
    return end if found == value else None


class FormSplitter:
    """Tells calls from text, in an answer that was held to ``form``. ``names`` are the tools that may be called."""

    def __init__(self, form: CallForm, names: Collection[str]) -> None:
        self._form = form
        self._begins = tuple(f"{name}{form.middle}" for name in names)
        self._names = tuple(names)
        self._held = ""
        self._at: int | None = None  # where the name of a call is looked for
        self._after = False  # a call stands before it

    def feed(self, text: str) -> list[ToolPiece]:
        """The pieces that are certain after ``text`` arrived."""
        self._held += text
        return self._read(ended=False)

    def flush(self) -> list[ToolPiece]:
        """What was held back, now that no more comes."""
        return self._read(ended=True)

    def _read(self, *, ended: bool) -> list[ToolPiece]:
        pieces: list[ToolPiece] = []
        while self._held and self._step(pieces, ended):
            pass
        return pieces

    def _step(self, pieces: list[ToolPiece], ended: bool) -> bool:
        if self._at is not None:
            return self._call(pieces, ended)
        if self._after:
            return self._between(pieces, ended)
        at = self._held.find(self._form.begin)
        if at < 0:
            self._show(pieces, len(self._held) - (0 if ended else held_back(self._held, self._form.begin)))
            return False
        self._show(pieces, at)
        self._at = len(self._form.begin)
        return True

    def _call(self, pieces: list[ToolPiece], ended: bool) -> bool:
        assert self._at is not None
        rest = self._held[self._at :]
        begin = next((begin for begin in self._begins if rest.startswith(begin)), None)
        if begin is None:
            if not ended and any(begin.startswith(rest) for begin in self._begins):
                return False
            return self._no_call(pieces)
        name = self._names[self._begins.index(begin)]
        start = self._at + len(begin)
        end = ObjectScanner(start).end(self._held) if self._held[start:] else "open"
        if not isinstance(end, int):
            return self._no_call(pieces) if ended or end == "broken" else False
        source, self._held = self._held[start:end], self._held[end:]
        pieces.append(ParsedCall(name, source, source))
        self._at, self._after = None, True
        return True

    def _between(self, pieces: list[ToolPiece], ended: bool) -> bool:
        joint, end = self._form.joint, self._form.end
        if joint and self._held.startswith(joint):
            self._at, self._after = len(joint), False
            return True
        if not ended and any(rest.startswith(self._held) and rest != self._held for rest in (joint, end)):
            return False
        if self._held.startswith(end):
            pieces.append(("markup", end))
            self._held = self._held[len(end) :]
        elif end.startswith(self._held):  # cut off behind a call that is whole
            pieces.append(("markup", self._held))
            self._held = ""
        self._after = False
        return True

    def _no_call(self, pieces: list[ToolPiece]) -> bool:
        """What began a call was text after all."""
        assert self._at is not None
        self._show(pieces, self._at)
        self._at = None
        return True

    def _show(self, pieces: list[ToolPiece], length: int) -> None:
        text, self._held = self._held[:length], self._held[length:]
        if text:
            pieces.append(("text", text))
