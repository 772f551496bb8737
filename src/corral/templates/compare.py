"""Comparison as Go's templates have it: numbers, text and truth by value, and nothing across kinds."""

from __future__ import annotations

from collections.abc import Sequence

from corral.templates.errors import FunctionError
from corral.templates.formats import sprintf
from corral.templates.limits import Budget
from corral.templates.values import Kind, Pointer, Struct, encoded, is_nil, kind_of, plain, type_of, unwrapped

_WHOLE = (Kind.INT, Kind.UINT)


def _basic(value: object) -> Kind | None:
    """The kind of what can be compared by value."""
    kind = kind_of(value)
    return kind if kind is not None and kind <= Kind.STRING else None


def equal(first: object, others: Sequence[object], budget: Budget) -> bool:
    """Whether ``first`` equals any of ``others``."""
    first = unwrapped(first)
    if not others:
        raise FunctionError("missing argument for comparison")
    return any(_same(first, unwrapped(other), budget) for other in others)


def _same(first: object, other: object, budget: Budget) -> bool:
    if type(first) is str and type(other) is str:
        budget.spend(len(first) >> 10)
        return first == other
    kind, other_kind = _basic(first), _basic(other)
    if kind != other_kind and not (kind in _WHOLE and other_kind in _WHOLE):
        if first is not None and other is not None:
            raise _incompatible(first, other)
        return False
    if kind is None:
        return _same_parts(first, other, budget)
    if kind is Kind.STRING:
        budget.spend(len(str(plain(first))) >> 10)
    return plain(first) == plain(other)


def _incompatible(first: object, other: object) -> FunctionError:
    return FunctionError(f"incompatible types for comparison: {type_of(first).name} and {type_of(other).name}")


def _same_parts(first: object, other: object, budget: Budget) -> bool:
    """Compare what is neither number, text nor truth; only nil and some structs can be."""
    if first is not None and other is not None and kind_of(first) != kind_of(other):
        shown = sprintf("%s: %v, ", [first, type_of(first).name], budget)
        raise FunctionError(f"non-comparable types {shown}{type_of(other).name}: {sprintf('%v', [other], budget)}")
    if is_nil(first) or is_nil(other):
        return is_nil(first) == is_nil(other)
    if not _comparable(other):
        raise FunctionError(f"non-comparable type {sprintf('%s', [other], budget)}: {type_of(other).name}")
    return _identical(first, other)


def _comparable(value: object) -> bool:
    return isinstance(value, Pointer) or (
        isinstance(value, Struct) and all(field.type.kind not in (Kind.SLICE, Kind.MAP) for field in value.type.fields)
    )


def _identical(first: object, other: object) -> bool:
    if type_of(first) is not type_of(other):
        return False
    if isinstance(first, Pointer) and isinstance(other, Pointer):
        return first.target is other.target
    assert isinstance(first, Struct)
    assert isinstance(other, Struct)
    return all(
        _identical_fields(unwrapped(first.get(field)), unwrapped(other.get(field))) for field in first.type.fields
    )


def _identical_fields(first: object, other: object) -> bool:
    if isinstance(first, Struct | Pointer) and isinstance(other, Struct | Pointer):
        return _identical(first, other)
    return plain(first) == plain(other)


def less(first: object, other: object, budget: Budget) -> bool:
    """Whether ``first`` comes before ``other``."""
    first, other = unwrapped(first), unwrapped(other)
    kind, other_kind = _basic(first), _basic(other)
    if kind is None or other_kind is None:
        raise FunctionError("invalid type for comparison")
    if kind != other_kind and not (kind in _WHOLE and other_kind in _WHOLE):
        raise _incompatible(first, other)
    if kind in (Kind.BOOL, Kind.COMPLEX):
        raise FunctionError("invalid type for comparison")
    left, right = plain(first), plain(other)
    if isinstance(left, str) and isinstance(right, str):
        budget.spend(len(left) >> 10)
        return left < right if left.isascii() and right.isascii() else encoded(left) < encoded(right)
    return bool(left < right)  # type: ignore[operator]


def less_or_equal(first: object, other: object, budget: Budget) -> bool:
    """Whether ``first`` comes before ``other`` or equals it."""
    return less(first, other, budget) or equal(first, [other], budget)
