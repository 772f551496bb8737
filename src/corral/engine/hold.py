"""A hand on one generation from outside of it: it hears all that comes, and may end it without an error."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from corral.engine.answers import CompletionAnswer


class Released(Exception):
    """The generation was ended from outside; what it had said was handed on before."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """A completion that goes on where it was: ``tokens`` of prompt and answer so far, and how many more it may have, if limited."""

    tokens: Sequence[int] = field(repr=False)
    room: int | None


@dataclass(slots=True)
class Hold:
    """One generation's. ``hear`` gets the engine's objects as they come, whether or not they say anything.

    ``slot`` is the engine's slot that it must run in. With ``answer`` the objects are read by that, which may have read an earlier
    part of the same completion; they then have tokens and counts, and stop strings are looked for by it. ``begun`` is called when
    the engine has given the request a slot. The objects are ``counted`` if each is to have the engine's counts.
    """

    hear: Callable[[Sequence[Mapping[str, Any]]], None]
    slot: int | None = None
    answer: CompletionAnswer | None = None
    resumed: Resumed | None = None
    begun: Callable[[], None] | None = None
    counted: bool = False
    released: bool = False
    _close: Callable[[], None] | None = None

    def begin(self, close: Callable[[], None]) -> None:
        """The request is on its way; ``close`` hangs up. Raises `Released` if it is not wanted any more."""
        if self.released:
            raise Released
        self._close = close
        if self.begun is not None:
            self.begun()

    def release(self) -> None:
        """End it: whoever reads it gets what has come, and then `Released`."""
        self.released = True
        if self._close is not None:
            self._close()
