"""The memory of this machine and of its devices, as far as nobody has it, or is about to have it.

What the kernel calls free is not all free: files that engines have mapped count as cache, and an engine that is loading has not
yet taken what it will. So of every engine of ours that part of its need is taken off which the kernel cannot know yet.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from corral.engine.devices import probe_devices
from corral.hardware import Device, Memory, memory
from corral.runtime.placement import CPU, Bytes

logger = logging.getLogger(__name__)

_FRESH_S = 2.0  # what devices said is good for so long: others use them too


@dataclass(frozen=True, slots=True)
class Held:
    """What one of our engines needs, what it has of main memory beside mapped files, and when it was started (monotonic)."""

    need: Bytes
    private_bytes: int
    since_s: float


class Machine:
    """Knows what is free. ``limit_bytes`` is the most that all models may take of main memory; 0 is no limit."""

    def __init__(
        self,
        limit_bytes: int = 0,
        probe: Callable[[], Awaitable[tuple[Device, ...] | None]] = probe_devices,
        look: Callable[[], Memory] = memory,
    ) -> None:
        self._limit_bytes = limit_bytes
        self._probe = probe
        self._look = look
        self._one_at_a_time = asyncio.Lock()
        self._probed_s: float | None = None
        self.devices: tuple[Device, ...] = ()

    async def refresh(self) -> None:
        """Look at the devices: the first time, and again whenever there are any and the last look is old."""
        async with self._one_at_a_time:
            first = self._probed_s is None
            if not first and (not self.devices or time.monotonic() - (self._probed_s or 0) < _FRESH_S):
                return
            started = time.monotonic()
            found = await self._probe()
            self._probed_s = started
            if found is None:
                return  # the old figures, less what was started since, are better than none
            if first:
                for device in found:
                    size, name = device.total_bytes / 1e9, device.description
                    logger.info("%s: %s, %.1f GB, %.1f free", device.name, name, size, device.free_bytes / 1e9)
            self.devices = found

    def free(self, held: Iterable[Held]) -> dict[str, int]:
        """Bytes that a new engine may take, by device."""
        engines = list(held)
        free_bytes = self._look().free_bytes - sum(
            max(0, engine.need.get(CPU, 0) - engine.private_bytes) for engine in engines
        )
        if self._limit_bytes:
            taken = sum(max(engine.need.get(CPU, 0), engine.private_bytes) for engine in engines)
            free_bytes = min(free_bytes, self._limit_bytes - taken)
        found = {CPU: max(0, free_bytes)}
        for device in self.devices:
            new = sum(e.need.get(device.name, 0) for e in engines if e.since_s >= (self._probed_s or 0))
            every = sum(e.need.get(device.name, 0) for e in engines)
            found[device.name] = max(0, min(device.free_bytes - new, device.total_bytes - every))
        return found
