"""Whether what is written for one schema is never of another: what ``oneOf`` needs to be more than ``anyOf``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from corral.grammar.keywords import Schema, is_of, kind_of, types_of
from corral.grammar.merging import same

Resolve = Callable[[Any], Schema]
_DEEPEST = 6


def never(first: Schema, second: Schema, resolve: Resolve, place: str, depth: int = 0) -> bool:
    """Whether no answer that is written for ``first`` is of ``second``; ``False`` where it cannot be told."""
    if depth > _DEEPEST or any(
        keyword in schema for schema in (first, second) for keyword in ("anyOf", "oneOf", "allOf")
    ):
        return False
    ours, theirs = _values(first), _values(second)
    if ours is not None and theirs is not None:
        return not any(same(value, other) for value in ours for other in theirs)
    kinds = types_of(first, place) if ours is None else tuple(kind_of(value) for value in ours)
    others = types_of(second, place) if theirs is None and _says_type(second) else None
    if theirs is not None:
        others = tuple(kind_of(value) for value in theirs)
    if others is not None and not any(
        is_of(kind, others) or is_of(other, (kind,)) for kind in kinds for other in others
    ):
        return True
    return kinds == ("object",) and _never_objects(first, second, resolve, place, depth)


def _says_type(schema: Schema) -> bool:
    return "type" in schema


def _values(schema: Schema) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    values = schema.get("enum")
    return list(values) if values is not None else None


def _never_objects(first: Schema, second: Schema, resolve: Resolve, place: str, depth: int) -> bool:
    ours, theirs = first.get("properties", {}), second.get("properties", {})
    closed = bool(ours) and first.get("additionalProperties", False) is False
    if types_of(second, place) == ("object",):
        if closed and any(name not in ours for name in second.get("required", ())):
            return True
        if second.get("additionalProperties") is False and any(
            name not in theirs for name in first.get("required", ())
        ):
            return True
    return any(
        never(resolve(ours[name]), resolve(theirs[name]), resolve, place, depth + 1)
        for name in first.get("required", ())
        if isinstance(ours.get(name), dict) and isinstance(theirs.get(name), dict)
    )
