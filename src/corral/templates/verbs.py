"""How Go's fmt prints one number, text or truth under a verb with flags."""

from __future__ import annotations

from dataclasses import dataclass

from corral.templates.floats import format_float
from corral.templates.limits import Budget, Output
from corral.templates.quoting import can_backquote, is_printable, quote, quote_char

_BASES = {2: "b", 8: "o", 10: "d", 16: "x"}


@dataclass(slots=True)
class Flags:
    """What stands between the percent sign and the verb."""

    minus: bool = False
    plus: bool = False
    sharp: bool = False
    space: bool = False
    zero: bool = False
    plus_v: bool = False  # %+v
    sharp_v: bool = False  # %#v
    width: int | None = None
    precision: int | None = None


class Writer:
    """Writes single values; ``flags`` hold until they are changed."""

    def __init__(self, budget: Budget) -> None:
        self._out = Output(budget)
        self.flags = Flags()

    def write(self, text: str) -> None:
        """Add ``text`` as it is."""
        self._out.budget.spend(1 + (len(text) >> 5))
        self._out.write(text)

    def text(self) -> str:
        """Everything written."""
        return self._out.text()

    def padding(self, count: int, *, zeros: bool = True) -> None:
        """``count`` blanks, or zeros where the flags want those."""
        if count > 0:
            self.write(("0" if zeros and self.flags.zero and not self.flags.minus else " ") * count)

    def pad(self, text: str, *, zeros: bool = True) -> None:
        """``text`` in the width that is wanted."""
        room = (self.flags.width or 0) - len(text)
        if not self.flags.minus:
            self.padding(room, zeros=zeros)
        self.write(text)
        if self.flags.minus:
            self.padding(room, zeros=zeros)

    def string(self, text: str) -> None:
        """``%s``: no more characters than the precision."""
        self.pad(text if self.flags.precision is None else text[: self.flags.precision])

    def quoted(self, text: str) -> None:
        """``%q``"""
        if self.flags.precision is not None:
            text = text[: self.flags.precision]
        self._out.budget.spend(len(text) >> 2)  # each character is looked at
        if self.flags.sharp and can_backquote(text):
            self.pad(f"`{text}`")
        else:
            self.pad(quote(text, ascii_only=self.flags.plus))

    def hex_string(self, data: bytes, *, upper: bool) -> None:
        """``%x`` of text or bytes."""
        flags = self.flags
        data = data if flags.precision is None else data[: flags.precision]
        if not data:
            self.padding(flags.width or 0)
            return
        mark = "0X" if upper else "0x"
        separator = " " + (mark if flags.sharp else "") if flags.space else ""
        pieces = [f"{byte:02X}" if upper else f"{byte:02x}" for byte in data]
        text = (mark if flags.sharp else "") + separator.join(pieces)
        room = (flags.width or 0) - len(text)
        if not flags.minus:
            self.padding(room)
        self.write(text)
        if flags.minus:
            self.padding(room)

    def integer(self, value: int, base: int, verb: str) -> None:
        """An integer in a base; ``verb`` X is in capitals, O has the prefix 0o."""
        flags = self.flags
        size = abs(value)
        digits_wanted = 0
        if flags.precision is not None:
            digits_wanted = flags.precision
            if not digits_wanted and not size:
                self.padding(flags.width or 0, zeros=False)
                return
        elif flags.zero and not flags.minus and flags.width is not None:
            digits_wanted = flags.width - (value < 0 or flags.plus or flags.space)
        text = format(size, _BASES[base]).rjust(digits_wanted, "0")
        if flags.sharp:
            text = {2: "0b", 8: "" if text[0] == "0" else "0", 16: "0x"}.get(base, "") + text
        if verb == "X":
            text = text.upper()
        if verb == "O":
            text = "0o" + text
        sign = "-" if value < 0 else "+" if flags.plus else " " if flags.space else ""
        self.pad(sign + text, zeros=False)

    def address(self, value: int, *, prefix: bool) -> None:
        """An unsigned number in hexadecimal, with 0x or not, whatever the flags say."""
        sharp, self.flags.sharp = self.flags.sharp, prefix
        self.integer(value, 16, "v")
        self.flags.sharp = sharp

    def unicode(self, value: int) -> None:
        """``%U``: U+0041, with a sharp also the character."""
        text = f"U+{value:0{max(4, self.flags.precision or 0)}X}"
        if self.flags.sharp and value <= 0x10FFFF and is_printable(chr(value)):
            text += f" '{chr(value)}'"
        self.pad(text, zeros=False)

    def character(self, value: int) -> None:
        """``%c``"""
        self.pad(chr(value) if value <= 0x10FFFF and not 0xD800 <= value < 0xE000 else "�")

    def quoted_character(self, value: int) -> None:
        """``%q`` of an integer"""
        self.pad(quote_char(value, ascii_only=self.flags.plus))

    def float(self, value: float, verb: str, precision: int) -> None:
        """A float; the flags' precision goes before ``precision``."""
        flags = self.flags
        if flags.precision is not None:
            precision = flags.precision
        text = format_float(value, verb, precision)
        text = text if text[0] in "+-" else "+" + text
        if flags.space and text[0] == "+" and not flags.plus:
            text = " " + text[1:]
        if text[1] in "IN":
            shown = text if flags.plus or text[0] != "+" else text[1:]
            if text[1] == "N" and not flags.space and not flags.plus:
                shown = text[1:]
            if text[1] == "I" and text[0] == "+":
                shown = text
            self.pad(shown, zeros=False)
            return
        if flags.sharp and verb != "b":
            text = _with_point(text, verb, precision)
        if not flags.plus and text[0] == "+":
            self.pad(text[1:])
        elif flags.zero and not flags.minus and (flags.width or 0) > len(text):
            self.write(text[0])
            self.padding((flags.width or 0) - len(text))
            self.write(text[1:])
        else:
            self.pad(text)


def _with_point(text: str, verb: str, precision: int) -> str:
    """``%#g`` and its like: a decimal point always, and zeros up to the precision. ``text`` begins with a sign."""
    missing = 0
    if verb in "gGx":
        missing = 6 if precision == -1 else precision
    marks = "pP" if verb in "xX" else "pPeE"
    cut = next((at for at, char in enumerate(text) if at and char in marks), len(text))
    number, tail = text[:cut], text[cut:]
    seen_digit = False
    for char in number[1:]:
        if char == ".":
            continue
        seen_digit = seen_digit or char != "0"
        missing -= seen_digit
    if "." not in number:
        missing -= number[1:] == "0"
        number += "."
    return number + "0" * max(missing, 0) + tail
