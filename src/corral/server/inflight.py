"""Requests in flight: what ends them besides themselves (a client that hangs up, a server that stops), and how long none was."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar

import anyio
from starlette.types import Receive

from corral.errors import ShuttingDown

T = TypeVar("T")

SHUTTING_DOWN = "the server is shutting down"


class Inflight:
    """Knows the work under way. One per server."""

    def __init__(self) -> None:
        self._scopes: set[anyio.CancelScope] = set()
        self._requests = 0
        self._last_ended = time.monotonic()
        self._urged = asyncio.Event()
        self._quiet = asyncio.Event()
        self.draining = False
        self.closing = False

    async def drain(self, timeout_s: float) -> None:
        """Take no more work, and wait until what there is has ended, for so long at most, or until `urge`."""
        self.draining = True
        if not self._requests:
            return
        waiting = [asyncio.ensure_future(event.wait()) for event in (self._quiet, self._urged)]
        timeout = timeout_s if timeout_s != float("inf") else None
        await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()

    def urge(self) -> None:
        """Wait no longer. To be called in the loop's own thread."""
        self._urged.set()

    def close(self) -> None:
        """End all work; each piece gets to say so to its client."""
        self.draining = self.closing = True
        for scope in self._scopes:
            scope.cancel()

    @contextmanager
    def request(self):  # type: ignore[no-untyped-def]
        """Count one request for as long as the block lasts."""
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1
            self._last_ended = time.monotonic()
            if self.draining and not self._requests:
                self._quiet.set()

    @property
    def num_requests(self) -> int:
        """Requests that are being answered; those of operators are not among them."""
        return self._requests

    @property
    def idle_s(self) -> float:
        """Seconds since the last request ended; 0 while there is one."""
        return 0.0 if self._requests else time.monotonic() - self._last_ended

    @asynccontextmanager
    async def scope(self, receive: Receive) -> AsyncGenerator[anyio.CancelScope, None]:
        """A scope that is cancelled when the client hangs up or the server stops. The request's body must have been read."""
        with anyio.CancelScope() as scope:
            if self.closing:
                scope.cancel()
            self._scopes.add(scope)
            watcher = asyncio.ensure_future(_hang_up(receive, scope))
            try:
                yield scope
            finally:
                self._scopes.discard(scope)
                watcher.cancel()

    async def run(self, receive: Receive, work: Callable[[], Awaitable[T]]) -> T | None:
        """The result of ``work``; ``None`` when its client hung up. Raises `ShuttingDown` when the server stops."""
        async with self.scope(receive) as scope:
            return await work()
        if self.closing and scope.cancelled_caught:
            raise ShuttingDown(SHUTTING_DOWN)
        return None


async def _hang_up(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
