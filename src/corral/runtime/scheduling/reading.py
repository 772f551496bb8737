"""Who reads next, of those who send texts to a model that only reads: parcel by parcel, live requests before all others.

An engine reads what it gets in the order in which it came. So no more is given to it than keeps it busy, and of what
came in the background no more than one parcel at a time: a live request waits for that at most.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from corral.engine.base import Embeddings, EngineConfig, EngineLoad, Parcels, Scores
from corral.engine.llama import LlamaEngine, most_read_at_once
from corral.engine.process import EngineProcess
from corral.runtime.scheduling.line import Line
from corral.runtime.scheduling.policy import BACKGROUND_PATIENCE_S


@dataclass(eq=False, slots=True)
class _Parcel:
    """Some texts of one request. Who has waited long in the background is as good as any other of his age."""

    arrived_s: float
    background: bool
    turn: asyncio.Future[None]

    def order(self, now_s: float) -> tuple[bool, float]:
        return self.background and now_s - self.arrived_s < BACKGROUND_PATIENCE_S, self.arrived_s


class ReadingLine:
    """The parcels that wait for one engine, which gets ``most`` at a time."""

    def __init__(self, line: Line, most: int) -> None:
        self._line = line
        self._most = most
        self._turn_s = 1.0
        self.waiting: list[_Parcel] = []
        self.running: list[_Parcel] = []

    @asynccontextmanager
    async def turn(self, request: Parcels) -> AsyncIterator[None]:
        """Wait until one of the parcels of ``request`` may be read, and read it in the block. Raises `ServerBusy` for the first."""
        parcel = _Parcel(time.monotonic(), request.background, asyncio.get_running_loop().create_future())
        self.waiting.append(parcel)
        try:
            self._let_in()
            if parcel in self.waiting:
                if not request.begun:
                    self._line.check(len(self.waiting) - 1, self._turn_s, self._most)
                self._line.waiting += 1
                try:
                    await parcel.turn
                finally:
                    self._line.waiting -= 1
            request.begun = True
            started = time.monotonic()
            yield
            self._turn_s += 0.1 * (time.monotonic() - started - self._turn_s)
        finally:
            (self.waiting if parcel in self.waiting else self.running).remove(parcel)
            self._let_in()

    def _let_in(self) -> None:
        now_s = time.monotonic()
        while len(self.running) < self._most:
            busy = any(parcel.background for parcel in self.running)
            ready = [parcel for parcel in self.waiting if not (parcel.background and busy)]
            if not ready:
                return
            first = min(ready, key=lambda parcel: parcel.order(now_s))
            self.waiting.remove(first)
            self.running.append(first)
            if not first.turn.done():
                first.turn.set_result(None)


class ReadingEngine(LlamaEngine):
    """An engine whose model only reads, for many who ask at once."""

    def __init__(self, config: EngineConfig, process: EngineProcess, line: Line) -> None:
        super().__init__(config, process)
        self._turns = ReadingLine(line, most_read_at_once(config))

    @property
    def load(self) -> EngineLoad:
        """How full it is; its slots have their tokens for themselves."""
        slots = self.config.slots
        pool_tokens = self.config.pool_tokens or self.config.context * slots
        return EngineLoad(slots, min(slots, len(self._turns.running)), len(self._turns.waiting), pool_tokens, 0)

    async def embed(self, inputs: Sequence[str | Sequence[int]], request: Parcels | None = None) -> Embeddings:
        """As the protocol has it; may raise `ServerBusy`."""
        async with self._turns.turn(request or Parcels()):
            return await super().embed(inputs)

    async def rerank(self, query: str, documents: Sequence[str], request: Parcels | None = None) -> Scores:
        """As the protocol has it; may raise `ServerBusy`."""
        async with self._turns.turn(request or Parcels()):
            return await super().rerank(query, documents)
