"""Cuts a template into tokens, on demand: text outside of ``{{ }}``, and the words inside.

Tokens are cut one at a time because an error stops the parse where it stands, and what stood before it may be wrong first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum

from corral.templates.quoting import is_alphanumeric, is_printable, quote

_LEFT, _RIGHT = "{{", "}}"
_SPACES = " \t\r\n"
_SPACE_RUN = re.compile(r"[ \t\r\n]+")
_QUOTED = re.compile(r'"(?:[^"\\\n]|\\[^\n])*"')
_CHARACTER = re.compile(r"'(?:[^'\\\n]|\\[^\n])*'")
_WORD = re.compile(r"[0-9A-Za-z_]*")
_NUMBERS = (
    re.compile(r"[+-]?0[xX][0-9a-fA-F_]*(?:\.[0-9a-fA-F_]*)?(?:[pP][+-]?[0-9_]*)?i?"),
    re.compile(r"[+-]?0[oO][0-7_]*(?:\.[0-7_]*)?i?"),
    re.compile(r"[+-]?0[bB][01_]*(?:\.[01_]*)?i?"),
    re.compile(r"[+-]?[0-9_]*(?:\.[0-9_]*)?(?:[eE][+-]?[0-9_]*)?i?"),
)


class Sort(IntEnum):
    """What a token is. Key words stand after ``KEYWORD``."""

    ERROR = 0
    BOOL = 1
    CHAR = 2  # some other printable character
    CHARACTER = 3  # 'a'
    COMPLEX = 4
    ASSIGN = 5
    DECLARE = 6
    EOF = 7
    FIELD = 8
    IDENTIFIER = 9
    LEFT = 10
    LEFT_PAREN = 11
    NUMBER = 12
    PIPE = 13
    RAW_STRING = 14
    RIGHT = 15
    RIGHT_PAREN = 16
    SPACE = 17
    STRING = 18
    TEXT = 19
    VARIABLE = 20
    KEYWORD = 21
    BLOCK = 22
    BREAK = 23
    CONTINUE = 24
    DOT = 25
    DEFINE = 26
    ELSE = 27
    END = 28
    IF = 29
    NIL = 30
    RANGE = 31
    TEMPLATE = 32
    WITH = 33


_KEYWORDS = {
    "block": Sort.BLOCK,
    "break": Sort.BREAK,
    "continue": Sort.CONTINUE,
    "define": Sort.DEFINE,
    "else": Sort.ELSE,
    "end": Sort.END,
    "if": Sort.IF,
    "range": Sort.RANGE,
    "nil": Sort.NIL,
    "template": Sort.TEMPLATE,
    "with": Sort.WITH,
    "true": Sort.BOOL,
    "false": Sort.BOOL,
}
_SIGNS = {"=": Sort.ASSIGN, "|": Sort.PIPE}


@dataclass(frozen=True, slots=True)
class Token:
    """``line`` is that of its beginning, from 1. The text of an error is the message."""

    sort: Sort
    position: int
    text: str
    line: int

    def __str__(self) -> str:
        """As Go's messages show it."""
        if self.sort is Sort.EOF:
            return "EOF"
        if self.sort is Sort.ERROR:
            return self.text
        if self.sort > Sort.KEYWORD:
            return f"<{self.text}>"
        if len(self.text.encode("utf-8", "surrogatepass")) > 10:
            return quote(self.text[:10]) + "..."
        return quote(self.text)


