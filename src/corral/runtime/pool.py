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
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio

from corral.config import Settings
from corral.engine.account import MemoryAccount
from corral.engine.base import Engine, EngineConfig, EngineLoad, KnowsItsLoad
from corral.engine.devices import probe_devices
from corral.engine.llama import LlamaEngine
from corral.engine.process import WORKER, EngineProcess, resident_bytes, run_engine
from corral.errors import (
    CorralError,
    EngineCrashed,
    InvalidRequest,
    NotSupported,
    OutOfMemory,
    ServerBusy,
    ShuttingDown,
)
from corral.hardware import Device
from corral.library import ModelSpec
from corral.logs import NO_REQUEST, request_id
from corral.runtime.machine import Held, Machine
from corral.runtime.measured import Measurements, measured_need
from corral.runtime.numbers import RuntimeNumbers, label
from corral.runtime.options import EngineWishes
from corral.runtime.placement import CPU, Load, Loaded, Plan, Refuse, Wait, place, smaller
from corral.runtime.plans import engine_config, rules_of, shape_of, wish_of
from corral.runtime.scheduling import Line, ReadingEngine, ScheduledEngine
from corral.runtime.translated import Translated
from corral.runtime.watch import watch

logger = logging.getLogger(__name__)

_FAR_FUTURE = timedelta(days=365 * 100)
_KEPT_LOGS = 20
_PATIENCE_S = 10.0  # after which who waits for room gets it from a model that is never idle


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
    plan: Plan
    load: EngineLoad
    device_bytes: int = 0  # of ``memory_bytes``, what is not in main memory
    pinned: bool = False


