"""The devices that the engine can compute on, listed by a process that ends with its answer: this one never holds a GPU."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence

import anyio
import orjson

from corral.hardware import Device

logger = logging.getLogger(__name__)

PROBE = (sys.executable, "-m", "corral.engine.probe")
TIMEOUT_S = 30.0  # a driver that wakes up takes seconds; one that hangs must not keep anybody from the processor


async def probe_devices(argv: Sequence[str] = PROBE, timeout_s: float = TIMEOUT_S) -> tuple[Device, ...] | None:
    """The devices besides the processor, with what is free on them now; ``None`` if they could not be listed."""
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,  # ends with us: so does the child
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as exc:
        logger.warning("devices cannot be listed, so the processor alone is used: %s", exc)
        return None
    assert process.stdout is not None
    assert process.stdin is not None
    answer = b""
    try:
        with anyio.move_on_after(timeout_s) as deadline:
            answer = await process.stdout.read()
            await process.wait()
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.wait()
            process.stdin.close()
    if deadline.cancelled_caught:
        logger.warning("devices were not listed within %g s, so the processor alone is used", timeout_s)
        return None
    try:
        return tuple(_device(entry) for entry in orjson.loads(answer))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        logger.warning("devices cannot be listed (status %d), so the processor alone is used", process.returncode)
        return None


def _device(entry: dict[str, object]) -> Device:
    return Device(
        name=str(entry["name"]),
        description=str(entry["description"]),
        index=int(str(entry["index"])),
        total_bytes=int(str(entry["memory_total"])),
        free_bytes=int(str(entry["memory_free"])),
        shared=bool(entry["shared"]),
    )