class Lexer:
    """Tokens of one template, by `next`. After an error or the end there is nothing more to ask for."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0  # where the next token begins
        self._inside = False
        self._parens = 0
        self._line, self._counted = 1, 0

    def next(self) -> Token:
        """The next token; a broken one is an error token."""
        return self._action() if self._inside else self._outside()

    def _token(self, sort: Sort, stop: int) -> Token:
        token = Token(sort, self._at, self._text[self._at : stop], self._line_at(self._at))
        self._at = stop
        return token

    def _error(self, message: str) -> Token:
        token = Token(Sort.ERROR, self._at, message, self._line_at(self._at))
        self._text, self._at, self._counted = "", 0, 0
        return token

    def _line_at(self, position: int) -> int:
        self._line += self._text.count("\n", self._counted, position)
        self._counted = position
        return self._line

    def _outside(self) -> Token:
        """Text up to an action, the beginning of an action, or the end. Comments are skipped."""
        while True:
            left = self._text.find(_LEFT, self._at)
            if left < 0:
                return self._token(Sort.TEXT if self._at < len(self._text) else Sort.EOF, len(self._text))
            trims = self._trims_left(left + 2)
            stop = left
            if trims:
                stop = self._at + len(self._text[self._at : left].rstrip(_SPACES))
            if stop > self._at:
                return self._text_before(left, stop)
            self._at = left
            inside = left + 2 + (2 if trims else 0)
            if not self._text.startswith("/*", inside):
                token = self._token(Sort.LEFT, left + 2)
                self._at = inside
                self._inside, self._parens = True, 0
                return token
            if error := self._comment(inside):
                return error

    def _text_before(self, left: int, stop: int) -> Token:
        token = self._token(Sort.TEXT, stop)
        self._at = left
        return token

    def _trims_left(self, at: int) -> bool:
        return self._text.startswith("-", at) and self._text[at + 1 : at + 2] in tuple(_SPACES)

    def _trims_right(self, at: int) -> bool:
        """Whether a right delimiter with a trim marker stands at ``at``."""
        return self._text[at : at + 1] in tuple(_SPACES) and self._text.startswith("-}}", at + 1)

    def _comment(self, at: int) -> Token | None:
        """Skip a comment; its error, if it has one."""
        self._at = at
        stop = self._text.find("*/", at + 2)
        if stop < 0:
            return self._error("unclosed comment")
        stop += 2
        trims = self._trims_right(stop)
        if not trims and not self._text.startswith(_RIGHT, stop):
            return self._error("comment ends before closing delimiter")
        self._at = self._after_right(stop, trims)
        return None

    def _after_right(self, at: int, trims: bool) -> int:
        if not trims:
            return at + 2
        found = _SPACE_RUN.match(self._text, at + 4)
        return found.end() if found else at + 4

    def _action(self) -> Token:
        text, at = self._text, self._at
        trims = self._trims_right(at)
        if trims or text.startswith(_RIGHT, at):
            return self._right(trims) if self._parens == 0 else self._error("unclosed left paren")
        char = text[at : at + 1]
        if not char:
            return self._error("unclosed action")
        if char in _SPACES:
            return self._space()
        if char in _SIGNS:
            return self._token(_SIGNS[char], at + 1)
        if char == ":":
            return self._token(Sort.DECLARE, at + 2) if text.startswith("=", at + 1) else self._error("expected :=")
        if char in "\"'`":
            return self._quoted(char)
        if char == "$":
            return self._name(Sort.VARIABLE, at + 1)
        if char == "." and at + 1 < len(text) and not "0" <= text[at + 1] <= "9":
            return self._name(Sort.FIELD, at + 1)
        if char in ".+-" or "0" <= char <= "9":
            return self._number()
        if is_alphanumeric(char):
            return self._word()
        return self._sign(char)

    def _right(self, trims: bool) -> Token:
        after = self._after_right(self._at, trims)
        if trims:
            self._at += 2
        token = self._token(Sort.RIGHT, self._at + 2)
        self._at = after
        self._inside = False
        return token

    def _space(self) -> Token:
        found = _SPACE_RUN.match(self._text, self._at)
        assert found
        stop = found.end()
        if self._text.startswith("-}}", stop):  # the last blank belongs to the marker
            stop -= 1
            if stop == self._at:
                return self._right(True)
        return self._token(Sort.SPACE, stop)

    def _sign(self, char: str) -> Token:
        if char == "(":
            self._parens += 1
            return self._token(Sort.LEFT_PAREN, self._at + 1)
        if char == ")":
            self._parens -= 1
            if self._parens < 0:
                return self._error("unexpected right paren")
            return self._token(Sort.RIGHT_PAREN, self._at + 1)
        if " " <= char <= "~":
            return self._token(Sort.CHAR, self._at + 1)
        return self._error(f"unrecognized character in action: {_code_point(char)}")

    def _quoted(self, mark: str) -> Token:
        if mark == "`":
            stop = self._text.find("`", self._at + 1)
            return self._error("unterminated raw quoted string") if stop < 0 else self._token(Sort.RAW_STRING, stop + 1)
        if mark == '"':
            found = _QUOTED.match(self._text, self._at)
            return self._token(Sort.STRING, found.end()) if found else self._error("unterminated quoted string")
        found = _CHARACTER.match(self._text, self._at)
        return self._token(Sort.CHARACTER, found.end()) if found else self._error("unterminated character constant")

    def _name(self, sort: Sort, at: int) -> Token:
        """A field or variable whose name begins at ``at``."""
        if self._ends_name(at):
            return self._token(Sort.VARIABLE if sort is Sort.VARIABLE else Sort.DOT, at)
        stop = self._word_end(at)
        if not self._ends_name(stop):
            return self._error(f"bad character {_code_point(self._text[stop])}")
        return self._token(sort, stop)

    def _word(self) -> Token:
        stop = self._word_end(self._at)
        if not self._ends_name(stop):
            return self._error(f"bad character {_code_point(self._text[stop])}")
        return self._token(_KEYWORDS.get(self._text[self._at : stop], Sort.IDENTIFIER), stop)

    def _word_end(self, at: int) -> int:
        text = self._text
        while True:
            found = _WORD.match(text, at)
            assert found
            at = found.end()
            if at >= len(text) or text[at].isascii() or not is_alphanumeric(text[at]):
                return at
            at += 1

    def _ends_name(self, at: int) -> bool:
        char = self._text[at : at + 1]
        return not char or char in " \t\r\n.,|:)(" or self._text.startswith(_RIGHT, at)

    def _number(self) -> Token:
        stop, good = self._scan_number(self._at)
        pair = good and self._text[stop : stop + 1] in ("+", "-")
        if pair:
            stop, good = self._scan_number(stop)
            good = good and self._text[stop - 1] == "i"
        if not good:
            return self._error(f"bad number syntax: {quote(self._text[self._at : stop])}")
        return self._token(Sort.COMPLEX if pair else Sort.NUMBER, stop)

    def _scan_number(self, at: int) -> tuple[int, bool]:
        """Where a number ends, and whether it may end there."""
        stop = next(found.end() for pattern in _NUMBERS if (found := pattern.match(self._text, at)))
        if stop < len(self._text) and is_alphanumeric(self._text[stop]):
            return stop + 1, False
        return stop, True


def _code_point(char: str) -> str:
    """A character as Go's ``%#U`` has it; a byte that is no UTF-8 is U+FFFD."""
    if "\ud800" <= char <= "\udfff":
        char = "�"
    return f"U+{ord(char):04X}" + (f" '{char}'" if is_printable(char) else "")
