"""Requests to an engine on loopback: one connection each, the answer's body as it arrives.

This stands directly on asyncio and httptools (the parser that uvicorn uses): with a general client a request cost a
millisecond of CPU time and a streamed chunk a quarter more, which is most of what Corral may cost over the bare engine. It
knows no pools, redirects, encodings or timeouts; engines have none of them. See ``docs/design/http-client.md``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import cast

import httptools

_MOST_BUFFERED_BYTES = 1 << 20  # beyond this the engine waits until its answer is read


class Exchange(asyncio.Protocol):
    """One request and its answer. Broken off before its end, reading raises `ConnectionError`."""

    def __init__(self) -> None:
        self.status = 0
        self._parser = httptools.HttpResponseParser(self)
        self._arrived: deque[bytes] = deque()
        self._buffered = 0
        self._complete = False
        self._lost = False
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None

    async def head(self) -> None:
        """Wait for the status line and the headers."""
        while not self.status:
            await self._more()

    async def some(self) -> bytes:
        """What has arrived of the body and was not read yet; nothing at its end."""
        while not self._arrived:
            if self._complete:
                return b""
            await self._more()
        data = b"".join(self._arrived) if len(self._arrived) > 1 else self._arrived[0]
        self._arrived.clear()
        self._buffered = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return data

    async def all(self) -> bytes:
        """The whole body."""
        parts = []
        while part := await self.some():
            parts.append(part)
        return b"".join(parts)

    async def _more(self) -> None:
        if self._lost:
            raise ConnectionError("the connection was closed before the end of the answer")
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- what asyncio calls -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one, and does not say so

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._lost = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._wake()

    # -- what httptools calls -----------------------------------------------------------------------------------

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self._arrived.append(body)
        self._buffered += len(body)
        if self._buffered > _MOST_BUFFERED_BYTES and self._transport is not None and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        self._complete = True


@asynccontextmanager
async def exchange(port: int, key: str, method: str, path: str, body: bytes = b"") -> AsyncGenerator[Exchange, None]:
    """Send a request to 127.0.0.1; its answer, head arrived. The connection is closed with the block, which ends what the engine
    does for it. Raises `ConnectionError`.
    """
    loop = asyncio.get_running_loop()
    try:
        transport, answer = await loop.create_connection(Exchange, "127.0.0.1", port)
    except OSError as exc:
        raise ConnectionError(str(exc)) from exc
    try:
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        transport.write(head.encode() + body)
        await answer.head()
        yield answer
    finally:
        transport.abort()
