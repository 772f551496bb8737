"""One engine process, alive exactly as long as an ``async with`` block.

The child is told what to load on its stdin, prints its port once it can serve, and logs to a file. This module owns
its lifetime and nothing else: what to load is decided above, how to talk to it is `corral.engine.llama`.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import anyio
import orjson
import psutil

from corral.children import tell
from corral.engine.account import MemoryAccount, memory_account, says_out_of_memory
from corral.engine.base import CPU_BATCH, EngineConfig
from corral.engine.states import states_folder
from corral.errors import EngineStartError, OutOfMemory

WORKER = (sys.executable, "-m", "corral.engine.worker")
ACCOUNT_BYTES = 1 << 20  # of a log, from its beginning: the account of a load is in it
LOG_TAIL_BYTES = 4096  # a loader's complaint or a backtrace fits; the whole log stays on disk until the engine ends


@dataclass(frozen=True, slots=True)
class EngineProcess:
    """A running engine: where to reach it, with which key, and which process serves it.

    ``states`` is the folder where it keeps the states of slots that it is told to save.
    """

    port: int
    key: str
    process: asyncio.subprocess.Process
    log: Path
    states: Path

    @property
    def pid(self) -> int:
        """The process."""
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether the process has not ended yet."""
        return self.process.returncode is None

    @property
    def memory_bytes(self) -> int:
        """Resident memory now; 0 once it is gone."""
        return resident_bytes(self.pid)

    @property
    def private_bytes(self) -> int:
        """The part of it that no file is mapped into; 0 once it is gone."""
        return resident_bytes(self.pid, private=True)

    def account(self) -> MemoryAccount:
        """What it said of its buffers while it loaded. Blocks on its log."""
        with self.log.open("rb") as file:
            return memory_account(file.read(ACCOUNT_BYTES).decode(errors="replace"))

    def progress(self) -> tuple[object, ...]:
        """What changes while it works; the same twice means that it did nothing between."""
        return _progress(self.pid, self.log)

    async def ended(self) -> int:
        """Wait until the process ends; its exit status, negative for a signal."""
        return await self.process.wait()

    def log_tail(self) -> str:
        """The last lines of its log."""
        return log_tail(self.log)


def resident_bytes(pid: int, *, private: bool = False) -> int:
    """Resident memory of a process now, ``private`` without the files mapped into it; 0 if there is no such process."""
    try:
        memory = psutil.Process(pid).memory_info()
    except psutil.Error:
        return 0
    return int(memory.rss - getattr(memory, "shared", 0)) if private else int(memory.rss)


@asynccontextmanager
async def run_engine(
    config: EngineConfig,
    *,
    log: Path,
    stall_s: float = 300.0,
    grace_s: float = 5.0,
    argv: Sequence[str] = WORKER,
    started: Callable[[int], None] = lambda pid: None,
) -> AsyncIterator[EngineProcess]:
    """Start an engine, wait until it serves, and stop it when the block ends.

    A load that makes no progress for ``stall_s`` seconds (no log line, no CPU time, no byte read) is ended. ``grace_s`` is how
    long SIGTERM gets before SIGKILL. ``started`` is told the process before it loads. Raises `EngineStartError` with the end of the
    log, which is `OutOfMemory` where the log says so or the kernel ended the process. On every way out, cancellation
    included, the child is reaped first; its log is removed if it did its work, and kept if it did not.
    """
    key = secrets.token_hex(24)
    with states_folder() as states:
        process = await _spawn(argv, log)
        served = False
        try:
            started(process.pid)
            port = await _announced_port(process, config, key, log, states, stall_s)
            served = True
            yield EngineProcess(port=port, key=key, process=process, log=log, states=states)
        finally:
            crashed = served and process.returncode is not None
            # Shielded: a cancelled request must not leave an orphan holding the memory.
            with anyio.CancelScope(shield=True):
                await _stop(process, grace_s)
            if served and not crashed:
                log.unlink(missing_ok=True)


def log_tail(log: Path) -> str:
    """The last lines of an engine's log, as text."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LOG_TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.strip().splitlines()[-20:])


async def _spawn(argv: Sequence[str], log: Path) -> asyncio.subprocess.Process:
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as stderr:
            # A session of its own: Ctrl-C at the terminal is for the server, which ends its engines in order.
            return await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
            )
    except OSError as exc:
        raise EngineStartError(f"the engine could not be started: {exc}") from exc


async def _announced_port(
    process: asyncio.subprocess.Process, config: EngineConfig, key: str, log: Path, states: Path, stall_s: float
) -> int:
    """The port that the child prints. Raises `EngineStartError` when it ends or stalls first."""
    assert process.stdout is not None
    described = asdict(config) | {"pool": config.pool, "rounded_context": config.rounded_context}
    plain = {k: _plain(v) for k, v in described.items()}
    request = {"config": plain, "cpu_batch": CPU_BATCH, "key": key, "states": str(states)}
    await tell(process, orjson.dumps(request) + b"\n")  # if it died already the read below ends at once and says why
    reading = asyncio.ensure_future(process.stdout.readline())
    progress = _progress(process.pid, log)
    try:
        while not reading.done():
            await asyncio.wait({reading}, timeout=stall_s if stall_s != float("inf") else None)
            before, progress = progress, _progress(process.pid, log)
            if not reading.done() and before == progress:
                raise EngineStartError(_with_log(f"the engine made no progress for {stall_s:g} s while loading", log))
    finally:
        reading.cancel()
    try:
        return int(orjson.loads(reading.result())["port"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        status = await process.wait()
        text = _with_log(f"the engine ended with status {status} while loading", log)
        told = says_out_of_memory(log_tail(log))
        if told or status == -signal.SIGKILL:
            raise OutOfMemory(text, told=told) from None
        raise EngineStartError(text) from None


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _progress(pid: int, log: Path) -> tuple[object, ...]:
    """What changes while a load goes on."""
    try:
        child = psutil.Process(pid)
        times = child.cpu_times()
        read = child.io_counters().read_chars if hasattr(child, "io_counters") else 0
        return (times.user, times.system, read, log.stat().st_size)
    except (psutil.Error, OSError):
        return ()


def _with_log(what: str, log: Path) -> str:
    tail = log_tail(log)
    return f"{what}; the end of its log:\n{tail}" if tail else what


async def _stop(process: asyncio.subprocess.Process, grace_s: float) -> None:
    if process.returncode is None:
        process.terminate()
        with anyio.move_on_after(grace_s):
            await process.wait()
    if process.returncode is None:
        process.kill()
    await process.wait()
    if process.stdin is not None:
        process.stdin.close()
