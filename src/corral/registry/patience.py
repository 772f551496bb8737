"""When a transfer tries again, and when it gives up. Pure: no clock of its own."""

from __future__ import annotations

import random

from corral.errors import RegistryError

_MAX_FAILURES = 6  # one after the other, where nothing ever came
_MAX_WAIT_S = 60.0
PATIENCE_S = 300.0
BACKOFF_S = 1.0  # before the second try; twice as much before each further one


class Patience:
    """How often the same thing is tried. A line over which something came is waited for: for ``patience_s`` after its last sign.

    ``backoff_s`` is the first of the pauses between, which double.
    """

    def __init__(self, patience_s: float = PATIENCE_S, backoff_s: float = BACKOFF_S) -> None:
        self._patience_s = patience_s
        self._backoff_s = backoff_s
        self._failures = 0
        self._last_sign: float | None = None

    @property
    def ever_worked(self) -> bool:
        """Whether anything ever came."""
        return self._last_sign is not None

    def worked(self, now: float) -> None:
        """Something came, or was taken."""
        self._failures = 0
        self._last_sign = now

    def anew(self, now: float) -> Patience:
        """The same for something else; what ever worked is waited for from ``now`` on."""
        other = Patience(self._patience_s, self._backoff_s)
        if self.ever_worked:
            other.worked(now)
        return other

    def failed(self, error: RegistryError, now: float) -> float:
        """Seconds to wait before the next try. Raises ``error`` when there is none."""
        self._failures += 1
        if not error.temporary or (self._failures > _MAX_FAILURES and not self._waits(now)):
            raise error
        wait_s: float = self._backoff_s * 2.0 ** min(self._failures - 1, 5) * random.uniform(0.5, 1.0)  # noqa: S311
        return min(max(error.retry_after_s, wait_s), _MAX_WAIT_S)

    def _waits(self, now: float) -> bool:
        return self._last_sign is not None and now - self._last_sign < self._patience_s
