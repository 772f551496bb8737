"""Texts inside of JSON strings: any, of some length, or of a known format."""

from __future__ import annotations

from corral.grammar.gbnf import Grammar, character_class, complement
from corral.grammar.regex import Node, lengths, parse

_LEAP = "(?:[1-9][0-9](?:0[48]|[2468][048]|[13579][26])|(?:[2468][048]|[13579][26])00)-02-29"
_DATE = (
    "(?:[1-9][0-9]{3}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    f"|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP})"
)
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_LABEL = "[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?"
_HOST = rf"(?:{_LABEL}\.){{0,4}}[a-z](?:[a-z0-9-]{{0,20}}[a-z0-9])?"
_COUNT = "[0-9]{1,6}"
_TIMES = f"T(?:{_COUNT}H(?:{_COUNT}M(?:{_COUNT}S)?)?|{_COUNT}M(?:{_COUNT}S)?|{_COUNT}S)"
_DAYS = f"(?:{_COUNT}Y(?:{_COUNT}M(?:{_COUNT}D)?)?|{_COUNT}M(?:{_COUNT}D)?|{_COUNT}D)"

# Sources: RFC 3339 (dates, times, durations), RFC 4122, RFC 5321 (the part of addresses that is in use), RFC 4291, RFC 3986.
FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "duration": f"P(?:{_DAYS}(?:{_TIMES})?|{_TIMES}|{_COUNT}W)",
    "uuid": "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    "email": rf"[A-Za-z0-9_+-]{{1,30}}(?:\.[A-Za-z0-9_+-]{{1,30}}){{0,3}}@{_HOST}",
    "hostname": _HOST,
    "ipv4": rf"(?:{_OCTET}\.){{3}}{_OCTET}",
    "ipv6": "(?:(?:[0-9a-f]{1,4}:){7}[0-9a-f]{1,4}|(?:[0-9a-f]{1,4}:){1,3}(?::[0-9a-f]{1,4}){1,3}|::(?:[0-9a-f]{1,4})?)",
    "uri": rf"[a-z][a-z0-9+-]{{0,10}}://{_HOST}(?::[1-9][0-9]{{0,3}})?(?:/[A-Za-z0-9._~-]{{0,60}}){{0,8}}(?:\?[A-Za-z0-9._~=&-]{{0,200}})?",
}
# Formats that OpenAPI has for numbers and texts and that say nothing about how they are written.
UNWRITTEN = frozenset({"float", "double", "password", "binary"})
INTEGERS = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}


def add_text(grammar: Grammar, least: int, most: int | None) -> str:
    """An expression for the inside of a JSON string of so many characters.

    Halves of characters in UTF-16 are not written, so that one character is one, however it is counted.
    """
    plain = character_class(complement([(0x22, 0x22), (0x5C, 0x5C), (0x7F, 0x7F)], 0x20))
    code = "([0-9a-cA-CefEF] [0-9a-fA-F]{3} | [dD] [0-7] [0-9a-fA-F]{2})"
    character = grammar.rule(f'{plain} | "\\\\" (["\\\\/bfnrt] | "u" {code})', "char")
    return grammar.repeated(character, least, most)


def fits(node: Node, least: int, most: int | None) -> bool:
    """Whether all texts of a pattern have between ``least`` and ``most`` characters."""
    shortest, longest = lengths(node)
    return shortest >= least and (most is None or (longest is not None and longest <= most))


def format_pattern(name: str) -> str | None:
    """The pattern of a format that is known."""
    found = FORMATS.get(name)
    return f"^(?:{found})$" if found else None


def pattern_lengths(pattern: str, place: str) -> Node:
    """The tree of a pattern in a schema."""
    return parse(pattern, place)
