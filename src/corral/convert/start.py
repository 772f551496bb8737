"""Starting a conversion, following it, and ending it with whoever asked for it.

The work is done by `corral.convert.worker` in a process of its own: the files may come from anyone, and numpy has no place in
the server. This module imports nothing that the server does not have already.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import orjson

from corral.children import tell
from corral.errors import ConversionError

WORKER = (sys.executable, "-m", "corral.convert.worker")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a conversion is: ``completed`` of ``total`` bytes are written."""

    status: str
    total: int
    completed: int


def convert_model(files: Mapping[str, Path], target: Path, *, name: str = "") -> AsyncGenerator[Progress, None]:
    """Convert a model to ``target``, which is whole when the generator ends and gone when it is closed before.

    ``files`` are those of one folder in the Hugging Face layout: names relative to it, and where the bytes are. ``name`` becomes
    ``general.name``. Raises `ConversionError`, for an architecture that is not supported too.
    """
    request = {"kind": "model", "files": _plain(files), "target": str(target), "name": name}
    return _run(request, target, "converting model")


def convert_adapter(files: Mapping[str, Path], base: Path, target: Path) -> AsyncGenerator[Progress, None]:
    """Convert a LoRA adapter (PEFT's layout) for the model in the GGUF file ``base``; otherwise as `convert_model`."""
    request = {"kind": "adapter", "files": _plain(files), "target": str(target), "base": str(base)}
    return _run(request, target, "converting adapter")


def _plain(files: Mapping[str, Path]) -> dict[str, str]:
    return {name: str(path) for name, path in files.items()}


async def _run(request: Mapping[str, Any], target: Path, status: str) -> AsyncGenerator[Progress, None]:
    whole = False
    try:
        async with _child() as process:
            assert process.stdout is not None
            await tell(process, orjson.dumps(request) + b"\n")
            while line := await process.stdout.readline():
                message = orjson.loads(line)
                if "total" in message:
                    yield Progress(status, message["total"], message["completed"])
                    continue
                await process.wait()  # it said its last word
                if error := message.get("error"):
                    raise ConversionError(error)
                whole = True
            if not whole:
                raise ConversionError(_how_it_ended(await process.wait()))
    finally:
        if not whole:
            target.unlink(missing_ok=True)


@asynccontextmanager
async def _child() -> AsyncGenerator[asyncio.subprocess.Process, None]:
    """A worker that is gone when the block ends."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *WORKER, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield process
    finally:
        # Shielded: whoever hangs up must not leave a process behind that goes on writing.
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.wait()
            if process.stdin is not None:
                process.stdin.close()


def _how_it_ended(status: int) -> str:
    how = f"signal {-status}; is there enough memory?" if status < 0 else f"status {status}"
    return f"the conversion ended unexpectedly ({how})"
