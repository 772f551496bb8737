"""Numbers of a range as grammars: digit by digit."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from corral.grammar.gbnf import Grammar, literal

_WHOLE_DIGITS = 15  # more than these are not exact in a double
_FRACTION_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where numbers lie; ``None`` is no bound. ``above`` and ``below`` say that the bound itself is out."""

    low: Decimal | None = None
    high: Decimal | None = None
    above: bool = False
    below: bool = False

    def hold(self, number: Decimal) -> bool:
        """Whether ``number`` is within."""
        low = self.low is None or (number > self.low if self.above else number >= self.low)
        return low and (self.high is None or (number < self.high if self.below else number <= self.high))

    def and_(self, other: Bounds) -> Bounds:
        """The numbers that are in both."""
        low, above = _tighter((self.low, self.above), (other.low, other.above), 1)
        high, below = _tighter((self.high, self.below), (other.high, other.below), -1)
        return Bounds(low, high, above, below)

    def whole(self) -> tuple[int | None, int | None]:
        """The first and the last whole number within."""
        low = high = None
        if self.low is not None:
            low = int(self.low.to_integral_value(rounding="ROUND_CEILING"))
            low += self.above and low == self.low
        if self.high is not None:
            high = int(self.high.to_integral_value(rounding="ROUND_FLOOR"))
            high -= self.below and high == self.high
        return low, high


def _tighter(
    first: tuple[Decimal | None, bool], second: tuple[Decimal | None, bool], sign: int
) -> tuple[Decimal | None, bool]:
    if first[0] is None or second[0] is None:
        return second if first[0] is None else first
    if first[0] == second[0]:
        return first[0], first[1] or second[1]
    return first if (first[0] - second[0]) * sign > 0 else second


def add_integer(grammar: Grammar, bounds: Bounds) -> str | None:
    """An expression for the whole numbers within; ``None`` if there are none."""
    low, high = bounds.whole()
    return _one_of(grammar, _integers(grammar, low, high))


def add_number(grammar: Grammar, bounds: Bounds) -> str | None:
    """An expression for the numbers within; ``None`` if there are none."""
    if bounds.low is None and bounds.high is None:
        whole = f'"-"? {grammar.rule(" | ".join(_integers(grammar, 0, None)), "int")}'
        exponent = grammar.optional("[eE] [-+]? [0-9]{1,2}")
        return grammar.rule(f"{whole} {_fraction(grammar)} {exponent}", "number")
    ways: list[str] = []
    if bounds.high is None or bounds.high > 0 or (bounds.high == 0 and not bounds.below):
        below_zero = bounds.low is None or bounds.low < 0
        low = (Decimal(0), False) if below_zero else (bounds.low or Decimal(0), bounds.above)
        ways += _decimals(grammar, low, (bounds.high, bounds.below))
    if bounds.low is None or bounds.low < 0:
        below = bounds.high is not None and bounds.high < 0
        low = (-bounds.high, bounds.below) if below and bounds.high is not None else (Decimal(0), True)
        high = (None if bounds.low is None else -bounds.low, bounds.above)
        ways += [f'"-" ({way})' for way in _decimals(grammar, low, high)]
    return _one_of(grammar, ways)


def _one_of(grammar: Grammar, ways: list[str]) -> str | None:
    return grammar.rule(" | ".join(ways), "num") if ways else None


# Whole numbers.


def _integers(grammar: Grammar, low: int | None, high: int | None) -> list[str]:
    """Ways to write the whole numbers from ``low`` to ``high``."""
    if low is not None and high is not None and low > high:
        return []
    ways: list[str] = []
    if high is None or high >= 0:
        ways += _natural(grammar, max(low or 0, 0), high)
    if low is None or low < 0:
        first = 1 if high is None or high >= 0 else -high
        ways += [f'"-" ({way})' for way in _natural(grammar, first, None if low is None else -low)]
    return ways


def _natural(grammar: Grammar, low: int, high: int | None) -> list[str]:
    """Ways to write the numbers from ``low``, not below 0, to ``high``."""
    if high is None:
        digits = len(str(low))
        longer = [f"[1-9] [0-9]{{{digits},{max(digits, _WHOLE_DIGITS - 1)}}}"]
        return _same_length(str(low), "9" * digits) + longer
    ways: list[str] = []
    while low <= high:
        last = min(high, 10 ** len(str(low)) - 1)
        ways += _same_length(str(low), str(last))
        low = last + 1
    return ways


