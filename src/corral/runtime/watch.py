"""Looking after an engine that has loaded, until it is told to stop, ends, or hangs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Literal

import anyio

from corral.engine.process import EngineProcess

logger = logging.getLogger(__name__)

_LOOK_S = 5.0
_ANSWER_S = 2.0


async def watch(
    process: EngineProcess,
    stop: asyncio.Event,
    *,
    healthy: Callable[[], Awaitable[bool]],
    busy: Callable[[], bool],
    patience_s: float,
) -> Literal["stopped", "ended", "hung"]:
    """What came first. An engine hangs when it has work, and for ``patience_s`` seconds neither answers nor uses the processor.

    One that reads a long prompt uses the processor, and one whose client does not read answers, so neither is taken for one
    that hangs. Time that the machine sleeps does not count.
    """
    stopped = asyncio.ensure_future(stop.wait())
    ended = asyncio.ensure_future(process.ended())
    look_s = min(_LOOK_S, patience_s / 4)
    before: tuple[object, ...] = ()
    alive_s = time.monotonic()
    try:
        while True:
            await asyncio.wait({stopped, ended}, timeout=look_s, return_when=asyncio.FIRST_COMPLETED)
            if not process.alive or ended.done():  # nobody has told it to end yet
                return "ended"
            if stopped.done():
                return "stopped"
            now = process.progress() if busy() else ()
            if not now or now != before or await _answers(healthy):
                before, alive_s = now, time.monotonic()
            elif time.monotonic() - alive_s >= patience_s:
                return "hung"
    finally:
        stopped.cancel()
        ended.cancel()


async def _answers(healthy: Callable[[], Awaitable[bool]]) -> bool:
    with anyio.move_on_after(_ANSWER_S):
        return await healthy()
    return False
