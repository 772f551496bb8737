"""What Go's ``encoding/json`` says of a text that is not JSON: clients of Ollama see, and some match, its words.

Source: the state machine of Go's ``encoding/json/scanner.go``, written again as a walk over one value.
"""

from __future__ import annotations

MAX_DEPTH = 10_000
_BLANK = b" \t\r\n"
_DIGITS = b"0123456789"
_HEX = b"0123456789abcdefABCDEF"
_LITERALS = {ord("t"): b"true", ord("f"): b"false", ord("n"): b"null"}


class _Stop(Exception):
    """The walk ends: its text is the error."""


def why_invalid(body: bytes) -> str:
    """Go's error for the first value in ``body``, which is known not to be valid JSON."""
    try:
        _Walk(body).value()
    except _Stop as stop:
        return str(stop)
    return "invalid JSON"


class _Walk:
    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def value(self) -> None:
        """Walk over one value without recursion: ``open_`` holds the closing brackets that are still to come."""
        open_: list[int] = []
        while True:
            c = self._next_solid()
            if c in b"[{":
                if len(open_) >= MAX_DEPTH:
                    raise _Stop(f"invalid character {_quoted(c)} exceeded max depth")
                open_.append(ord("]") if c == ord("[") else ord("}"))
                if self._peek_solid() == open_[-1]:
                    self._next_solid()
                    open_.pop()
                elif c == ord("{"):
                    self._key()
                    continue
                else:
                    continue
            elif c == ord('"'):
                self._string()
            elif c in _LITERALS:
                self._literal(_LITERALS[c])
            elif c == ord("-") or c in _DIGITS:
                self._number(c)
            else:
                self._fail(c, "looking for beginning of value")
            if not self._after_value(open_):
                return

    def _after_value(self, open_: list[int]) -> bool:
        """Walk to where the next value begins; ``False`` when the outermost one has ended."""
        while open_:
            c = self._next_solid()
            if c == open_[-1]:
                open_.pop()
            elif c != ord(","):
                self._fail(c, "after array element" if open_[-1] == ord("]") else "after object key:value pair")
            elif open_[-1] == ord("}"):
                self._key()
                return True
            else:
                return True
        return False

    def _key(self) -> None:
        c = self._next_solid()
        if c != ord('"'):
            self._fail(c, "looking for beginning of object key string")
        self._string()
        c = self._next_solid()
        if c != ord(":"):
            self._fail(c, "after object key")

    def _string(self) -> None:
        while (c := self._next()) != ord('"'):
            if c < 0x20:
                self._fail(c, "in string literal")
            if c != ord("\\"):
                continue
            c = self._next()
            if c == ord("u"):
                for _ in range(4):
                    if (c := self._next()) not in _HEX:
                        self._fail(c, "in \\u hexadecimal character escape")
            elif c not in b'bfnrt\\/"':
                self._fail(c, "in string escape code")

    def _literal(self, word: bytes) -> None:
        for expected in word[1:]:
            c = self._next()
            if c != expected:
                self._fail(c, f"in literal {word.decode()} (expecting {_quoted(expected)})")

    def _number(self, c: int) -> None:
        if c == ord("-"):
            c = self._next()
            if c not in _DIGITS:
                self._fail(c, "in numeric literal")
        if c != ord("0"):
            self._digits()
        if self._peek() == ord("."):
            self._at += 1
            if (c := self._next()) not in _DIGITS:
                self._fail(c, "after decimal point in numeric literal")
            self._digits()
        if self._peek() in b"eE" and self._peek() >= 0:
            self._at += 1
            c = self._next()
            if c in b"+-":
                c = self._next()
            if c not in _DIGITS:
                self._fail(c, "in exponent of numeric literal")
            self._digits()

    def _digits(self) -> None:
        while self._at < len(self._body) and self._body[self._at] in _DIGITS:
            self._at += 1

    def _next(self) -> int:
        if self._at >= len(self._body):
            raise _Stop("unexpected EOF")
        self._at += 1
        return self._body[self._at - 1]

    def _peek(self) -> int:
        return self._body[self._at] if self._at < len(self._body) else 0

    def _next_solid(self) -> int:
        while (c := self._next()) in _BLANK:
            pass
        return c

    def _peek_solid(self) -> int:
        while self._at < len(self._body) and self._body[self._at] in _BLANK:
            self._at += 1
        return self._peek()

    def _fail(self, c: int, where: str) -> None:
        raise _Stop(f"invalid character {_quoted(c)} {where}")


def _quoted(c: int) -> str:
    """A byte as Go's error shows it."""
    if c == ord("'"):
        return "'\\''"
    if c == ord('"'):
        return "'\"'"
    named = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 92: "\\\\"}
    if c in named:
        return f"'{named[c]}'"
    if c < 0x20 or c == 0x7F:
        return f"'\\x{c:02x}'"
    if 0x80 <= c < 0xA1 or c == 0xAD:
        return f"'\\u{c:04x}'"
    return f"'{chr(c)}'"
