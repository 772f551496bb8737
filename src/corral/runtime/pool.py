"""The engines in memory: loaded on first use, shared by requests, unloaded when idle.

A request takes a lease; the lease is counted in the same step in which the engine is chosen, so an engine that was handed out
never looks idle to anyone else. An engine belongs to its model: to a name and the manifest behind it, not to the
weights file, which other models may use with other templates.

    loading ──► ready ──► retiring ──► gone
       └───────────┴─────────┴──► gone          (it failed, or its process ended)
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import psutil

from corral.config import Settings
from corral.engine.base import Engine, EngineConfig
from corral.engine.llama import LlamaEngine
from corral.engine.process import WORKER, EngineProcess, run_engine
from corral.errors import CorralError, EngineCrashed, NotSupported, ServerBusy
from corral.library import ModelSpec
from corral.logs import NO_REQUEST, request_id
from corral.runtime.numbers import RuntimeNumbers, label
from corral.runtime.options import EngineWishes
from corral.runtime.placement import Load, Loaded, Shape, place, plan
from corral.runtime.scheduling import Line, ScheduledEngine, State
from corral.runtime.translated import Translated

logger = logging.getLogger(__name__)

_SMALL_BATCH, _LARGE_BATCH = 512, 2048  # tokens that an embedding model reads together
_FAR_FUTURE = timedelta(days=365 * 100)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """One engine, for those who look: `expires_at` is when it goes if nobody asks for it again."""

    spec: ModelSpec
    context: int
    slots: int
    memory_bytes: int
    expires_at: datetime
    loading: bool
    pid: int | None
    leases: int
    state: State | None  # of slots, tokens and queue, once it generates


class _Entry:
    """One engine and who uses it."""

    def __init__(
        self,
        spec: ModelSpec,
        config: EngineConfig,
        need_bytes: int,
        wishes: EngineWishes,
        keep_alive_s: float,
    ):
        self.spec = spec
        self.config = config
        self.need_bytes = need_bytes
        self.wishes = wishes
        self.keep_alive_s = keep_alive_s
        self.ready: asyncio.Future[Engine] = asyncio.get_running_loop().create_future()
        self.stop = asyncio.Event()
        self.process: EngineProcess | None = None
        self.scheduled: ScheduledEngine | None = None
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.leases = 0
        self.retiring = False
        self.idle_since = 0.0
        self.expires_at = _deadline(keep_alive_s)

    def serves(self, spec: ModelSpec, wishes: EngineWishes) -> bool:
        """Whether a request for ``spec`` with ``wishes`` can run here. A smaller context always can."""
        trained = spec.facts.context_length if spec.facts else None
        context = min(wishes.num_ctx or 0, trained or wishes.num_ctx or 0)
        return (
            self.spec.digest == spec.digest
            and context <= self.config.context
            and all(
                wish is None or wish == mine
                for wish, mine in (
                    (wishes.batch, self.wishes.batch),
                    (wishes.gpu_layers, self.wishes.gpu_layers),
                    (wishes.main_gpu, self.wishes.main_gpu),
                    (wishes.mmap, self.wishes.mmap),
                    (wishes.threads, self.wishes.threads),
                )
            )
        )


@dataclass(slots=True)
class Lease:
    """A request's hold on an engine. ``load_ns`` is how long it took to get."""

    engine: Engine
    load_ns: int
    _entry: _Entry

    def discard(self) -> None:
        """Never hand this engine out again: it failed its holder."""
        self._entry.retiring = True
        self._entry.stop.set()


