"""How Go quotes text and characters, and which of them it takes for printable."""

from __future__ import annotations

import re
import unicodedata

_NAMED = {7: "\\a", 8: "\\b", 12: "\\f", 10: "\\n", 13: "\\r", 9: "\\t", 11: "\\v"}
_PLAIN = re.compile(r"[ !#-\[\]-~]*")  # printable ASCII without quote and backslash


def is_printable(char: str) -> bool:
    """Whether Go prints a character as it is: letters, marks, numbers, punctuation, symbols and the ASCII blank."""
    return char == " " or unicodedata.category(char)[0] in "LMNPS"


def is_alphanumeric(char: str) -> bool:
    """Whether a character may stand in a name: letter, decimal digit or underscore."""
    if char.isascii():
        return char.isalnum() or char == "_"
    category = unicodedata.category(char)
    return category[0] == "L" or category == "Nd"


def quote(text: str, *, ascii_only: bool = False) -> str:
    """``text`` as a Go string literal in double quotes.

    >>> print(quote('say "hé"\\n'))
    "say \\"hé\\"\\n"
    """
    if _PLAIN.fullmatch(text):
        return f'"{text}"'
    return '"' + "".join(_escaped(char, '"', ascii_only) for char in text) + '"'


def quote_char(code: int, *, ascii_only: bool = False) -> str:
    """A code point as a Go character literal; what is none becomes U+FFFD."""
    valid = 0 <= code <= 0x10FFFF and not 0xD800 <= code < 0xE000
    return "'" + _escaped(chr(code) if valid else "�", "'", ascii_only) + "'"


def can_backquote(text: str) -> bool:
    """Whether a raw string literal can hold ``text`` on one line."""
    return not re.search("[\x00-\x08\x0a-\x1f`\x7f\ufeff\udc80-\udcff]", text)


def _escaped(char: str, quotes: str, ascii_only: bool) -> str:
    code = ord(char)
    if char in (quotes, "\\"):
        return "\\" + char
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if (code < 128 or not ascii_only) and is_printable(char):
        return char
    if code in _NAMED:
        return _NAMED[code]
    if code < 32 or code == 127:
        return f"\\x{code:02x}"
    if 0xD800 <= code < 0xE000:
        return "\\ufffd"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
