"""Lengths of time as Ollama's users write them: Go's duration syntax, in whole nanoseconds inside.

Source: the documentation of Go's ``time.ParseDuration``.
"""

from __future__ import annotations

import re
from decimal import Decimal

from corral.errors import InvalidRequest

FOREVER_S = float("inf")

_UNITS_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_NUMBER = re.compile(r"[0-9]*\.?[0-9]*", re.ASCII)
_UNIT = re.compile(r"[^0-9.]+")


def parse_duration(text: str) -> float:
    """The seconds that ``text`` means (``300ms``, ``1h30m``, ``-1s``, ``0``).

    Raises `InvalidRequest` with Go's own words, which clients of Ollama match on.

    >>> parse_duration("1h30m"), parse_duration("-1.5s"), parse_duration("0")
    (5400.0, -1.5, 0.0)
    """
    sign, rest = (-1, text[1:]) if text[:1] == "-" else (1, text.removeprefix("+"))
    if rest == "0":
        return 0.0
    total_ns = Decimal(0)
    if not rest:
        raise InvalidRequest(f"time: invalid duration {quoted(text)}")
    while rest:
        number = _NUMBER.match(rest)
        assert number is not None  # it matches the empty text too
        if number[0] in ("", "."):
            raise InvalidRequest(f"time: invalid duration {quoted(text)}")
        rest = rest[number.end() :]
        unit = _UNIT.match(rest)
        if unit is None:
            raise InvalidRequest(f"time: missing unit in duration {quoted(text)}")
        if unit[0] not in _UNITS_NS:
            raise InvalidRequest(f"time: unknown unit {quoted(unit[0])} in duration {quoted(text)}")
        rest = rest[unit.end() :]
        total_ns += Decimal(number[0]) * _UNITS_NS[unit[0]]
    return sign * float(total_ns / 1_000_000_000)


def parse_age(text: str) -> float:
    """The seconds of an age: days (``30d``), weeks (``2w``), or a duration of Go's. Raises `InvalidRequest`.

    >>> parse_age("30d"), parse_age("2w"), parse_age("90m"), parse_age("0")
    (2592000.0, 1209600.0, 5400.0, 0.0)
    """
    number, unit = text[:-1], text[-1:]
    if unit in ("d", "w") and number.isascii() and number.isdigit():
        return float(number) * (86_400 if unit == "d" else 604_800)
    seconds = parse_duration(text)
    if seconds < 0:
        raise InvalidRequest(f"an age cannot be negative: {quoted(text)}")
    return seconds


def quoted(text: str) -> str:
    """``text`` in double quotes with backslash escapes, as Go's ``%q`` prints it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in escaped) + '"'


def words_for(seconds: float) -> str:
    """``seconds`` in the words that lists of models use: ``About an hour``, ``3 weeks``.

    >>> words_for(0.2), words_for(59), words_for(200), words_for(86400 * 3)
    ('Less than a second', '59 seconds', '3 minutes', '3 days')
    """
    whole = int(seconds)
    minutes, hours = whole // 60, round(seconds / 3600)
    if whole < 1:
        return "Less than a second"
    if whole < 60:
        return "1 second" if whole == 1 else f"{whole} seconds"
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    for limit, unit, amount in (
        (48, "hours", hours),
        (24 * 14, "days", hours // 24),
        (24 * 60, "weeks", hours // 24 // 7),
        (24 * 365 * 2, "months", hours // 24 // 30),
    ):
        if hours < limit:
            return "About an hour" if hours == 1 else f"{amount} {unit}"
    return f"{hours // 24 // 365} years"
