from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from corral.children import tell

uvloop = pytest.importorskip("uvloop")


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_child_that_has_ended_is_told_nothing_and_that_is_no_error(
    run: Callable[[Coroutine[Any, Any, int]], int],
) -> None:
    async def told() -> int:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "", stdin=asyncio.subprocess.PIPE)
        status = await process.wait()
        for _ in range(3):
            await tell(process, b"x" * (1 << 20))
        return status

    assert run(told()) == 0