class EnginePool:
    """All engines of this server. Use as ``async with``: on the way out every engine is stopped and reaped."""

    def __init__(self, settings: Settings, worker: Sequence[str] = WORKER) -> None:
        """``worker`` is the command line of an engine process."""
        self.translated = Translated(settings.data / "translated")
        self._settings = settings
        self._worker = worker
        self._entries: dict[str, _Entry] = {}
        self._changed = asyncio.Event()
        self._waiting = 0
        self._started = 0
        self._closed = False
        self.numbers = RuntimeNumbers()
        self.line = Line(settings.max_queue, settings.model_queue, lambda: self._waiting)

    async def __aenter__(self) -> EnginePool:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closed = True
        tasks = [entry.task for entry in self._entries.values() if entry.task]
        for entry in self._entries.values():
            entry.retiring = True
            entry.stop.set()
            if not entry.ready.done() and entry.task:
                entry.task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @asynccontextmanager
    async def lease(
        self, spec: ModelSpec, wishes: EngineWishes, keep_alive_s: float | None = None
    ) -> AsyncIterator[Lease]:
        """An engine for ``spec``, loaded if need be, kept for at least as long as the block.

        ``keep_alive_s`` replaces how long the model stays after its last request; ``None`` leaves it. Raises `ServerBusy` when
        too many wait, `NotSupported` for weights that llama.cpp cannot load, and what a failed load raises.
        """
        if spec.refusal:
            raise NotSupported(f'"{spec.name.short}" cannot be loaded: {spec.refusal}')
        started = time.monotonic_ns()
        entry = await self._acquire(spec, wishes, keep_alive_s)
        self.numbers.queue_wait.observe((time.monotonic_ns() - started) / 1e9)
        try:
            engine = await asyncio.shield(entry.ready)
            yield Lease(engine, time.monotonic_ns() - started, entry)
        finally:
            self._release(entry)

    def loaded(self) -> list[LoadedModel]:
        """What is in memory, the longest to stay first."""
        return sorted(
            (
                LoadedModel(
                    spec=entry.spec,
                    context=entry.config.context,
                    slots=entry.config.slots,
                    memory_bytes=(entry.process.memory_bytes if entry.process else 0) or entry.need_bytes,
                    expires_at=_deadline(entry.keep_alive_s) if entry.leases else entry.expires_at,
                    loading=not entry.ready.done(),
                    pid=entry.process.pid if entry.process else None,
                    leases=entry.leases,
                    state=entry.scheduled.state if entry.scheduled else None,
                )
                for entry in self._entries.values()
                if not entry.stop.is_set()
            ),
            key=lambda model: model.expires_at,
            reverse=True,
        )

    @property
    def idle(self) -> bool:
        """Whether nothing is loaded and nobody waits."""
        return not self._entries and not self._waiting

    @property
    def num_waiting(self) -> int:
        """Requests that wait for room for their model."""
        return self._waiting

    def unload(self, key: str) -> None:
        """Let the model go as soon as nobody uses it. Unknown keys are no error."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.keep_alive_s = 0
            if not entry.leases:
                self._retire(entry)

    # -- taking and giving back -------------------------------------------------------------------------------

    async def _acquire(self, spec: ModelSpec, wishes: EngineWishes, keep_alive_s: float | None) -> _Entry:
        key = model_key(spec)
        entry = self._take(key, spec, wishes, keep_alive_s)
        if entry is not None:
            return entry
        if self._waiting >= self._settings.max_queue:
            raise ServerBusy(position=self._waiting + 1)
        self._waiting += 1
        try:
            while True:
                changed = self._changed
                entry = self._take(key, spec, wishes, keep_alive_s)
                if entry is not None:
                    return entry
                await changed.wait()
        finally:
            self._waiting -= 1

    def _take(self, key: str, spec: ModelSpec, wishes: EngineWishes, keep_alive_s: float | None) -> _Entry | None:
        """An entry with one more lease on it, or ``None`` when that must wait for a change."""
        entry = self._entries.get(key)
        if entry is not None and (entry.retiring or not entry.serves(spec, wishes)):
            self._retire(entry)
            return None
        if entry is None:
            entry = self._load(key, spec, wishes, keep_alive_s)
        if entry is None:
            return None
        entry.leases += 1
        if keep_alive_s is not None:
            entry.keep_alive_s = keep_alive_s
        if entry.timer is not None:
            entry.timer.cancel()
            entry.timer = None
        return entry

    def _load(self, key: str, spec: ModelSpec, wishes: EngineWishes, keep_alive_s: float | None) -> _Entry | None:
        if self._closed:
            raise EngineCrashed("the server is shutting down")
        free = psutil.virtual_memory().available
        config, need_bytes = planned_config(spec, self._settings, wishes, free)
        loaded = [Loaded(k, e.need_bytes, e.leases, e.idle_since) for k, e in self._entries.items()]
        decision = place(need_bytes, loaded, free_bytes=free, most_models=self._settings.max_loaded_models)
        if not isinstance(decision, Load):
            return None
        if decision.evict:
            for victim in (self._entries[name] for name in decision.evict):
                if not victim.retiring:
                    logger.info("unloading %s to make room for %s", victim.spec.name.short, key)
                    self.numbers.evictions[label(victim.spec.name)] += 1
                self._retire(victim)
            return None
        keep = self._settings.keep_alive if keep_alive_s is None else keep_alive_s
        entry = _Entry(spec, config, need_bytes, wishes, keep)
        self._entries[key] = entry
        self._started += 1
        log = self._settings.data / "logs" / f"engine-{spec.digest[:12]}-{os.getpid()}-{self._started}.log"
        entry.task = asyncio.create_task(self._run(key, entry, log), name=f"engine {key}")
        return entry

    def _release(self, entry: _Entry) -> None:
        entry.leases -= 1
        if entry.leases:
            return
        entry.idle_since = time.monotonic()
        entry.expires_at = _deadline(entry.keep_alive_s)
        if entry.retiring or entry.keep_alive_s <= 0:
            self._retire(entry)
        elif entry.keep_alive_s != float("inf") and not entry.stop.is_set():
            loop = asyncio.get_running_loop()
            entry.timer = loop.call_later(entry.keep_alive_s, self._retire, entry)
        self._wake()

    def _retire(self, entry: _Entry) -> None:
        """No new leases; stop once the last is back."""
        entry.retiring = True
        if not entry.leases:
            entry.stop.set()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    # -- the life of one engine ---------------------------------------------------------------------------------

    async def _run(self, key: str, entry: _Entry, log: Path) -> None:
        started, model = time.monotonic(), label(entry.spec.name)
        try:
            stall_s = self._settings.load_timeout
            entry.config = await self._config_with_files(entry)
            async with run_engine(entry.config, log=log, stall_s=stall_s, argv=self._worker) as process:
                with closing(LlamaEngine(entry.config, process)) as engine:
                    entry.process = process
                    entry.scheduled = (
                        None if entry.config.embedding else ScheduledEngine(engine, self.line, self.numbers, model)
                    )
                    entry.ready.set_result(entry.scheduled or engine)
                    logger.info(
                        "loaded %s in %.2f s: context %d, %d slots, process %d",
                        entry.spec.name.short,
                        time.monotonic() - started,
                        entry.config.context,
                        entry.config.slots,
                        process.pid,
                    )
                    self.numbers.loads[model, "ok"] += 1
                    self.numbers.load_times[model].observe(time.monotonic() - started)
                    request_id.set(NO_REQUEST)  # what follows is no longer for the request that began the load
                    await self._until_stopped_or_dead(entry, process)
        except CorralError as exc:
            logger.error("loading %s failed: %s", entry.spec.name.short, exc)
            self.numbers.loads[model, "failed"] += 1
            entry.ready.set_exception(exc)
            entry.ready.exception()  # whoever waits sees it; if nobody does any more, that is no fault
        finally:
            if not entry.ready.done():  # cancelled, or a bug: whoever waits must not wait for ever
                entry.ready.set_exception(
                    EngineCrashed("the load was broken off: the server is shutting down or at fault")
                )
                entry.ready.exception()
            entry.retiring = True
            entry.stop.set()
            if entry.timer is not None:
                entry.timer.cancel()
            if self._entries.get(key) is entry:
                del self._entries[key]
            self._wake()
        logger.info("unloaded %s", entry.spec.name.short)

    async def _config_with_files(self, entry: _Entry) -> EngineConfig:
        """The configuration with files that the engine can read. Who cancels this stops what is being written."""
        if entry.spec.translation is None and entry.spec.projector_translation is None:
            return entry.config
        ended = threading.Event()

        def go_on() -> None:
            if ended.is_set():
                raise EngineCrashed("the load was broken off")

        try:
            return await asyncio.to_thread(self.translated.config, entry.spec, entry.config, go_on)
        finally:
            ended.set()

    async def _until_stopped_or_dead(self, entry: _Entry, process: EngineProcess) -> None:
        stopped = asyncio.ensure_future(entry.stop.wait())
        ended = asyncio.ensure_future(process.ended())
        try:
            await asyncio.wait({stopped, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not process.alive:  # nobody has told it to end yet
                self.numbers.crashes[label(entry.spec.name)] += 1
                logger.error(
                    "the engine of %s ended unexpectedly with status %d; the end of its log:\n%s",
                    entry.spec.name.short,
                    process.process.returncode,
                    process.log_tail(),
                )
        finally:
            stopped.cancel()
            ended.cancel()


def model_key(spec: ModelSpec) -> str:
    """What an engine is found by: the model's name, whatever its case."""
    return "/".join(spec.name.key)


