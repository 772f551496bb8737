"""Processes that this one starts: how they are told what to do."""

from __future__ import annotations

from asyncio.subprocess import Process
from contextlib import suppress


async def tell(process: Process, data: bytes) -> None:
    """Write ``data`` to the standard input of ``process``, which stays open.

    A process that has ended already is told nothing; that is no error here, as its status says so.
    """
    assert process.stdin is not None
    # The last of them is uvloop's, for a pipe of which it has seen the end.
    with suppress(BrokenPipeError, ConnectionResetError, RuntimeError):
        process.stdin.write(data)
        await process.stdin.drain()