class _Entry:
    """One engine and who uses it."""

    def __init__(
        self,
        spec: ModelSpec,
        config: EngineConfig,
        plan: Plan,
        wishes: EngineWishes,
        keep_alive_s: float,
        *,
        pinned: bool,
    ):
        self.spec = spec
        self.config = config
        self.plan = plan
        self.wishes = wishes
        self.keep_alive_s = keep_alive_s
        self.pinned = pinned
        self.ready: asyncio.Future[Engine] = asyncio.get_running_loop().create_future()
        self.stop = asyncio.Event()
        self.pid: int | None = None
        self.account: MemoryAccount | None = None
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.leases = 0
        self.retiring = False
        self.since = self.idle_since = time.monotonic()

    @property
    def held(self) -> Held:
        """Its part of the machine's memory."""
        private = resident_bytes(self.pid, private=True) if self.pid else 0
        return Held(self.plan.need, private, self.since)

    @property
    def goes_in_s(self) -> float:
        """Seconds until it goes if nobody asks for it."""
        if self.timer is None or self.leases:
            return self.keep_alive_s
        return max(0.0, self.timer.when() - asyncio.get_running_loop().time())

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
                    (wishes.slots, self.config.slots),
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

    def __init__(
        self,
        settings: Settings,
        worker: Sequence[str] = WORKER,
        probe: Callable[[], Awaitable[tuple[Device, ...] | None]] = probe_devices,
    ) -> None:
        """``worker`` is the command line of an engine process; ``probe`` lists the devices."""
        self.translated = Translated(settings.data / "translated")
        self._settings = settings
        self._rules = rules_of(settings)
        self._pinned = frozenset("/".join(name.key) for name in settings.pin)
        self._worker = worker
        self._machine = Machine(settings.memory_limit, probe)
        self._measurements = Measurements(settings.data / "measured.json")
        self._entries: dict[str, _Entry] = {}
        self._changed = asyncio.Event()
        self._waiting = 0
        self._started = 0
        self._closed = False
        self._gives_way: dict[str, object] = {}  # busy models that were closed, and for whom
        self.numbers = RuntimeNumbers()
        self.line = Line(settings.max_queue, settings.model_queue, lambda: self._waiting)

    async def __aenter__(self) -> EnginePool:
        self._first_look = asyncio.create_task(self._machine.refresh(), name="devices")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closed = True
        self._first_look.cancel()
        tasks = [entry.task for entry in self._entries.values() if entry.task]
        for entry in self._entries.values():
            entry.retiring = True
            entry.stop.set()
            if not entry.ready.done() and entry.task:
                entry.task.cancel()
        await asyncio.gather(*tasks, self._first_look, return_exceptions=True)

    @asynccontextmanager
    async def lease(
        self, spec: ModelSpec, wishes: EngineWishes, keep_alive_s: float | None = None
    ) -> AsyncIterator[Lease]:
        """An engine for ``spec``, loaded if need be, kept for at least as long as the block.

        ``keep_alive_s`` replaces how long the model stays after its last request; ``None`` leaves it. Raises `ServerBusy` when
        too many wait, `NotSupported` for weights that llama.cpp cannot load, `OutOfMemory` for what can never fit, and what a
        failed load raises.
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
            (_snapshot(entry) for entry in self._entries.values() if not entry.stop.is_set()),
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
        """Let the model go as soon as nobody uses it. Unknown keys are no error. Raises `InvalidRequest` for one that is pinned."""
        entry = self._entries.get(key)
        if entry is not None and entry.pinned:
            name = entry.spec.name.short
            raise InvalidRequest(f'"{name}" stays loaded: it is pinned by the server\'s settings (CORRAL_PIN, --pin)')
        if entry is not None:
            entry.keep_alive_s = 0
            if not entry.leases:
                self._retire(entry)

    # -- taking and giving back -------------------------------------------------------------------------------

    async def _acquire(self, spec: ModelSpec, wishes: EngineWishes, keep_alive_s: float | None) -> _Entry:
        key = model_key(spec)
        loaded = self._entries.get(key)
        if loaded is not None and not loaded.retiring and self._serves(loaded, spec, wishes):
            entry = self._take(key, spec, wishes, keep_alive_s)
            assert entry is not None
            return entry
        if self._waiting >= self._settings.max_queue:
            raise ServerBusy(position=self._waiting + 1)
        self._waiting += 1
        ticket = object()
        loop = asyncio.get_running_loop()
        patient_until = loop.time() + _PATIENCE_S
        try:
            while True:
                await self._machine.refresh()
                changed = self._changed
                if self._gives_way.get(key, ticket) is ticket:
                    entry = self._take(key, spec, wishes, keep_alive_s)
                    if entry is not None:
                        return entry
                    if loop.time() >= patient_until:
                        self._close_a_busy_one(key, ticket)
                left_s = patient_until - loop.time()
                with anyio.move_on_after(left_s if left_s > 0 else None):
                    await changed.wait()
        finally:
            self._waiting -= 1
            if given := [name for name, owner in self._gives_way.items() if owner is ticket]:
                for name in given:
                    del self._gives_way[name]
                self._wake()

    def _close_a_busy_one(self, key: str, ticket: object) -> None:
        """Let nobody new to a busy model, unless one goes already, until who waits with ``ticket`` has what it waits for.

        One that is always busy would keep all others out.
        """
        others = [entry for name, entry in self._entries.items() if name != key and not entry.pinned]
        if others and not any(entry.retiring for entry in others):
            victim = min(others, key=lambda entry: entry.since)
            logger.info("%s takes no more requests, to make room for %s", victim.spec.name.short, key)
            self.numbers.evictions[label(victim.spec.name)] += 1
            self._gives_way[model_key(victim.spec)] = ticket
            self._retire(victim)

    def _take(self, key: str, spec: ModelSpec, wishes: EngineWishes, keep_alive_s: float | None) -> _Entry | None:
        """An entry with one more lease on it, or ``None`` when that must wait for a change."""
        entry = self._entries.get(key)
        if entry is not None and not entry.retiring and not self._serves(entry, spec, wishes):
            self._decide(spec, wishes, instead_of=key)  # what can never be loaded is no reason to unload
            self._retire(entry)
        if entry is not None and entry.retiring:
            return None
        if entry is None:
            entry = self._load(key, spec, wishes, keep_alive_s)
        if entry is None:
            return None
        entry.leases += 1
        if keep_alive_s is not None and not entry.pinned:
            entry.keep_alive_s = keep_alive_s
        if entry.timer is not None:
            entry.timer.cancel()
            entry.timer = None
        return entry

    def _serves(self, entry: _Entry, spec: ModelSpec, wishes: EngineWishes) -> bool:
        """Whether a request can run on an engine. Who wishes no context gets no less than the usual one, whoever asked before."""
        if not entry.serves(spec, wishes):
            return False
        if wishes.num_ctx is not None or entry.wishes.num_ctx is None or entry.plan.lowered:
            return True
        try:
            usual = self._decide(spec, wishes, instead_of=model_key(spec))
        except CorralError:
            return True
        return not isinstance(usual, Load) or usual.plan.context <= entry.config.context

    def _load(self, key: str, spec: ModelSpec, wishes: EngineWishes, keep_alive_s: float | None) -> _Entry | None:
        if self._closed:
            raise ShuttingDown("the server is shutting down")
        decision = self._decide(spec, wishes)
        if not isinstance(decision, Load):
            return None
        if decision.evict:
            for victim in decision.evict:
                self._evict(self._entries[victim], key)
            return None
        keep = self._settings.keep_alive if keep_alive_s is None else keep_alive_s
        pinned = key in self._pinned
        config = self._config(spec, wishes, decision.plan)
        entry = _Entry(spec, config, decision.plan, wishes, float("inf") if pinned else keep, pinned=pinned)
        self._entries[key] = entry
        self._started += 1
        log = self._settings.data / "logs" / f"engine-{spec.digest[:12]}-{os.getpid()}-{self._started}.log"
        entry.task = asyncio.create_task(self._run(key, entry, log), name=f"engine {key}")
        return entry

    def _decide(self, spec: ModelSpec, wishes: EngineWishes, instead_of: str = "") -> Load | Wait:
        """What to do for a model, as if ``instead_of`` were gone. Raises `OutOfMemory` for what can never be."""
        others = {name: entry for name, entry in self._entries.items() if name != instead_of}
        wish = wish_of(spec, self._settings, wishes)
        decision = place(
            shape_of(spec),
            wish,
            [Loaded(name, e.plan.need, e.leases, e.idle_since, e.pinned) for name, e in others.items()],
            free=self._machine.free(entry.held for entry in others.values()),
            devices=self._machine.devices,
            rules=self._rules,
            measured=self._measurements.of(spec.digest),
        )
        if isinstance(decision, Refuse):
            raise _never(spec, decision, wish.context)
        return decision

    def _config(self, spec: ModelSpec, wishes: EngineWishes, plan: Plan) -> EngineConfig:
        free_bytes = self._machine.free(entry.held for entry in self._entries.values())[CPU]
        alone = next((device.index for device in self._machine.devices if plan.devices == (device.name,)), None)
        return engine_config(spec, self._settings, wishes, plan, free_bytes, alone)

    def _evict(self, victim: _Entry, key: str) -> None:
        if not victim.retiring:
            logger.info("unloading %s to make room for %s", victim.spec.name.short, key)
            self.numbers.evictions[label(victim.spec.name)] += 1
        self._retire(victim)

    def _release(self, entry: _Entry) -> None:
        entry.leases -= 1
        if entry.leases:
            return
        entry.idle_since = time.monotonic()
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
        model = label(entry.spec.name)
        try:
            while True:
                try:
                    await self._one_life(entry, log)
                    break
                except OutOfMemory as exc:
                    await self._give_something_up(key, entry, exc)
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
            _keep_few_logs(log.parent)
        logger.info("unloaded %s", entry.spec.name.short)

    async def _one_life(self, entry: _Entry, log: Path) -> None:
        """From the start of an engine to its end. Raises what a failed load raises."""
        started, model = time.monotonic(), label(entry.spec.name)

        def is_there(pid: int) -> None:
            entry.pid = pid

        entry.config = await self._config_with_files(entry)
        run = run_engine(
            entry.config, log=log, stall_s=self._settings.load_timeout, argv=self._worker, started=is_there
        )
        async with run as process:
            with closing(self._engine(entry.config, process, model)) as engine:
                entry.ready.set_result(engine)
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
                await self._measure(entry, process)
                end = await watch(
                    process,
                    entry.stop,
                    healthy=engine.health,
                    busy=lambda: entry.leases > 0,
                    patience_s=self._settings.hang_timeout,
                )
                if end != "stopped":
                    self._report_end(entry, process, hung=end == "hung")

    def _engine(self, config: EngineConfig, process: EngineProcess, model: str) -> ScheduledEngine | ReadingEngine:
        if config.embedding:
            return ReadingEngine(config, process, self.line)
        return ScheduledEngine(LlamaEngine(config, process), self.line, self.numbers, model)

    async def _measure(self, entry: _Entry, process: EngineProcess) -> None:
        """Put what the engine took in the place of what it was thought to take, and remember it."""
        try:
            account = await asyncio.to_thread(process.account)
        except OSError:  # its log is gone: the estimate stays
            return
        private_bytes = process.private_bytes
        if not account.buffers or not private_bytes:
            return
        entry.account = account
        measured = measured_need(account, private_bytes)
        entry.plan = replace(entry.plan, need={**dict.fromkeys(entry.plan.need, 0), **measured})
        await asyncio.to_thread(self._measurements.keep, entry.spec.digest, entry.plan.key, measured)

    def _report_end(self, entry: _Entry, process: EngineProcess, *, hung: bool) -> None:
        self.numbers.crashes[label(entry.spec.name)] += 1
        name = entry.spec.name.short
        if hung:
            logger.error(
                "the engine of %s gave no sign of life for %g s and is ended", name, self._settings.hang_timeout
            )
            process.process.kill()
            return
        logger.error(
            "the engine of %s ended unexpectedly with status %d; the end of its log:\n%s",
            name,
            process.process.returncode,
            process.log_tail(),
        )

    async def _give_something_up(self, key: str, entry: _Entry, error: OutOfMemory) -> None:
        """After a load that ran out of memory: an idle model goes, else the plan gets smaller. Raises if nothing is left."""
        entry.pid = None
        if entry.stop.is_set():
            raise error
        await self._machine.refresh()
        others = [e for e in self._entries.values() if e is not entry]
        free = self._machine.free(other.held for other in others)
        idle = [e for e in others if not e.leases and not e.pinned]
        if idle:
            victim = min(idle, key=lambda e: e.idle_since)
            self._evict(victim, key)
            while any(e is victim for e in self._entries.values()):
                await self._changed.wait()
            return
        if error.told:  # so that the next load does not try this again while not clearly more is free
            needs = {name: max(size, free.get(name, 0) * 9 // 8 + 1) for name, size in entry.plan.need.items()}
            failed = needs if not entry.plan.devices else {**needs, CPU: entry.plan.need[CPU]}
            await asyncio.to_thread(self._measurements.keep, entry.spec.digest, entry.plan.key, failed)
        step = self._less_than(entry, error, free)
        if step is None:
            raise _too_large(entry, free, error) from error
        logger.warning("there was not enough memory for %s: %s; trying again", entry.spec.name.short, step.lowered[-1])
        entry.plan, entry.config = step, self._config(entry.spec, entry.wishes, step)

    def _less_than(self, entry: _Entry, error: OutOfMemory, free: dict[str, int]) -> Plan | None:
        """The next plan to try. Who was killed without a word, perhaps by the kernel, has one more try, with the smallest pool."""
        shape, wish = shape_of(entry.spec), wish_of(entry.spec, self._settings, entry.wishes)
        step = smaller(entry.plan, shape, wish, self._rules, free)
        if error.told:
            return step
        while step is not None and step.pool_tokens > step.context:
            step = smaller(step, shape, wish, self._rules, free)
        return None if entry.plan.lowered else step

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


def model_key(spec: ModelSpec) -> str:
    """What an engine is found by: the model's name, whatever its case."""
    return "/".join(spec.name.key)


