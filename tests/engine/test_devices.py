"""Devices are listed by a child; one that fails, lies or hangs leaves the processor."""

from __future__ import annotations

import json
import sys

import psutil
import pytest

from corral.engine.devices import probe_devices
from corral.hardware import Device, Memory
from corral.runtime.machine import Held, Machine
from corral.runtime.placement import CPU

pytestmark = pytest.mark.anyio
GIB = 1 << 30
ENTRY = {"name": "CUDA0", "description": "H100", "index": 0, "memory_total": 80 * GIB, "memory_free": 70 * GIB}


def saying(text: str) -> list[str]:
    return [sys.executable, "-c", f"print({text!r})"]


async def test_the_real_probe_answers() -> None:
    found = await probe_devices()
    assert found is not None
    assert all(device.total_bytes > 0 for device in found)


async def test_what_a_probe_says_is_read() -> None:
    assert await probe_devices(saying(json.dumps([{**ENTRY, "shared": False}]))) == (
        Device("CUDA0", "H100", 0, 80 * GIB, 70 * GIB),
    )


@pytest.mark.parametrize("text", ["", "{", "[{}]", "[1]", '{"a":1}', '[{"name":"x","memory_total":"y"}]'])
async def test_a_probe_that_says_nonsense_leaves_the_processor(text: str) -> None:
    assert await probe_devices(saying(text)) is None


async def test_a_probe_that_crashes_or_is_not_there_leaves_the_processor() -> None:
    assert await probe_devices([sys.executable, "-c", "import os; os.abort()"]) is None
    assert await probe_devices(["/nowhere/at/all"]) is None


async def test_a_probe_that_hangs_is_ended() -> None:
    before = {child.pid for child in psutil.Process().children()}
    assert await probe_devices([sys.executable, "-c", "import time; time.sleep(60)"], timeout_s=0.2) is None
    assert {child.pid for child in psutil.Process().children()} <= before


async def test_memory_that_is_about_to_be_taken_is_not_free() -> None:
    answers = [(Device("CUDA0", "", 0, 80 * GIB, 70 * GIB),), None]

    async def probe() -> tuple[Device, ...] | None:
        return answers.pop(0)

    machine = Machine(probe=probe, look=lambda: Memory(32 * GIB, 20 * GIB))
    await machine.refresh()
    loading = Held({CPU: 6 * GIB, "CUDA0": 10 * GIB}, GIB, float("inf"))
    # Of 6 GiB it has one, which the kernel knows; 10 of the device it has not taken when that was asked.
    assert machine.free([loading]) == {CPU: 15 * GIB, "CUDA0": 60 * GIB}
    old = Held({CPU: GIB, "CUDA0": 10 * GIB}, GIB, float("-inf"))
    assert machine.free([old]) == {CPU: 20 * GIB, "CUDA0": 70 * GIB}
    limited = Machine(8 * GIB, probe=probe, look=lambda: Memory(32 * GIB, 20 * GIB))
    assert limited.free([loading]) == {CPU: 2 * GIB}
