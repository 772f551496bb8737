"""Who fetches which pieces of a blob. Pure: no clock of its own, no file, no network.

Pieces are given out from the beginning on, so that the hash can follow; late in the day who has nothing to do takes half of what
the slowest still has before it, and at last the same piece that somebody is stuck with, or gets a byte of now and then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

_FIRST_PIECES = 8
_MAX_PIECES = 64
_CLAIM_S = 4.0  # how long a claim should take
_WORTH_S = 1.0  # what a rest must take for a second connection to help with it
_STUCK_S = 5.0  # without a byte
_SLOW_S = 10.0  # for one piece, where others take much less
_SLOW_FACTOR = 4


@dataclass(eq=False, slots=True)
class Claim:
    """Pieces ``next`` to ``end`` (exclusive), which one connection fetches in order. ``begun`` is what came of the first."""

    next: int
    end: int
    since: float
    touched: float
    piece_since: float
    num_fetched: int = 0
    begun: bytearray = field(default_factory=bytearray)
    alone: bool = False

    def takes_s(self, now: float) -> float:
        """How long what is left will take, by how long the rest took."""
        return (self.end - self.next) * (now - self.since) / max(self.num_fetched, 1)


class Plan:
    """The pieces that are missing, and who fetches them."""

    def __init__(self, num_pieces: int, has: Callable[[int], bool]) -> None:
        self._num_pieces = num_pieces
        self._has = has
        self._claims: list[Claim] = []
        self._left: list[Claim] = []  # given back unfinished
        self._cursor = 0
        self._size = _FIRST_PIECES
        self._piece_s = 0.0  # that a piece takes, by the last ones

    def take(self, now: float) -> Claim | None:
        """Something to fetch; ``None`` when all that is missing is being fetched."""
        if any(other.alone for other in self._claims):
            return None
        claim = self._given_back(now) or self._fresh(now) or self._half(now) or self._stuck(now)
        if claim is not None:
            self._claims.append(claim)
        return claim

    def fetched(self, claim: Claim, now: float) -> None:
        """The next piece of ``claim`` is there."""
        claim.next += 1
        claim.num_fetched += 1
        self._piece_s = (
            self._piece_s * 0.9 + (now - claim.piece_since) * 0.1 if self._piece_s else now - claim.piece_since
        )
        claim.touched = claim.piece_since = now
        claim.begun = bytearray()  # whoever writes the last one has it still

    def release(self, claim: Claim, now: float) -> None:
        """Whoever had ``claim`` is done with it, or cannot go on; what is left is for others."""
        self._claims.remove(claim)
        if claim.next < claim.end:
            self._left.append(claim)
        elif claim.num_fetched and (took := now - claim.since) > 0:
            rate = claim.num_fetched / took
            self._size = max(1, min(_MAX_PIECES, int(rate * _CLAIM_S)))

    def take_all(self, claim: Claim) -> bool:
        """Give ``claim`` everything that is missing, as its connection brings it all; ``False`` if another one has it already."""
        if any(other.alone for other in self._claims):
            claim.end = claim.next
            return False
        for other in self._claims:
            other.end = min(other.end, other.next)
        self._left.clear()
        claim.begun.clear()
        claim.next, claim.end, claim.alone = 0, self._num_pieces, True
        self._cursor = self._num_pieces
        return True

    def lost(self, piece: int) -> None:
        """``piece`` was there and is not any more."""
        self._cursor = min(self._cursor, piece)

    def _given_back(self, now: float) -> Claim | None:
        while self._left:
            claim = self._left.pop(0)
            while claim.next < claim.end and self._has(claim.next):
                claim.next += 1
                claim.begun.clear()
            if claim.next < claim.end:
                return Claim(claim.next, claim.end, now, now, now, begun=claim.begun)
        return None

    def _fresh(self, now: float) -> Claim | None:
        while self._cursor < self._num_pieces and self._is_cared_for(self._cursor):
            self._cursor += 1
        end = self._cursor
        while end < self._num_pieces and end - self._cursor < self._size and not self._is_cared_for(end):
            end += 1
        if end == self._cursor:
            return None
        claim = Claim(self._cursor, end, now, now, now)
        self._cursor = end
        return claim

    def _half(self, now: float) -> Claim | None:
        longest = max(self._claims, key=lambda claim: claim.takes_s(now), default=None)
        if longest is None or longest.end - longest.next < 2 or longest.takes_s(now) < _WORTH_S:
            return None
        middle = (longest.next + longest.end + 1) // 2
        claim = Claim(middle, longest.end, now, now, now)
        longest.end = middle
        return claim

    def _stuck(self, now: float) -> Claim | None:
        slow_s = max(_SLOW_S, _SLOW_FACTOR * self._piece_s)
        for claim in self._claims:
            silent, slow = now - claim.touched > _STUCK_S, now - claim.piece_since > slow_s
            if claim.next < claim.end and not self._has(claim.next) and (silent or slow):
                claim.touched = claim.piece_since = now  # one more at a time
                return Claim(claim.next, claim.end, now, now, now)
        return None

    def _is_cared_for(self, piece: int) -> bool:
        return self._has(piece) or any(claim.next <= piece < claim.end for claim in (*self._claims, *self._left))
