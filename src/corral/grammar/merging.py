"""Schemas that hold together, as one: ``allOf``, and what stands beside ``anyOf`` or ``$ref``."""

from __future__ import annotations

from typing import Any

from corral.grammar.keywords import ANNOTATIONS, Schema, bounds_of, is_of, kind_of, refused, types_of

_GREATER = ("minLength", "minItems", "minProperties")
_LESS = ("maxLength", "maxItems", "maxProperties")
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


class NothingFits(Exception):
    """No value is of both schemas; the argument says why."""


def merged(first: Schema, second: Schema, place: str) -> dict[str, Any]:
    """The schema for what is of both. Raises `NothingFits`, or `InvalidRequest` where it cannot be said."""
    both: dict[str, Any] = {k: v for k, v in first.items() if k not in ANNOTATIONS}
    for keyword, value in second.items():
        if keyword in ANNOTATIONS or keyword in _BOUNDS:
            continue
        if keyword not in both or both[keyword] == value:
            both[keyword] = value
        else:
            both[keyword] = _both(keyword, both[keyword], value, place)
    if any(keyword in second for keyword in _BOUNDS):
        _merge_bounds(both, first, second)
    _merge_properties(both, first, second, place)
    return both


def _both(keyword: str, first: Any, second: Any, place: str) -> Any:
    if keyword == "type":
        kinds = _common_types(types_of({"type": first}, place), types_of({"type": second}, place))
        if not kinds:
            raise NothingFits(f"it asks for {first} and for {second}")
        return list(kinds)
    if keyword in _GREATER:
        return max(first, second)
    if keyword in _LESS:
        return min(first, second)
    if keyword == "required":
        return [*first, *(name for name in second if name not in first)]
    if keyword == "enum":
        values = [value for value in first if any(same(value, other) for other in second)]
        if not values:
            raise NothingFits("no value is in both lists")
        return values
    if keyword == "const":
        raise NothingFits(f"it asks for {first!r} and for {second!r}")
    if keyword in ("properties", "additionalProperties", "unevaluatedProperties"):
        return first  # see `_merge_properties`
    if keyword == "items" and isinstance(first, dict) and isinstance(second, dict):
        return {"allOf": [first, second]}
    if keyword == "nullable":
        return False
    raise refused(place, keyword, "is there twice, in schemas that must both hold, which cannot be enforced")


def _common_types(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    found = [kind for kind in first if is_of(kind, second)]
    return tuple(dict.fromkeys([*found, *(kind for kind in second if is_of(kind, first))]))


def _merge_bounds(both: dict[str, Any], first: Schema, second: Schema) -> None:
    bounds = bounds_of(first).and_(bounds_of(second))
    for keyword in _BOUNDS:
        both.pop(keyword, None)
    for number, out, inside, outside in (
        (bounds.low, bounds.above, "minimum", "exclusiveMinimum"),
        (bounds.high, bounds.below, "maximum", "exclusiveMaximum"),
    ):
        if number is not None:
            both[outside if out else inside] = int(number) if number == int(number) else float(number)


def _merge_properties(both: dict[str, Any], first: Schema, second: Schema, place: str) -> None:
    """Properties of both, in order; what one does not name must be what it allows besides."""
    ours, theirs = first.get("properties", {}), second.get("properties", {})
    if not ours and not theirs and "additionalProperties" not in both:
        return
    found: dict[str, Any] = {}
    for name in dict.fromkeys([*ours, *theirs]):
        sides = [
            properties[name] if name in properties else schema.get("additionalProperties", True)
            for schema, properties in ((first, ours), (second, theirs))
        ]
        found[name] = _together(sides)
    if found:
        both["properties"] = found
    besides = [schema["additionalProperties"] for schema in (first, second) if "additionalProperties" in schema]
    if besides:
        both["additionalProperties"] = _together(besides)


def _together(sides: list[Any]) -> Any:
    if any(side is False for side in sides):
        return False
    real = [side for side in sides if side is not True and side != {}]
    return True if not real else real[0] if len(real) == 1 else {"allOf": real}


def same(first: Any, second: Any) -> bool:
    """Whether two values of JSON are equal: ``1`` is ``1.0`` and not ``true``."""
    if isinstance(first, bool) != isinstance(second, bool):
        return False
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    return bool(first == second)


def holds(value: Any, schema: Schema, place: str) -> bool:
    """Whether ``value``, one of an ``enum``, is what the keywords beside it say. Raises for those that cannot be told."""
    import re
    from decimal import Decimal

    kind = kind_of(value)
    if "type" in schema and not is_of(kind, types_of(schema, place)):
        return False
    if "const" in schema and not same(value, schema["const"]):
        return False
    if kind in ("integer", "number"):
        return bounds_of(schema).hold(Decimal(repr(value)))
    if kind == "string":
        least, most = schema.get("minLength", 0), schema.get("maxLength")
        try:
            matches = "pattern" not in schema or re.search(schema["pattern"], value) is not None
        except re.error as exc:
            raise refused(place, "pattern", f"cannot be read: {exc}") from exc
        return len(value) >= least and (most is None or len(value) <= most) and matches
    beside = {"array": ("items", "prefixItems", "minItems", "maxItems"), "object": ("properties", "required")}.get(
        kind, ()
    )
    clash = next((keyword for keyword in beside if keyword in schema), None)
    if clash is not None:
        raise refused(place, clash, "stands beside values that are given whole, which cannot be enforced")
    return True