def _deadline(keep_alive_s: float) -> datetime:
    now = datetime.now(UTC).astimezone()
    return now + min(_FAR_FUTURE, timedelta(seconds=min(keep_alive_s, _FAR_FUTURE.total_seconds())))


def _shape(spec: ModelSpec, cache_type: str) -> Shape:
    files = (*spec.all_weights, *spec.adapters, *spec.projectors)
    facts = spec.facts
    return Shape(
        weights_bytes=sum(path.stat().st_size for path in files),
        kv_bytes_per_token=facts.kv_bytes_per_token(cache_type) if facts else 0,
        trained_context=(facts.context_length or 0) if facts else 0,
    )


def planned_config(
    spec: ModelSpec, settings: Settings, wishes: EngineWishes, free_bytes: int
) -> tuple[EngineConfig, int]:
    """What the engine of ``spec`` is started with when ``free_bytes`` of memory are free, and what it is thought to need."""
    planned = plan(
        _shape(spec, settings.kv_cache_type),
        context=wishes.num_ctx or settings.context_length or None,
        slots=settings.num_parallel,
        free_bytes=free_bytes,
    )
    flash: dict[str, Literal["auto", "on", "off"]] = {"1": "on", "true": "on", "on": "on", "auto": "auto"}
    config = EngineConfig(
        weights=spec.weights,
        more_weights=spec.more_weights,
        adapters=spec.adapters,
        projector=spec.projectors[0] if spec.projectors else None,
        context=planned.context,
        slots=planned.slots,
        embedding="embedding" in spec.capabilities,
        batch=wishes.batch,
        threads=wishes.threads,
        gpu_layers=wishes.gpu_layers,
        main_gpu=wishes.main_gpu,
        mmap=wishes.mmap,
        flash_attention=flash.get(settings.flash_attention, "off"),
        kv_cache_type=settings.kv_cache_type,
        prompt_cache_mib=min(1024, (free_bytes >> 20) // 20),
    )
    if config.embedding and not wishes.batch:
        # It reads a text at once, and several together, as far as they fit into a batch.
        config = replace(config, batch=max(_SMALL_BATCH, min(_LARGE_BATCH, planned.context)))
    return config, planned.need_bytes