def _deadline(keep_alive_s: float) -> datetime:
    now = datetime.now(UTC).astimezone()
    return now + min(_FAR_FUTURE, timedelta(seconds=min(keep_alive_s, _FAR_FUTURE.total_seconds())))


def _keep_few_logs(folder: Path) -> None:
    """Remove the oldest logs of engines that failed: they are for their owner to read, who may never come."""
    with suppress(OSError):
        logs = sorted(folder.glob("engine-*.log"), key=lambda path: path.stat().st_mtime)
        for path in logs[:-_KEPT_LOGS]:
            path.unlink(missing_ok=True)


def _snapshot(entry: _Entry) -> LoadedModel:
    on_devices = entry.account.on_devices if entry.account else 0
    resident = resident_bytes(entry.pid) if entry.pid else 0
    whole = (
        entry.plan.gpu_layers > 0 and entry.account is not None and entry.account.gpu_layers >= entry.plan.gpu_layers
    )
    memory_bytes = on_devices if whole and on_devices else resident + on_devices
    engine = entry.ready.result() if entry.ready.done() and not entry.ready.exception() else None
    slots = entry.config.slots
    pool_tokens = entry.config.pool_tokens or entry.config.context * slots
    load = EngineLoad(slots, min(entry.leases, slots), max(0, entry.leases - slots), pool_tokens, 0)
    return LoadedModel(
        spec=entry.spec,
        context=entry.config.context,
        slots=slots,
        memory_bytes=memory_bytes or entry.plan.need_bytes,
        expires_at=_deadline(entry.goes_in_s),
        loading=not entry.ready.done(),
        pid=entry.pid,
        leases=entry.leases,
        plan=entry.plan,
        load=engine.load if isinstance(engine, KnowsItsLoad) else load,
        device_bytes=on_devices,
        pinned=entry.pinned,
    )


