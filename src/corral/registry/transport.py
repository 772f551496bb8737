"""HTTP to registries: one request at a time, no redirect followed, no credential added, every failure a `RegistryError`."""

from __future__ import annotations

import asyncio
import platform
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING

import corral
from corral.errors import RegistryError

if TYPE_CHECKING:
    import aiohttp

STALL_S = 30.0
_CONNECT_S = 20.0
_MAX_CONNECTIONS = 64
_BUFFER_BYTES = 1 << 20
_PIECE_BYTES = 1 << 18
# Some registries describe a model's file in a manifest of Ollama's kind only to a client that names itself so.
USER_AGENT = f"ollama/0.20.0 (compatible; corral/{corral.__version__}; {platform.machine()} {sys.platform})"


class Transport:
    """Connections to other machines, kept while they are useful. Proxies and certificates are the environment's."""

    def __init__(self, *, offline: bool = False, stall_s: float = STALL_S) -> None:
        self._offline = offline
        self._stall_s = stall_s
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Transport:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def request(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer, of whatever status, its body still to be read. Raises `RegistryError`, also while it is read."""
        if self._offline:
            raise RegistryError(f"Corral is set to stay offline, so it does not ask {url}; unset CORRAL_OFFLINE")
        import aiohttp  # late: a server that never pulls does without

        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_MAX_CONNECTIONS),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=self._stall_s),
                headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                read_bufsize=_BUFFER_BYTES,
                trust_env=True,
            )
        try:
            # aiohttp's own limit begins when all is sent; a peer that reads no more would hold us for ever.
            async with asyncio.timeout(None) as sending:
                data = self._pieces(body, sending) if body else body
                sent = {**(headers or {}), **({"Content-Length": str(len(body))} if body else {})}
                async with self._session.request(
                    method, url, headers=sent, data=data, allow_redirects=False
                ) as response:
                    sending.reschedule(None)
                    yield response
        except aiohttp.InvalidURL as exc:
            raise RegistryError(f'"{url}" is not an address that can be asked') from exc
        except (aiohttp.ClientSSLError, aiohttp.ClientConnectorCertificateError) as exc:
            raise RegistryError(f'{method.title()} "{url}": {exc}') from exc
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            raise RegistryError(f'{method.title()} "{url}": {_said(exc)}', temporary=True) from exc

    async def _pieces(self, body: bytes, sending: asyncio.Timeout) -> AsyncGenerator[bytes, None]:
        """``body`` a piece at a time; each is given as long as a stall may last."""
        loop = asyncio.get_running_loop()
        for start in range(0, len(body), _PIECE_BYTES):
            sending.reschedule(loop.time() + self._stall_s)
            yield body[start : start + _PIECE_BYTES]
        sending.reschedule(None)


def _said(exc: Exception) -> str:
    return "nothing came for too long" if isinstance(exc, TimeoutError) else str(exc) or type(exc).__name__