def _same_length(low: str, high: str) -> list[str]:
    """Ways to write what lies between two rows of digits of one length."""
    if not low:
        return ['""']
    if set(low) == {"0"} and set(high) == {"9"}:
        return [f"[0-9]{{{len(low)}}}"]
    if low[0] == high[0]:
        return [f"{literal(low[0])} {_grouped(_same_length(low[1:], high[1:]))}"]
    rest = len(low) - 1
    ways: list[str] = []
    first, last = int(low[0]), int(high[0])
    if low[1:].strip("0"):
        ways.append(f"{literal(low[0])} {_grouped(_same_length(low[1:], '9' * rest))}")
        first += 1
    if high[1:].strip("9"):
        ways.append(f"{literal(high[0])} {_grouped(_same_length('0' * rest, high[1:]))}")
        last -= 1
    if first <= last:
        ways.append(f"[{first}-{last}]" + (f" [0-9]{{{rest}}}" if rest else ""))
    return ways


def _grouped(ways: list[str]) -> str:
    return ways[0] if len(ways) == 1 else f"({' | '.join(ways)})"


# Numbers with a fraction, none below 0.


def _decimals(grammar: Grammar, low: tuple[Decimal, bool], high: tuple[Decimal | None, bool]) -> list[str]:
    first, low_digits = _parts(low[0])
    if high[0] is None:
        return [f"{literal(str(first))} {way}" for way in _fractions(grammar, (low_digits, low[1]), None)] + [
            f"({way}) {_fraction(grammar)}" for way in _integers(grammar, first + 1, None)
        ]
    last, high_digits = _parts(high[0])
    if first > last:
        return []
    if first == last:
        fractions = _fractions(grammar, (low_digits, low[1]), (high_digits, high[1]))
        return [f"{literal(str(first))} {way}" for way in fractions]
    ways = [f"{literal(str(first))} {way}" for way in _fractions(grammar, (low_digits, low[1]), None)]
    ways += [f"({way}) {_fraction(grammar)}" for way in _integers(grammar, first + 1, last - 1)]
    return ways + [f"{literal(str(last))} {way}" for way in _fractions(grammar, ("", False), (high_digits, high[1]))]


def _parts(number: Decimal) -> tuple[int, str]:
    whole, _, fraction = f"{number:f}".partition(".")
    return int(whole), fraction.rstrip("0")


def _fraction(grammar: Grammar) -> str:
    """Any fraction, or none."""
    return grammar.optional(f'"." [0-9]{{1,{_FRACTION_DIGITS}}}')


def _fractions(grammar: Grammar, low: tuple[str, bool], high: tuple[str, bool] | None) -> list[str]:
    """Ways to write the fractions, point included, between two rows of digits that are read behind a point."""
    digits, above = low
    if high is None:
        if not digits and not above:
            return [_fraction(grammar)]
        return [f'"." {way}' for way in _over(digits, above)]
    top, below = high
    if digits + "/" * bool(above) == "":  # from nothing on
        ways = ['""'] if top or not below else []
        return ways + [f'"." {way}' for way in _under(top, below)]
    if digits >= top:
        return [f'"." {literal(digits)}'] if digits == top and digits and not above and not below else []
    shared = 0
    while digits[shared : shared + 1] == top[shared : shared + 1] and shared < len(digits):
        shared += 1
    start = literal(top[:shared])
    rest, end = digits[shared:], top[shared:]
    least, most = int(rest[0]) if rest else 0, int(end[0])
    ways = [f'"." {start} {literal(end[0])} {way}' for way in _or_nothing(_under(end[1:], below), end[1:], below)]
    if rest:
        ways += [f'"." {start} {literal(rest[0])} {way}' for way in _at_least(rest[1:], above)]
        least += 1
    elif shared and not above:
        ways.append(f'"." {start}')
    if not rest and most > 0:
        ways += [f'"." {start} "0" {way}' for way in _at_least("", True)]
        least = 1
    if least < most:
        ways.append(f'"." {start} [{least}-{most - 1}] {_more()}')
    return ways


def _more() -> str:
    return f"[0-9]{{0,{_FRACTION_DIGITS - 1}}}"


def _over(digits: str, above: bool) -> list[str]:
    """Rows of digits, one at least, that are not less than ``digits``."""
    return _at_least(digits, above)


def _at_least(digits: str, above: bool) -> list[str]:
    """Rows of digits that are not less than ``digits``, or greater with ``above``."""
    if not digits:
        return ['"0"{0,8} [1-9] ' + _more()] if above else [_more()]
    first = int(digits[0])
    ways = [f"{literal(digits[0])} {way}" for way in _at_least(digits[1:], above)]
    return ways + ([f"[{first + 1}-9] {_more()}"] if first < 9 else [])


def _under(digits: str, below: bool) -> list[str]:
    """Rows of digits, one at least, that are not greater than ``digits``, or less with ``below``."""
    if not digits:
        return [] if below else ['"0"{1,8}']
    first = int(digits[0])
    ways = [f"[0-{first - 1}] {_more()}"] if first else []
    return ways + [f"{literal(digits[0])} {way}" for way in _or_nothing(_under(digits[1:], below), digits[1:], below)]


def _or_nothing(ways: list[str], digits: str, below: bool) -> list[str]:
    """``ways``, or no more digits, which is less than ``digits`` unless they are none."""
    return [*ways, '""'] if digits or not below else ways
