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

    async def begin(self, request: bytes) -> None:
        """Send ``request``, and wait for the status line and the headers of its answer."""
        if self._transport is not None and not self._lost:
            self._transport.write(request)
        while not self.status:
            await self._more()

    def close(self) -> None:
        """Hang up, whatever is still to come."""
        if self._transport is not None:
            self._transport.abort()

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


class Connector:
    """Sends requests to 127.0.0.1, each over a connection of its own.

    While an answer is under way the connection for the next request is opened, which then need not wait for it. The engine
    closes it after some seconds of silence.
    """

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._head = (
            f"Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
            "Connection: close\r\nContent-Length: "
        )
        self._spare: Exchange | None = None
        self._opening: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def exchange(self, method: str, path: str, body: bytes = b"") -> AsyncGenerator[Exchange, None]:
        """Send a request; its answer, head arrived. The connection is closed with the block, which ends what the engine does
        for it. Raises `ConnectionError`.
        """
        request = f"{method} {path} HTTP/1.1\r\n{self._head}{len(body)}\r\n\r\n".encode() + body
        answer, self._spare = self._spare, None
        if answer is not None:
            try:
                await answer.begin(request)
            except ConnectionError:  # closed just now, before the engine read anything
                answer.close()
                answer = None
            except BaseException:
                answer.close()
                raise
        try:
            if answer is None:
                answer = await self._open()
                await answer.begin(request)
            if self._spare is None and self._opening is None:
                self._opening = asyncio.ensure_future(self._prepare())
            yield answer
        finally:
            if answer is not None:
                answer.close()

    def close(self) -> None:
        """Let go of the connection that waits for a request."""
        if self._opening is not None:
            self._opening.cancel()
        if self._spare is not None:
            self._spare.close()

    async def _prepare(self) -> None:
        try:
            self._spare = await self._open()
        except ConnectionError:
            pass  # the next request sees for itself
        finally:
            self._opening = None

    async def _open(self) -> Exchange:
        try:
            _, answer = await asyncio.get_running_loop().create_connection(Exchange, "127.0.0.1", self._port)
        except OSError as exc:
            raise ConnectionError(str(exc)) from exc
        return answer
