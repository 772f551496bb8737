"""How long a text can get that a grammar allows. Knows GBNF; what it cannot bound has no bound."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from corral.errors import InvalidRequest
from corral.grammar.texts import Token, rules_in

_LARGEST = 1 << 16  # characters of a grammar that is looked at; much is longer than what it describes
_MOST = 1 << 40  # bytes; more is no bound
_DEEPEST = 200  # rules within rules
_CHARACTER_BYTES = 4
_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))", re.DOTALL)


class _Endless(Exception):
    """There is no bound."""


@lru_cache(maxsize=64)
def longest(grammar: str) -> int | None:
    r"""The most bytes of UTF-8 that a text of ``grammar`` (GBNF) can have, or ``None`` where no bound is known.

    >>> longest('root ::= "yes" | [0-9]{1,4} ending\nending ::= "é"?')
    6
    >>> longest('root ::= "a" root | "b"'), longest("root ::= [a-z]*")
    (None, None)
    """
    if len(grammar) > _LARGEST:
        return None
    try:
        bounds = _Bounds(rules_in(grammar))
        return bounds.of("root")
    except (_Endless, InvalidRequest, RecursionError):
        return None


class _Bounds:
    """The bounds of rules, each looked at once."""

    def __init__(self, rules: Mapping[str, Sequence[Token]]) -> None:
        self._rules = rules
        self._known: dict[str, int] = {}
        self._open: list[str] = []

    def of(self, name: str) -> int:
        """The most bytes of a rule. Raises `_Endless`."""
        if name in self._known:
            return self._known[name]
        if name in self._open or len(self._open) >= _DEEPEST:
            raise _Endless
        self._open.append(name)
        tokens = list(reversed(self._rules[name]))
        found = self._alternatives(tokens)
        if tokens or found > _MOST:
            raise _Endless
        self._open.pop()
        self._known[name] = found
        return found

    def _alternatives(self, tokens: list[Token]) -> int:
        """The most of what stands between the ``|`` up to a parenthesis that closes, or the end; ``tokens`` are used up."""
        most = size = last = 0
        while tokens and tokens[-1][1] != ")":
            kind, text = tokens.pop()
            if text == "|" and kind == "sign":
                most, size, last = max(most, size), 0, 0
            elif kind == "count" or (kind == "sign" and text in ("*", "+", "?")):
                size += last * (_times(kind, text, last) - 1)
            else:
                last = self._one(kind, text, tokens)
                size += last
        return max(most, size)

    def _one(self, kind: str, text: str, tokens: list[Token]) -> int:
        """The most of a single element."""
        if kind == "name":
            return self.of(text)
        if kind == "quoted":
            return sum(map(_bytes, _characters(text[1:-1])))
        if kind == "set":
            return _CHARACTER_BYTES if text.startswith("[^") else max(map(_bytes, _characters(text[1:-1])), default=0)
        if kind == "token":
            return 1  # one token, whatever its text
        if text == "(":
            inside = self._alternatives(tokens)
            if not tokens:
                raise _Endless  # no grammar
            tokens.pop()
            return inside
        if text == ".":
            return _CHARACTER_BYTES
        raise _Endless


def _times(kind: str, text: str, size: int) -> int:
    """How many times what stands before is repeated at most."""
    if not size:
        return 1
    if kind == "count":
        _, comma, most = text[1:-1].partition(",")
        if comma and not most:
            raise _Endless
        return int(most if comma else text[1:-1])
    if text == "?":
        return 1
    raise _Endless


def _characters(written: str) -> Sequence[str]:
    """The characters that are written in quotes or brackets; between ends of a range only the ends, which are the extremes."""

    def meant(match: re.Match[str]) -> str:
        code = match[1] or match[2] or match[3]
        if not code:
            return {"n": "\n", "r": "\r", "t": "\t"}.get(match[4], match[4])
        return chr(min(int(code, 16), 0x10FFFF))

    return _ESCAPE.sub(meant, written)


def _bytes(character: str) -> int:
    code = ord(character)
    return 1 + (code >= 0x80) + (code >= 0x800) + (code >= 0x10000)
