"""Models that are to be in memory before anybody asks: loaded when the server starts, one after the other, pinned ones first."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from anyio import to_thread

from corral.config import Settings
from corral.errors import CorralError
from corral.library import Library
from corral.names import ModelName
from corral.runtime.requests import EngineRequest
from corral.runtime.session import Sessions

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Preload:
    """What is still to be loaded, and what could not be, with the reason."""

    waiting: list[ModelName] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def pending(self) -> str:
        """What there is to wait for, for `ready`; empty when there is nothing."""
        return f"{self.waiting[0].short} is being loaded" if self.waiting else ""


@asynccontextmanager
async def preloading(settings: Settings, library: Library, sessions: Sessions) -> AsyncIterator[Preload]:
    """Load what the settings name, while the block goes on. One that fails is logged, and the others go on."""
    names = {"/".join(name.key): name for name in (*settings.pin, *settings.preload)}
    preload = Preload(list(names.values()))
    task = asyncio.create_task(_load(preload, library, sessions), name="preload")
    try:
        yield preload
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _load(preload: Preload, library: Library, sessions: Sessions) -> None:
    while preload.waiting:
        name = preload.waiting[0]
        try:
            spec = await to_thread.run_sync(library.resolve, name)
            await sessions.load(EngineRequest(spec=spec))
        except CorralError as exc:
            logger.error("preloading %s failed: %s", name.short, exc)
            preload.failed[name.short] = str(exc)
        preload.waiting.pop(0)
