"""Floats as Go's strconv writes them."""

from __future__ import annotations

import math
from decimal import Decimal


def format_float(value: float, verb: str, precision: int = -1) -> str:
    """``value`` in the form of ``verb``: e E f g G b x X. Precision -1 is as few digits as name the float.

    >>> format_float(1e6, "g"), format_float(1.5, "e", 3), format_float(0.1, "f")
    ('1e+06', '1.500e+00', '0.1')
    """
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    sign = "-" if math.copysign(1, value) < 0 else ""
    value = abs(value)
    if verb == "b":
        return sign + _binary(value)
    if verb in "xX":
        text = _hexadecimal(value, precision)
        return sign + (text.upper() if verb == "X" else text)
    shortest = precision < 0
    digits, point = _digits(value, verb, precision)
    if shortest:
        precision = {"e": len(digits) - 1, "E": len(digits) - 1, "f": max(len(digits) - point, 0)}.get(
            verb, len(digits)
        )
    if verb in "eE":
        return sign + _exponential(digits, point, precision, verb)
    if verb == "f":
        return sign + _fixed(digits, point, precision)
    return sign + _general(digits, point, precision, verb, shortest=shortest)


def json_number(value: float) -> str:
    """A finite float as Go's encoding/json writes it."""
    size = abs(value)
    if size == 0 or 1e-6 <= size < 1e21:
        return format_float(value, "f")
    text = format_float(value, "e")
    return text[:-2] + text[-1] if text[-4:-1] == "e-0" else text


def _digits(value: float, verb: str, precision: int) -> tuple[str, int]:
    """The digits of a value without zeros around them, and where the point stands: 12.5 is ("125", 2)."""
    if precision < 0:
        _, figures, exponent = Decimal(repr(value)).as_tuple()
        text = "".join(map(str, figures))
        assert isinstance(exponent, int)
        point = len(text) + exponent
    elif verb == "f":
        text = f"{value:.{precision}f}".replace(".", "")
        point = len(text) - precision
    else:
        places = precision if verb in "eE" else max(precision, 1) - 1
        mantissa, _, power = f"{value:.{places}e}".partition("e")
        text, point = mantissa.replace(".", ""), int(power) + 1
    stripped = text.lstrip("0")
    point -= len(text) - len(stripped)
    stripped = stripped.rstrip("0")
    return stripped, point if stripped else 0


def _exponential(digits: str, point: int, precision: int, mark: str) -> str:
    text = digits[:1] or "0"
    if precision > 0:
        text += "." + digits[1 : precision + 1].ljust(precision, "0")
    exponent = point - 1 if digits else 0
    return f"{text}{mark}{'-' if exponent < 0 else '+'}{abs(exponent):02d}"


def _fixed(digits: str, point: int, precision: int) -> str:
    text = digits[:point].ljust(point, "0") if point > 0 else "0"
    if precision > 0:
        fraction = digits[point:] if point >= 0 else "0" * min(-point, precision) + digits
        text += "." + fraction[:precision].ljust(precision, "0")
    return text


def _general(digits: str, point: int, precision: int, verb: str, *, shortest: bool) -> str:
    precision = max(precision, 1) if not shortest else precision
    threshold = 6 if shortest else precision
    if not shortest and threshold > len(digits) >= point:
        threshold = len(digits)
    exponent = point - 1
    if exponent < -4 or exponent >= threshold:
        return _exponential(digits, point, min(precision, len(digits)) - 1, "e" if verb == "g" else "E")
    if precision > point:
        precision = len(digits)
    return _fixed(digits, point, max(precision - point, 0))


def _parts(value: float) -> tuple[int, int]:
    """Mantissa of 53 bits (fewer for the smallest numbers) and exponent of two."""
    mantissa, denominator = value.as_integer_ratio()
    exponent = 1 - denominator.bit_length()
    if (extra := mantissa.bit_length() - 53) > 0:
        return mantissa >> extra, exponent + extra
    shift = min(53 - mantissa.bit_length(), exponent + 1074)
    return mantissa << shift, exponent - shift


def _binary(value: float) -> str:
    mantissa, exponent = _parts(value) if value else (0, -1074)
    return f"{mantissa}p{exponent:+d}"


def _hexadecimal(value: float, precision: int) -> str:
    if value == 0:
        return "0x0" + ("." + "0" * precision if precision > 0 else "") + "p+00"
    mantissa, exponent = _parts(value)
    shift = 61 - mantissa.bit_length()
    exponent += 60 - shift
    mantissa <<= shift
    if 0 <= precision < 15:
        kept = 60 - precision * 4
        rest = mantissa & ((1 << kept) - 1)
        mantissa >>= kept
        if rest > 1 << (kept - 1) or (rest == 1 << (kept - 1) and mantissa & 1):
            mantissa += 1
        mantissa <<= kept
        if mantissa >> 61:
            mantissa >>= 1
            exponent += 1
    fraction = f"{mantissa & ((1 << 60) - 1):015x}"
    fraction = fraction.rstrip("0") if precision < 0 else fraction[:precision].ljust(precision, "0")
    text = f"0x{mantissa >> 60}" + (f".{fraction}" if fraction else "")
    return f"{text}p{'-' if exponent < 0 else '+'}{abs(exponent):02d}"
