"""Responses that nobody waits for: each is a task of its own, whose events are kept for whoever looks in."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import anyio
from starlette.types import Message

from corral.dialects.refusals import Refusal, refusal_of
from corral.dialects.responses.answers import Encoder
from corral.dialects.responses.objects import FINISHED
from corral.engine.base import Batch
from corral.errors import CorralError, ServerBusy
from corral.server.inflight import SHUTTING_DOWN, Inflight

logger = logging.getLogger(__name__)

Keep = Callable[
    [dict[str, Any], list[bytes]], None
]  # gets the response whenever it is another than before, and its events


class Run:
    """One response at work. ``events`` are those of its stream, by their sequence number."""

    def __init__(self, encoder: Encoder, keep: Keep) -> None:
        self.encoder = encoder
        self.events: list[bytes] = []
        self.ended = asyncio.Event()
        self.unwanted = False
        self.scope: anyio.CancelScope | None = None
        self._keep = keep
        self._news = asyncio.Event()

    def tell(self, events: list[bytes]) -> None:
        """What was said. The response is kept before anyone hears that it has ended."""
        if self.encoder.response["status"] in FINISHED:
            self._keep(self.encoder.response, [*self.events, *events])
        self.events += events
        news, self._news = self._news, asyncio.Event()
        news.set()

    def keep(self) -> None:
        """Have the response kept as it is now."""
        self._keep(self.encoder.response, [])

    def end(self) -> None:
        """Nothing more comes."""
        self.ended.set()
        self._news.set()

    async def cancel(self) -> None:
        """End it on behalf of its client; it has ended when this returns."""
        self.unwanted = True
        if self.scope is not None:
            self.scope.cancel()
        await self.ended.wait()

    async def follow(self, first: int) -> AsyncGenerator[bytes, None]:
        """The events from number ``first`` on, as they come."""
        while True:
            news = self._news
            if len(self.events) > first:
                yield b"".join(self.events[first:])
                first = len(self.events)
            elif self.ended.is_set():
                return
            else:
                await news.wait()


class Background:
    """The responses at work. Whoever makes it closes it."""

    def __init__(self, inflight: Inflight, most: int) -> None:
        self._inflight = inflight
        self._most = most
        self._runs: dict[str, Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """All end, and are kept as far as they came."""
        for run in self._runs.values():
            if run.scope is not None:
                run.scope.cancel()
        await asyncio.gather(*self._tasks)

    def get(self, response_id: str) -> Run | None:
        """The run of a response, if it is at work."""
        return self._runs.get(response_id)

    def start(self, encoder: Encoder, answers: AsyncGenerator[Batch, None], keep: Keep) -> Run:
        """Begin to work. Raises `ServerBusy`."""
        if len(self._runs) >= self._most:
            raise ServerBusy(f"{len(self._runs)} responses are at work in the background already; try again later")
        run = Run(encoder, keep)
        run.tell(encoder.beginning("queued"))
        run.keep()
        name = encoder.response["id"]
        self._runs[name] = run
        task = asyncio.create_task(self._work(name, run, answers))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return run

    async def _work(self, name: str, run: Run, answers: AsyncGenerator[Batch, None]) -> None:
        try:
            with self._inflight.request():
                await self._answer(run, answers)
        except Exception:
            logger.exception("response %s", name)
            run.tell(run.encoder.failure(Refusal(500, "internal error; the server's log says more")))
        finally:
            del self._runs[name]
            run.end()

    async def _answer(self, run: Run, answers: AsyncGenerator[Batch, None]) -> None:
        failure = None
        try:
            async with self._inflight.scope(_nobody) as run.scope, aclosing(answers):
                if run.unwanted:
                    run.scope.cancel()
                going = False
                async for batch in answers:
                    if not going:
                        going = True
                        run.tell(run.encoder.begun())
                        run.keep()
                    run.tell(run.encoder.events(batch))
        except CorralError as exc:
            failure = refusal_of(exc)
        if run.encoder.response["status"] in FINISHED:
            return
        if run.unwanted:
            run.encoder.cancelled()
            run.tell([])
        else:
            run.tell(run.encoder.failure(failure or Refusal(503, SHUTTING_DOWN)))


async def _nobody() -> Message:
    """A client that never hangs up: there is none."""
    return await asyncio.Event().wait()  # type: ignore[return-value]
