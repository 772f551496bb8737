"""printf: reads a format and prints its arguments, with Go's complaints about what does not fit."""

from __future__ import annotations

import re
from collections.abc import Sequence

from corral.templates.limits import Budget
from corral.templates.printing import Printer
from corral.templates.values import Kind, kind_of, plain, type_of, unwrapped
from corral.templates.verbs import Flags

_MAX_WIDTH = 1_000_000
_DIGITS = re.compile("[0-9]+")
_FLAGS = {"#": "sharp", "0": "zero", "+": "plus", "-": "minus", " ": "space"}


def sprintf(template: str, values: Sequence[object], budget: Budget) -> str:
    """As fmt.Sprintf. TemplateError: what it prints is too long."""
    return _Format(template, [unwrapped(value) for value in values], budget).run()


class _Format:
    def __init__(self, text: str, values: list[object], budget: Budget) -> None:
        self._text = text
        self._values = values
        self._printer = Printer(budget)
        self._at = 0
        self._argument = 0
        self._reordered = False  # an index like [2] was used: surplus arguments are not told
        self._good_index = True
        self._after_index = False  # the last thing read was an index

    def run(self) -> str:
        write = self._printer.write
        while self._at < len(self._text):
            percent = self._text.find("%", self._at)
            if percent < 0:
                write(self._text[self._at :])
                break
            if percent > self._at:
                write(self._text[self._at : percent])
            self._at = percent + 1
            self._printer.flags = Flags()
            self._good_index = True
            self._directive()
        if not self._reordered and self._argument < len(self._values):
            self._surplus()
        return self._printer.text()

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _directive(self) -> None:
        """Print what the directive after a percent sign asks for."""
        flags = self._printer.flags
        while name := _FLAGS.get(self._peek()):
            setattr(flags, name, True)
            self._at += 1
        if "a" <= self._peek() <= "z" and self._argument < len(self._values):
            self._at += 1
            self._print(self._text[self._at - 1])
            return
        self._index()
        self._width()
        self._precision()
        if not self._after_index:
            self._index()
        verb = self._peek()
        if not verb:
            self._printer.write("%!(NOVERB)")
            return
        self._at += 1
        verb = "�" if "\ud800" <= verb <= "\udfff" else verb
        if verb == "%":
            self._printer.write("%")
        elif not self._good_index:
            self._printer.write(f"%!{verb}(BADINDEX)")
        elif self._argument >= len(self._values):
            self._printer.write(f"%!{verb}(MISSING)")
        else:
            self._print(verb)

    def _print(self, verb: str) -> None:
        flags = self._printer.flags
        if verb in "vw":
            flags.sharp_v, flags.sharp = flags.sharp, False
            flags.plus_v, flags.plus = flags.plus, False
        self._argument += 1
        self._printer.argument(self._values[self._argument - 1], verb)

    def _width(self) -> None:
        flags = self._printer.flags
        if self._peek() == "*":
            self._at += 1
            flags.width = self._integer_argument()
            if flags.width is None:
                self._printer.write("%!(BADWIDTH)")
            elif flags.width < 0:
                flags.width, flags.minus, flags.zero = -flags.width, True, False
            self._after_index = False
            return
        flags.width = self._number()
        if self._after_index and flags.width is not None:
            self._good_index = False

    def _precision(self) -> None:
        flags = self._printer.flags
        if self._peek() != "." or self._at + 1 >= len(self._text):
            return
        self._at += 1
        if self._after_index:
            self._good_index = False
        self._index()
        if self._peek() == "*":
            self._at += 1
            flags.precision = self._integer_argument()
            if flags.precision is not None and flags.precision < 0:
                flags.precision = None
            if flags.precision is None:
                self._printer.write("%!(BADPREC)")
            self._after_index = False
        else:
            flags.precision = self._number() or 0

    def _number(self) -> int | None:
        """The number that stands here; one that is too large swallows the rest of the format, as in Go."""
        found = _DIGITS.match(self._text, self._at)
        if not found:
            return None
        value = 0
        for digit in found[0]:
            if value > _MAX_WIDTH:
                self._at = len(self._text)
                return None
            value = value * 10 + int(digit)
        self._at = found.end()
        return value

    def _integer_argument(self) -> int | None:
        """The next argument, where it is an integer that can be a width."""
        if self._argument >= len(self._values):
            return None
        value = self._values[self._argument]
        self._argument += 1
        number = plain(value)
        if kind_of(value) not in (Kind.INT, Kind.UINT) or not isinstance(number, int) or abs(number) > _MAX_WIDTH:
            return None
        return number

    def _index(self) -> None:
        """Read an index like ``[2]``, if one stands here."""
        self._after_index = False
        if self._peek() != "[":
            return
        self._reordered = True
        close = self._text.find("]", self._at)
        if len(self._text) - self._at < 3 or close < 0:
            self._good_index = False
            self._at += 1
            return
        inside = self._text[self._at + 1 : close]
        self._at = close + 1
        index = int(inside) if len(inside) < 9 and _DIGITS.fullmatch(inside) else 0
        if index and index <= len(self._values):
            self._argument = index - 1
            self._after_index = True
            return
        self._good_index = False
        self._after_index = bool(_DIGITS.fullmatch(inside)) and len(inside) < 9

    def _surplus(self) -> None:
        self._printer.flags = Flags()
        self._printer.write("%!(EXTRA ")
        for number, value in enumerate(self._values[self._argument :]):
            if number:
                self._printer.write(", ")
            if value is None:
                self._printer.write("<nil>")
            else:
                self._printer.write(f"{type_of(value).name}=")
                self._printer.argument(value)
        self._printer.write(")")
