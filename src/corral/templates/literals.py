"""Literals of Go source text: quoted strings, characters, numbers.

Source: the Go specification, "Lexical elements", and what strconv makes of it.
"""

from __future__ import annotations

import math
import re

from corral.templates.values import decoded, encoded

_SIMPLE = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92}
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))", re.DOTALL)
_INTEGER = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+|0[0-7_]*|[1-9][0-9_]*)")
# Possessive, so that a long run of digits that is no number is not tried again and again.
_FLOAT = re.compile(r"[+-]?(?:[0-9_]*+\.?+[0-9_]*+)(?:[eE][+-]?[0-9][0-9_]*+)?")
_HEX_FLOAT = re.compile(r"[+-]?0[xX][0-9a-fA-F_]*+\.?+[0-9a-fA-F_]*+[pP][+-]?[0-9][0-9_]*+")
_HALF = (
    r"(?:0[xX][0-9a-fA-F_]*+\.?+[0-9a-fA-F_]*+(?:[pP][+-]?[0-9_]*+)?+"
    r"|[0-9_]*+\.?+[0-9_]*+(?:[eEpP][+-]?[0-9_]*+)?+)"
)
_COMPLEX = re.compile(rf"([+-]?{_HALF})([+-](?!i){_HALF})i")


class LiteralError(Exception):
    """A literal is not one; the text is Go's."""


def unquote(quoted: str) -> str:
    """The text of a quoted or raw string literal, with its quotes.

    >>> unquote('"a\\\\tb"')
    'a\\tb'
    """
    inner = quoted[1:-1]
    if quoted[0] == "`":
        return inner.replace("\r", "")
    if "\\" not in inner:
        return inner
    data = bytearray()
    at = 0
    while at < len(inner):
        if inner[at] != "\\":
            stop = inner.find("\\", at)
            stop = len(inner) if stop < 0 else stop
            data += encoded(inner[at:stop])
            at = stop
            continue
        value, at, is_rune = _escape(inner, at, '"')
        data += chr(value).encode() if is_rune else bytes([value])
    return decoded(bytes(data))


def character(quoted: str) -> int:
    """The code point of a character literal, with its quotes."""
    inner = quoted[1:]
    if inner[0] == "'":
        raise LiteralError("invalid syntax")
    if inner[0] == "\\":
        value, at, _ = _escape(inner, 0, "'")
    else:
        value, at = ord(inner[0]), 1
        value = 0xFFFD if 0xD800 <= value < 0xE000 else value
    if inner[at:] != "'":
        raise LiteralError(f"malformed character constant: {quoted}")
    return value


def _escape(text: str, at: int, quote: str) -> tuple[int, int, bool]:
    """The value of the escape at ``at``, where it ends, and whether it is a character and not a byte."""
    found = _ESCAPE.match(text, at)
    if not found:
        raise LiteralError("invalid syntax")
    byte, short, long, octal, other = found.groups()
    if byte:
        return int(byte, 16), found.end(), False
    if octal:
        if int(octal, 8) > 255:
            raise LiteralError("invalid syntax")
        return int(octal, 8), found.end(), False
    if rune := short or long:
        value = int(rune, 16)
        if value > 0x10FFFF or 0xD800 <= value < 0xE000:
            raise LiteralError("invalid syntax")
        return value, found.end(), True
    if other == quote:
        return ord(quote), found.end(), False
    if other not in _SIMPLE:
        raise LiteralError("invalid syntax")
    return _SIMPLE[other], found.end(), False


def number(text: str, *, pair: bool = False) -> int | float | complex:
    """The value of a number; an ``int`` may be too large for Go's. ``pair`` is for ``1+2i``.

    >>> number("0x_1F"), number("1e3"), number("2i")
    (31, 1000.0, 2j)
    """
    if pair:
        return _complex(text)
    if text.endswith("i") and (imaginary := _float(text[:-1])) is not None:
        return complex(0, imaginary)
    integer = _integer(text)
    if integer is not None and -(1 << 63) <= integer < 1 << 64:
        return integer
    real = _float(text)
    if real is None:
        raise LiteralError(f"illegal number syntax: {go_quote(text)}")
    if not any(mark in text for mark in ".eEpP"):
        raise LiteralError(f"integer overflow: {go_quote(text)}")
    return real


def go_quote(text: str) -> str:
    """A number's text in quotes; it has nothing to escape."""
    return f'"{text}"'


def _complex(text: str) -> complex:
    found = _COMPLEX.fullmatch(text)
    if not found:
        raise LiteralError("syntax error scanning complex number")
    return complex(_part(found[1]), _part(found[2]))


def _part(text: str) -> float:
    """One half of a pair, which may have a binary exponent after a decimal number."""
    mantissa, mark, exponent = text.partition("p")
    if mark and "x" not in text.lower():
        real = _float(mantissa)
        if real is None:
            raise _not_a_float("ParseFloat", text, mantissa)
        if not re.fullmatch(r"[+-]?[0-9]+", exponent):
            raise _not_a_float("Atoi", text, exponent)
        return _scaled(real, int(exponent))
    real = _float(text)
    if real is None:
        raise _not_a_float("ParseFloat", text, text)
    return real


def _not_a_float(what: str, text: str, part: str) -> LiteralError:
    number = re.match(r"[+-]?[0-9_.]*[0-9]", part) and (_FLOAT.fullmatch(part) or _HEX_FLOAT.fullmatch(part))
    why = "value out of range" if what == "ParseFloat" and number and _underscores_fit(part) else "invalid syntax"
    return LiteralError(f"strconv.{what}: parsing {go_quote(text)}: {why}")


def _scaled(real: float, exponent: int) -> float:
    try:
        return math.ldexp(real, exponent)
    except OverflowError:
        return math.copysign(math.inf, real)


def _integer(text: str) -> int | None:
    if not _INTEGER.fullmatch(text) or not _underscores_fit(text):
        return None
    sign, digits = (text[0], text[1:]) if text[0] in "+-" else ("", text)
    digits = digits.replace("_", "")
    prefix = digits[:2].lower()
    base = {"0x": 16, "0b": 2, "0o": 8}.get(prefix)
    if base:
        digits = digits[2:]
        if not digits:
            return None
    else:
        base = 8 if digits[0] == "0" else 10
    if len(digits) > 70:  # no Go integer; Python refuses to read very long ones
        return 1 << 64
    value = int(digits, base)
    return -value if sign == "-" else value


def _float(text: str) -> float | None:
    """A float that Go can hold, or ``None``."""
    if not _underscores_fit(text):
        return None
    digits = text.replace("_", "")
    try:
        if _HEX_FLOAT.fullmatch(text):
            value = float.fromhex(digits)
        elif re.search(r"[0-9]", text) and _FLOAT.fullmatch(text):
            value = float(digits)
        else:
            return None
    except (ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def _underscores_fit(text: str) -> bool:
    """Whether underscores stand between digits, or between a prefix and a digit."""
    if "_" not in text:
        return True
    text = text.lstrip("+-")
    is_hex = text[:2].lower() == "0x"
    body = text[2:] if text[:2].lower() in ("0x", "0b", "0o") else text
    before = "0" if body is not text else "^"
    for mark in body.lower():
        if mark.isdigit() or (is_hex and mark in "abcdef"):
            before = "0"
        elif mark == "_":
            if before != "0":
                return False
            before = "_"
        else:
            if before == "_":
                return False
            before = "!"
    return before != "_"
