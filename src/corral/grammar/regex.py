"""Regular expressions as grammars: the part of ECMAScript's that needs no looking around and no memory.

A pattern is read into a tree, and the tree written as a rule: for a text as it stands, or for the inside of a JSON string, where
some characters are written otherwise. Sets that are said by what is not in them leave out control characters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from corral.errors import InvalidRequest
from corral.grammar.gbnf import LAST, Grammar, alternatives, character_class, complement, intersection, literal

_ASCII = ((0x20, 0x7E),)
_DIGIT = ((48, 57),)
_WORD = ((48, 57), (65, 90), (95, 95), (97, 122))
_SPACE = ((9, 10), (13, 13), (32, 32))
_CLASSES = {"d": _DIGIT, "w": _WORD, "s": _SPACE}
_CONTROLS = {"n": 10, "r": 13, "t": 9, "f": 12, "v": 11, "0": 0}
_JSON_ESCAPES = {8: "b", 9: "t", 10: "n", 12: "f", 13: "r", 0x22: '"', 0x5C: "\\"}
_COUNT = re.compile(r"\{([0-9]{1,7})(,([0-9]{0,7}))?\}")
_GROUP = re.compile(r"\?(?::|P?<[A-Za-z_][A-Za-z0-9_]*>)")
_DEEPEST = 50

Set = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Node:
    """A part of a pattern: a character of a set, an edge of the text, parts in a row, parts to choose from, a part repeated."""

    kind: Literal["set", "begin", "end", "row", "choice", "repeat"]
    ranges: Set = ()
    parts: tuple[Node, ...] = ()
    least: int = 1
    most: int | None = 1


def add_regex(grammar: Grammar, pattern: str, *, place: str = "regex", in_json: bool = False) -> str:
    """An expression for the texts that ``pattern`` describes. Raises `InvalidRequest` for what cannot be expressed.

    Without ``in_json`` the pattern is for the whole text; with it, anything may stand around it, as JSON Schema has it.
    """
    return _Writer(grammar, in_json).write(parse(pattern, place, whole=not in_json))


def parse(pattern: str, place: str, *, whole: bool = False) -> Node:
    """The tree of a pattern, with what may stand around it."""
    return _anchored(_Parser(pattern, place).parse(), whole, pattern, place)


def lengths(node: Node) -> tuple[int, int | None]:
    """The fewest and the most characters that a pattern matches; ``None`` is no limit."""
    if node.kind == "set":
        return 1, 1
    inner = [lengths(part) for part in node.parts]
    if node.kind == "row":
        return sum(low for low, _ in inner), _sum([high for _, high in inner])
    if node.kind == "choice":
        highs = [high for _, high in inner]
        return min(low for low, _ in inner), None if None in highs else max(h for h in highs if h is not None)
    if node.kind == "repeat":
        low, high = inner[0]
        return low * node.least, 0 if high == 0 else None if high is None or node.most is None else high * node.most
    return 0, 0


def _sum(numbers: list[int | None]) -> int | None:
    return None if None in numbers else sum(number for number in numbers if number is not None)


class _Parser:
    def __init__(self, pattern: str, place: str) -> None:
        self._text, self._place, self._at, self._depth = pattern, place, 0, 0

    def parse(self) -> Node:
        node = self._choice()
        if self._at < len(self._text):
            raise self._refused("there is a closing parenthesis too many")
        return node

    def _refused(self, why: str) -> InvalidRequest:
        return InvalidRequest(f'"{self._place}" cannot be used: {why} (at character {self._at + 1} of {self._text!r})')

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _choice(self) -> Node:
        ways = [self._row()]
        while self._peek() == "|":
            self._at += 1
            ways.append(self._row())
        return ways[0] if len(ways) == 1 else Node("choice", parts=tuple(ways))

    def _row(self) -> Node:
        parts: list[Node] = []
        while self._peek() not in ("", "|", ")"):
            parts.append(self._quantified(self._atom()))
        return parts[0] if len(parts) == 1 else Node("row", parts=tuple(parts))

    def _atom(self) -> Node:
        character = self._peek()
        if character in "*+?" or (character == "{" and _COUNT.match(self._text, self._at)):
            raise self._refused("there is nothing to repeat")
        if character == "(":
            return self._group()
        if character == "[":
            return self._set()
        if character == "\\":
            return Node("set", self._escape(in_set=False))
        self._at += 1
        if character == ".":
            return Node("set", _unless(((10, 10), (13, 13), (0x2028, 0x2029))))
        if character in "^$":
            return Node("begin" if character == "^" else "end")
        return Node("set", ((ord(character), ord(character)),))

    def _group(self) -> Node:
        self._at += 1
        if self._peek() == "?":
            found = _GROUP.match(self._text, self._at)
            if found is None:
                raise self._refused("lookarounds and flags cannot be expressed in a grammar")
            self._at = found.end()
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._refused("it is nested too deep")
        inner = self._choice()
        self._depth -= 1
        if self._peek() != ")":
            raise self._refused("a closing parenthesis is missing")
        self._at += 1
        return inner

    def _quantified(self, node: Node) -> Node:
        least, most = 1, None
        if self._peek() and self._peek() in "*+?":
            least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}[self._peek()]
            self._at += 1
        elif found := _COUNT.match(self._text, self._at):
            least = int(found[1])
            most = least if found[2] is None else int(found[3]) if found[3] else None
            if most is not None and most < least:
                raise self._refused("the numbers of repetitions are out of order")
            self._at = found.end()
        else:
            return node
        if self._peek() == "?":  # a lazy one matches the same texts
            self._at += 1
        elif self._peek() and self._peek() in "*+":
            raise self._refused("possessive quantifiers cannot be expressed in a grammar")
        if node.kind in ("begin", "end"):
            raise self._refused("an anchor cannot be repeated")
        return Node("repeat", parts=(node,), least=least, most=most)

    def _escape(self, *, in_set: bool) -> Set:
        self._at += 1
        character = self._peek()
        self._at += 1
        if not character:
            raise self._refused("it ends with a backslash")
        if character.lower() in _CLASSES:
            known = _CLASSES[character.lower()]
            # What is no letter or digit depends on who asks, outside of ASCII.
            return known if character.islower() else tuple(intersection(complement(known), _ASCII))
        if character in _CONTROLS and not (character == "0" and self._peek().isdigit()):
            return ((_CONTROLS[character],) * 2,)
        if character in "xu":
            return (self._code(character),)
        if character == "b" and in_set:
            return ((8, 8),)
        if character.isalnum():
            what = "references to groups" if character.isdigit() or character == "k" else f"\\{character}"
            raise self._refused(f"{what} cannot be expressed in a grammar")
        return ((ord(character),) * 2,)

    def _code(self, kind: str) -> tuple[int, int]:
        digits = r"([0-9a-fA-F]{2})" if kind == "x" else r"([0-9a-fA-F]{4})|\{([0-9a-fA-F]{1,6})\}"
        found = re.compile(digits).match(self._text, self._at)
        code = int(next(filter(None, found.groups())), 16) if found else -1
        if found is None or code > LAST or 0xD800 <= code <= 0xDFFF:
            raise self._refused("this is no character")
        self._at = found.end()
        return code, code

    def _set(self) -> Node:
        self._at += 1
        negated = self._peek() == "^"
        self._at += negated
        ranges: list[tuple[int, int]] = []
        words = False
        while self._peek() != "]":
            if not self._peek():
                raise self._refused("a closing bracket is missing")
            words = words or self._text[self._at : self._at + 2].lower() in ("\\w", "\\d", "\\s")
            first = self._in_set()
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                self._at += 1
                last = self._in_set()
                if len(first) > 1 or len(last) > 1 or first[0][0] > last[0][0]:
                    raise self._refused("a range is out of order")
                ranges.append((first[0][0], last[0][1]))
            else:
                ranges += first
        self._at += 1
        found = _unless(tuple(ranges)) if negated else tuple(ranges)
        if negated and words:
            found = tuple(intersection(found, _ASCII))
        if not found:
            raise self._refused("no character is in this set")
        return Node("set", found)

    def _in_set(self) -> Set:
        if self._peek() == "\\":
            return self._escape(in_set=True)
        self._at += 1
        return ((ord(self._text[self._at - 1]),) * 2,)


def _unless(ranges: Set) -> Set:
    return tuple(intersection(complement(ranges, 0x20), ((0x20, 0x7E), (0xA0, LAST))))


_ANYTHING = Node("repeat", parts=(Node("set", _unless(())),), least=0, most=None)


def _anchored(node: Node, whole: bool, pattern: str, place: str) -> Node:
    """``node`` with anything around it where it does not say that the text begins or ends there."""
    if node.kind == "choice":
        return Node("choice", parts=tuple(_anchored(part, whole, pattern, place) for part in node.parts))
    parts = list(node.parts) if node.kind == "row" else [node]
    begins = bool(parts) and parts[0].kind == "begin"
    ends = bool(parts) and parts[-1].kind == "end"
    inner = parts[begins : len(parts) - ends] if parts else []
    if len(inner) == 1 and inner[0].kind in ("choice", "row") and not (begins or ends):
        return _anchored(inner[0], whole, pattern, place)
    if any(_has_anchor(part) for part in inner):
        raise InvalidRequest(f'"{place}" cannot be used: ^ and $ can stand at the ends only (of {pattern!r})')
    around = [] if whole else [_ANYTHING]
    return Node("row", parts=(*([] if begins else around), *inner, *([] if ends else around)))


def _has_anchor(node: Node) -> bool:
    return node.kind in ("begin", "end") or any(_has_anchor(part) for part in node.parts)


class _Writer:
    def __init__(self, grammar: Grammar, in_json: bool) -> None:
        self._grammar, self._in_json = grammar, in_json

    def write(self, node: Node) -> str:
        if node.kind == "set":
            return self._set(node.ranges)
        inner = [self.write(part) for part in node.parts]
        if node.kind == "choice":
            return alternatives(inner)
        if node.kind == "repeat":
            return self._grammar.rule(self._grammar.repeated(inner[0], node.least, node.most))
        return f"({' '.join(inner)})" if inner else '""'

    def _set(self, ranges: Set) -> str:
        if not self._in_json:
            return character_class(ranges)
        plain = intersection(ranges, complement([(0x22, 0x22), (0x5C, 0x5C)], 0x20))
        ways = [character_class(plain)] if plain else []
        for low, high in intersection(ranges, [(0, 0x1F), (0x22, 0x22), (0x5C, 0x5C)]):
            ways += [literal(_json_escape(code)) for code in range(low, high + 1)]
        return alternatives(ways)


def _json_escape(code: int) -> str:
    return "\\" + (_JSON_ESCAPES.get(code, f"u{code:04x}"))
