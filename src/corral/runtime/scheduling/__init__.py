"""Which request may use an engine now: admission by tokens, the order of prompts, pauses, prefixes that are computed once."""

from corral.runtime.scheduling.engine import ScheduledEngine
from corral.runtime.scheduling.line import Line
from corral.runtime.scheduling.reading import ReadingEngine

__all__ = ["Line", "ReadingEngine", "ScheduledEngine"]