def _never(spec: ModelSpec, decision: Refuse, context: int | None) -> OutOfMemory:
    name, need, free = spec.name.short, decision.need_bytes / 1e9, decision.free_bytes / 1e9
    if decision.by_count:
        return OutOfMemory(
            f'"{name}" cannot be loaded: all places are taken by pinned models; raise CORRAL_MAX_LOADED_MODELS or pin fewer'
        )
    return OutOfMemory(
        f'"{name}" with a context of {context} tokens takes {need:.1f} GB of memory besides its weights, and {free:.1f} GB can be '
        "had; try a smaller num_ctx, or a smaller number format with CORRAL_KV_CACHE_TYPE=q8_0"
    )


def _too_large(entry: _Entry, free: dict[str, int], error: OutOfMemory) -> OutOfMemory:
    """``error`` with what was tried, the numbers, and what its reader can do."""
    tried = f" (tried: {'; '.join(entry.plan.lowered)})" if entry.plan.lowered else ""
    advice = "try a smaller num_ctx" if entry.wishes.num_ctx else "try a smaller model or quantisation"
    return OutOfMemory(
        f'there is not enough memory for "{entry.spec.name.short}" with a context of {entry.plan.context} tokens: about '
        f"{entry.plan.need_bytes / 1e9:.1f} GB are needed and {sum(free.values()) / 1e9:.1f} GB are free{tried}; {advice}. {error}"
    )
