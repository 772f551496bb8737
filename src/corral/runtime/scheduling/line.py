"""How many requests may wait: on the whole server, and for one model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from corral.errors import ServerBusy

_LONGEST_RETRY_S = 120


@dataclass(slots=True)
class Line:
    """All who wait for a turn on any engine. ``elsewhere`` counts those who wait for something else and count too.

    ``most_here`` of 0 leaves one model as many as the server has.
    """

    most: int
    most_here: int = 0
    elsewhere: Callable[[], int] = field(default=lambda: 0)
    waiting: int = 0

    def check(self, waiting_here: int, turn_s: float, slots: int) -> None:
        """Raises `ServerBusy` when one more may not wait for a model for which ``waiting_here`` do.

        ``turn_s`` is how long a turn takes as a rule.
        """
        full = self.waiting + self.elsewhere() >= self.most
        full = full or bool(self.most_here and waiting_here >= self.most_here)
        if full:
            seconds = math.ceil((waiting_here + 1) * turn_s / slots)
            raise ServerBusy(position=waiting_here + 1, retry_after_s=max(1, min(_LONGEST_RETRY_S, seconds)))
