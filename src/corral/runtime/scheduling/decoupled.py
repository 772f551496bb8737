"""An answer that is read as it comes, however slowly its consumer takes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from corral.engine.base import Batch, Event


async def decoupled(stream: AsyncGenerator[Batch, None]) -> AsyncGenerator[Batch, None]:
    """The batches of ``stream``; those that wait for the consumer are handed on as one.

    An answer whose tokens are counted must be heard at once. What is kept for a slow consumer is bounded by the context.
    """
    arrived: list[Event] = []
    changed = asyncio.Event()

    async def read() -> None:
        async with aclosing(stream):
            async for batch in stream:
                arrived.extend(batch)
                changed.set()

    reading = asyncio.create_task(read(), name="answer")
    reading.add_done_callback(lambda _: changed.set())
    try:
        while True:
            await changed.wait()
            changed.clear()
            ended = reading.done()
            if arrived:
                batch, arrived[:] = list(arrived), []
                yield batch
            if ended:
                await reading  # raises what went wrong
                return
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
