"""What the runtime counts, for operators. Plain numbers: who shows them decides how, and whoever counts pays next to nothing.

Keys are labels of models (`label`), so there are never more of them than models that exist or existed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from corral.engine.base import Finished
from corral.names import ModelName

WAITS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
LoadOutcome = Literal["ok", "failed"]


def label(name: ModelName) -> str:
    """What a model is counted under: the same for every spelling of its name.

    >>> label(ModelName.parse("Tiny"))
    'tiny:latest'
    """
    return name.short.lower()


class Histogram:
    """How many values lie up to each bound, as Prometheus counts them."""

    __slots__ = ("_bounds", "_counts", "total")

    def __init__(self, bounds: Sequence[float] = WAITS_S) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count ``value``."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """Each bound and how many values are no greater than it; the last is ``+Inf``.

        >>> histogram = Histogram((1.0, 2.0))
        >>> for value in (0.5, 1.0, 1.5, 9.0): histogram.observe(value)
        >>> histogram.buckets()
        [('1.0', 2), ('2.0', 3), ('+Inf', 4)]
        """
        buckets: list[tuple[str, float]] = []
        so_far = 0
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            so_far += count
            buckets.append((bound, so_far))
        return buckets


@dataclass(slots=True)
class RuntimeNumbers:
    """Counts since the server started, by model. Times are in seconds."""

    first_token: defaultdict[str, Histogram] = field(default_factory=lambda: defaultdict(Histogram))
    prompt_tokens: Counter[str] = field(default_factory=Counter)
    cached_tokens: Counter[str] = field(default_factory=Counter)
    generated_tokens: Counter[str] = field(default_factory=Counter)
    loads: Counter[tuple[str, LoadOutcome]] = field(default_factory=Counter)
    load_times: defaultdict[str, Histogram] = field(default_factory=lambda: defaultdict(Histogram))
    evictions: Counter[str] = field(default_factory=Counter)
    crashes: Counter[str] = field(default_factory=Counter)
    retries: Counter[str] = field(default_factory=Counter)
    pauses: Counter[str] = field(default_factory=Counter)
    prefix_leaders: Counter[str] = field(default_factory=Counter)
    queue_wait: Histogram = field(default_factory=Histogram)

    def finished(self, model: str, end: Finished) -> None:
        """Count the tokens of an answer that came to its end."""
        self.prompt_tokens[model] += end.prompt_tokens
        self.cached_tokens[model] += end.cached_tokens
        self.generated_tokens[model] += end.generated_tokens
