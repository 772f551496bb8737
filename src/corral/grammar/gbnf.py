"""Grammars in the language of llama.cpp (GBNF), rule by rule.

Source: ``grammars/README.md`` and ``src/llama-grammar.cpp`` of llama.cpp.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from corral.errors import InvalidRequest

Ranges = Sequence[tuple[int, int]]  # code points, both ends included

LAST = 0x10FFFF
_SURROGATES = (0xD800, 0xDFFF)
_CHUNK = 100  # the engine copies what is repeated, and refuses more than some 2000 copies
_MOST = 1_000_000  # repetitions
_LARGEST = 400_000  # characters of a grammar


class Grammar:
    """Rules by name. Expressions are texts; those that a rule is made of may be used as often as needed."""

    def __init__(self) -> None:
        self._rules: dict[str, str] = {}
        self._shared: dict[str, str] = {}
        self._length = 0

    def rule(self, expression: str, hint: str = "r") -> str:
        """The name of a rule for ``expression``; equal expressions share one."""
        found = self._shared.get(expression)
        if found is None:
            found = self._shared[expression] = self.reserve(hint)
            self.define(found, expression)
        return found

    def reserve(self, hint: str = "r") -> str:
        """A name for a rule that is defined later."""
        name = f"{hint}-{len(self._rules)}"
        self._rules[name] = ""
        return name

    def define(self, name: str, expression: str) -> None:
        """Say what a reserved name stands for. Raises `InvalidRequest` when the grammar grows past all measure."""
        self._rules[name] = expression
        self._length += len(expression)
        if self._length > _LARGEST:
            raise InvalidRequest(
                "the format of the request is too large for a grammar; try: fewer values or properties"
            )

    def optional(self, expression: str) -> str:
        """``expression`` or nothing."""
        return f"{self.rule(expression)}?"

    def repeated(self, expression: str, least: int, most: int | None) -> str:
        """``expression`` ``least`` to ``most`` times; ``None`` is no limit."""
        if max(least, most or 0) > _MOST:
            raise InvalidRequest(f"the format of the request repeats something more than {_MOST} times")
        name = self.rule(expression)
        if most is None:
            return f"{self._exactly(name, least)} {name}*" if least else f"{name}*"
        return f"{self._exactly(name, least)} {self._up_to(name, most - least)}"

    def _exactly(self, name: str, times: int) -> str:
        if times <= _CHUNK:
            return f"{name}{{{times}}}" if times else '""'
        chunks, rest = divmod(times, _CHUNK)
        return f"{self._exactly(self.rule(f'{name}{{{_CHUNK}}}'), chunks)} {self._exactly(name, rest)}"

    def _up_to(self, name: str, times: int) -> str:
        if times <= _CHUNK:
            return f"{name}{{0,{times}}}" if times else '""'
        # Full chunks, and then less than one or as much as is left: every number has one way or two.
        chunks, rest = divmod(times - _CHUNK, _CHUNK)
        return f"{self._up_to(self.rule(f'{name}{{{_CHUNK}}}'), chunks)} {name}{{0,{_CHUNK + rest}}}"

    def until(self, mark: str) -> str:
        """Any text up to and with the first ``mark``."""
        return self._without(mark, closed=True)

    def without(self, mark: str) -> str:
        """Any text in which ``mark`` is not."""
        return self._without(mark, closed=False)

    def _without(self, mark: str, *, closed: bool) -> str:
        """A rule for each number of characters of the mark that have been met (as Knuth, Morris and Pratt search)."""
        assert mark
        names = [self.reserve("until") for _ in mark]
        characters = sorted(set(mark))
        for state, name in enumerate(names):
            goes = {c: _met(mark, mark[:state] + c) for c in characters}
            ways = []
            for character, to in goes.items():
                if to == len(mark):
                    if closed:
                        ways.append(literal(character))
                elif to:
                    ways.append(f"{literal(character)} {names[to]}")
            others = complement([(ord(c), ord(c)) for c in characters if goes[c]])
            ways.append(f"{character_class(others)} {names[0]}")
            if not closed:
                ways.append('""')
            self.define(name, " | ".join(ways))
        return names[0]

    def text(self, root: str) -> str:
        """The grammar for ``root``, an expression."""
        return "\n".join([f"root ::= {root}", *(f"{name} ::= {rule}" for name, rule in self._rules.items())]) + "\n"

    def add_rules(self, rules: Iterable[tuple[str, str]]) -> None:
        """Rules whose names cannot clash with those made here."""
        for name, expression in rules:
            self.define(name, expression)


def _met(mark: str, text: str) -> int:
    """How many characters at the end of ``text`` are the beginning of ``mark``."""
    return next(size for size in range(min(len(text), len(mark)), -1, -1) if text.endswith(mark[:size]))


def literal(text: str) -> str:
    """An expression for ``text`` itself.

    >>> print(literal('a "b"\\n'))
    "a \\"b\\"\\n"
    """
    return '"' + "".join(_in_literal(c) for c in text) + '"'


def _in_literal(character: str) -> str:
    known = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character)
    return known or (character if character.isprintable() else _escaped(ord(character)))


def alternatives(expressions: Sequence[str]) -> str:
    """One of ``expressions``, in parentheses where needed."""
    return expressions[0] if len(expressions) == 1 else f"({' | '.join(expressions)})"


def character_class(ranges: Ranges) -> str:
    """An expression for one character of ``ranges``.

    >>> print(character_class([(48, 57), (45, 45)]))
    [\\x2D0-9]
    """
    parts = [_escaped(low) + (f"-{_escaped(high)}" if high > low else "") for low, high in union(ranges)]
    return f"[{''.join(parts)}]"


def _escaped(code: int) -> str:
    if chr(code).isascii() and chr(code).isalnum():
        return chr(code)
    return f"\\x{code:02X}" if code < 0x80 else f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"


def union(ranges: Ranges) -> list[tuple[int, int]]:
    """``ranges`` in order, without overlaps."""
    joined: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if joined and low <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
        else:
            joined.append((low, high))
    return joined


def complement(ranges: Ranges, low: int = 0) -> list[tuple[int, int]]:
    """The characters from ``low`` on that are not in ``ranges``."""
    found, at = [], low
    for begin, end in union([*ranges, _SURROGATES]):
        if begin > at:
            found.append((at, begin - 1))
        at = max(at, end + 1)
    return [*found, (at, LAST)] if at <= LAST else found


def intersection(first: Ranges, second: Ranges) -> list[tuple[int, int]]:
    """The characters in both."""
    return union(
        [
            (max(low, begin), min(high, end))
            for low, high in first
            for begin, end in second
            if max(low, begin) <= min(high, end)
        ]
    )
