"""Beginnings that several prompts share: found among those under way, computed once, kept as files of the engine's.

A slot's state can be saved to a file and restored into any idle slot; for a thousand tokens of a model of half a billion parameters
that took 12 ms, where computing them took 8 s.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T")
LEAST_TOKENS = 256  # what is shorter is computed about as quickly as it is restored


@dataclass(eq=False, slots=True)
class Prefix:
    """Tokens at the beginning of prompts, and the file that has their state. ``users`` are those who are going to load it."""

    tokens: list[int] = field(repr=False)
    name: str
    size_bytes: int = 0
    users: int = 0


class Prefixes:
    """The states that are kept: as many as fit into ``most_bytes``, the least recently used goes first."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._kept: list[Prefix] = []  # the most recently used last
        self._numbers = count()

    def new(self, tokens: Sequence[int]) -> Prefix:
        """A prefix with a name of its own, not kept yet."""
        return Prefix(list(tokens), f"prefix-{next(self._numbers)}")

    @property
    def any_kept(self) -> bool:
        """Whether there is any."""
        return bool(self._kept)

    def keep(self, prefix: Prefix) -> list[Prefix]:
        """Keep what has been saved; those that must be forgotten for it, which may include it."""
        self._kept.append(prefix)
        return self.trim()

    def trim(self) -> list[Prefix]:
        """Those to be forgotten, that nobody is going to load."""
        gone: list[Prefix] = []
        for prefix in [kept for kept in self._kept if not kept.users]:
            if sum(kept.size_bytes for kept in self._kept) <= self._most_bytes:
                break
            self._kept.remove(prefix)
            gone.append(prefix)
        return gone

    def drop(self, prefix: Prefix) -> None:
        """It could not be loaded."""
        if prefix in self._kept:
            self._kept.remove(prefix)

    def best(self, tokens: Sequence[int]) -> Prefix | None:
        """The longest one kept with which ``tokens`` begin, and which leaves a token to compute."""
        fitting = [p for p in self._kept if len(p.tokens) < len(tokens) and begins_with(tokens, p.tokens)]
        found = max(fitting, key=lambda prefix: len(prefix.tokens), default=None)
        if found is not None:
            self._kept.remove(found)
            self._kept.append(found)
        return found


def begins_with(tokens: Sequence[int], beginning: Sequence[int]) -> bool:
    """Whether ``tokens`` start with all of ``beginning``."""
    return tokens[: len(beginning)] == beginning


def num_common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two sequences have in common at their beginning.

    >>> num_common([1, 2, 3, 4], [1, 2, 4])
    2
    """
    low, high = 0, min(len(a), len(b))
    while low < high:  # slices are compared in C
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


@dataclass(frozen=True, slots=True)
class Alike(Generic[T]):
    """What has most in common with some tokens, and how many."""

    num: int
    what: T | None


def most_alike(tokens: Sequence[int], others: Iterable[tuple[Sequence[int], T]]) -> Alike[T]:
    """The one of ``others`` whose tokens have the longest beginning in common with ``tokens``, of which one is left to compute."""
    found: Alike[T] = Alike(0, None)
    for theirs, what in others:
        num = min(num_common(tokens, theirs), len(tokens) - 1)
        if num > found.num:
            found = Alike(num, what)
    return found
