"""Quantising a model in a process of its own, from the side of the server. See `corral.gguf.worker` for what happens there."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import anyio

from corral.children import tell
from corral.errors import CorralError, GgufError, QuantizationError, StoreError
from corral.gguf.mixtures import mixture

WORKER = (sys.executable, "-m", "corral.gguf.worker")
_LOG_TAIL_BYTES = 2048
_ERRORS = {error.__name__: error for error in (GgufError, QuantizationError, StoreError)}


@dataclass(frozen=True, slots=True)
class QuantizationProgress:
    """How far a quantisation is, in bytes of the source's tensors."""

    completed: int
    total: int


async def quantise(
    sources: Sequence[Path],
    target: Path,
    file_type: str,
    *,
    allow_requantize: bool = False,
    threads: int = 0,
    argv: Sequence[str] = WORKER,
) -> AsyncGenerator[QuantizationProgress, None]:
    """Write the model in ``sources``, one file or all parts of a split one, as one file of the mixture ``file_type`` to ``target``.

    Yields the progress a few times per second. ``target`` appears when it is complete and on disk, and only then; until then
    a file beside it grows, which is removed on every way out. Closing the generator or cancelling the task ends the work at once.
    ``threads`` 0 means one for each core. Memory stays within tens of megabytes plus two per thread, whatever the model's size.

    Raises `QuantizationError` for an unknown mixture, a model that is quantised already (unless ``allow_requantize``), numbers that
    are not finite, and a worker that died; `GgufError` for files that are none; `StoreError` where the disk is full or fails.
    """
    mixture(file_type)  # an unknown name costs no process
    unfinished = target.with_name(target.name + ".quantising")
    request = {
        "sources": [str(source) for source in sources],
        "target": str(unfinished),
        "file_type": file_type,
        "allow_requantize": allow_requantize,
        "threads": threads,
    }
    with tempfile.TemporaryFile() as log:
        process = await _spawn(argv, log)
        try:
            await tell(process, json.dumps(request).encode() + b"\n")
            assert process.stdout is not None
            async for line in process.stdout:
                said = json.loads(line)
                if "completed" in said:
                    yield QuantizationProgress(said["completed"], said["total"])
                elif "error" in said:
                    raise _error_of(said)
            if await process.wait() != 0:
                raise QuantizationError(f"quantising ended with status {process.returncode}{_tail(log)}")
            _put(unfinished, target)
        finally:
            # Shielded: a cancelled request must leave neither a process nor half a file.
            with anyio.CancelScope(shield=True):
                await _end(process)
            unfinished.unlink(missing_ok=True)


async def _spawn(argv: Sequence[str], log: IO[bytes]) -> asyncio.subprocess.Process:
    try:
        # A session of its own: Ctrl-C at the terminal is for the server.
        return await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log, start_new_session=True
        )
    except OSError as exc:
        raise QuantizationError(f"the process that quantises could not be started: {exc}") from exc


def _error_of(said: dict[str, Any]) -> CorralError:
    return _ERRORS.get(said["kind"], QuantizationError)(said["error"])


def _put(unfinished: Path, target: Path) -> None:
    try:
        unfinished.replace(target)
    except OSError as exc:
        raise StoreError(f"cannot write {target.name}: {exc.strerror}") from exc


def _tail(log: IO[bytes]) -> str:
    log.seek(max(0, log.seek(0, 2) - _LOG_TAIL_BYTES))
    text = log.read().decode(errors="replace").strip()
    return f"; it said last:\n{text}" if text else ""


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()
    if process.stdin is not None:
        process.stdin.close()
