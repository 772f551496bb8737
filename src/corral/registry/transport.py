"""HTTP to registries: one request at a time, no redirect followed, no credential added, every failure a `RegistryError`.

A `Transport` has two kinds of connections: those that reach every address, and those that keep away from addresses which a stranger
has no business with, checked when the connection is made, after the name has been resolved.
"""

from __future__ import annotations

import asyncio
import errno
import platform
import socket
import ssl
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import corral
from corral.errors import ConfigError, RegistryError
from corral.registry.reach import Reach, check, check_literal

if TYPE_CHECKING:
    import aiohttp
    from yarl import URL

STALL_S = 30.0
_CONNECT_S = 20.0
_MAX_CONNECTIONS = 64
_BUFFER_BYTES = 1 << 20
_PIECE_BYTES = 1 << 18
# Some registries describe a model's file in a manifest of Ollama's kind only to a client that names itself so.
USER_AGENT = f"ollama/0.20.0 (compatible; corral/{corral.__version__}; {platform.machine()} {sys.platform})"


class Transport:
    """Connections to other machines, kept while they are useful. Proxies are the environment's.

    ``ca_file`` holds certificates of authorities to trust besides the system's.
    """

    def __init__(self, *, offline: bool = False, stall_s: float = STALL_S, ca_file: Path | None = None) -> None:
        self._offline = offline
        self._stall_s = stall_s
        self._ca_file = ca_file
        self._sessions: dict[Reach, aiohttp.ClientSession] = {}

    async def __aenter__(self) -> Transport:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        for session in self._sessions.values():
            await session.close()

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        *,
        reach: Reach = Reach.EVERYWHERE,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer, of whatever status, its body still to be read. Raises `RegistryError`, also while it is read."""
        if self._offline:
            raise RegistryError(f"Corral is set to stay offline, so it does not ask {url}; unset CORRAL_OFFLINE")
        import aiohttp  # late: a server that never pulls does without

        parts_of(url)
        session = self._session(url, reach)
        try:
            # aiohttp's own limit begins when all is sent; a peer that reads no more would hold us for ever.
            async with asyncio.timeout(None) as sending:
                data = self._pieces(body, sending) if body else body
                sent = {**(headers or {}), **({"Content-Length": str(len(body))} if body else {})}
                try:
                    response = await session.request(
                        method, _address(url), headers=sent, data=data, allow_redirects=False
                    )
                except ValueError as exc:  # an address, a host's name or a header as there can be none
                    raise RegistryError(f'"{url}" cannot be asked: {exc}') from exc
                async with response:
                    sending.reschedule(None)
                    yield response
        except (aiohttp.ClientSSLError, aiohttp.ClientConnectorCertificateError) as exc:
            raise RegistryError(f'{method.title()} "{url}": {exc}') from exc
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            temporary = not (isinstance(exc, OSError) and exc.errno == errno.EACCES)
            raise RegistryError(f'{method.title()} "{url}": {_said(exc)}', temporary=temporary) from exc

    def _session(self, url: str, reach: Reach) -> aiohttp.ClientSession:
        import aiohttp

        if reach is not Reach.EVERYWHERE and _has_proxy(url):
            check_literal(url, reach)  # the proxy resolves names; it is the owner's, wherever it is
            reach = Reach.EVERYWHERE
        session = self._sessions.get(reach)
        if session is None:
            session = self._sessions[reach] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=_MAX_CONNECTIONS, ssl=_trust(self._ca_file), socket_factory=partial(_socket, reach)
                ),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=self._stall_s),
                headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                read_bufsize=_BUFFER_BYTES,
                trust_env=True,
            )
        return session

    async def _pieces(self, body: bytes, sending: asyncio.Timeout) -> AsyncGenerator[bytes, None]:
        """``body`` a piece at a time; each is given as long as a stall may last."""
        loop = asyncio.get_running_loop()
        for start in range(0, len(body), _PIECE_BYTES):
            sending.reschedule(loop.time() + self._stall_s)
            yield body[start : start + _PIECE_BYTES]
        sending.reschedule(None)


def joined(base: str, reference: str) -> str:
    """The address that ``reference``, in an answer from ``base``, means. Raises `RegistryError` for what is none."""
    try:
        url = urljoin(base, reference)
    except ValueError as exc:
        raise _no_address(reference, exc) from exc
    parts_of(url)
    return url


def parts_of(url: str) -> SplitResult:
    """``url`` taken to pieces. Raises `RegistryError` for what is no address."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # is looked at only when it is asked for
    except ValueError as exc:
        raise _no_address(url, exc) from exc
    return parts


def _no_address(text: str, why: ValueError) -> RegistryError:
    return RegistryError(f'"{text}" is not an address that can be asked: {why}')


async def read_all(response: aiohttp.ClientResponse, most: int) -> bytes:
    """The whole of an answer that should be small. Raises `RegistryError` past ``most`` bytes."""
    data = bytearray()
    while chunk := await response.content.read(1 << 16):
        data += chunk
        if len(data) > most:
            raise RegistryError(f"{response.url.origin()} sends more than {most} bytes where few are expected")
    return bytes(data)


def _address(url: str) -> str | URL:
    """``url`` to be sent letter by letter, as whoever signed it wrote it; one that cannot be is put right."""
    from yarl import URL

    return URL(url, encoded=True) if url.isascii() and url.isprintable() and " " not in url else url


def _socket(reach: Reach, address: tuple[Any, ...]) -> socket.socket:
    """A socket for an address that a name was resolved to. Raises `OSError` for one that is out of reach."""
    family, kind, protocol, _, where = address
    check(where[0], reach)
    return socket.socket(family, kind, protocol)


def _has_proxy(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in getproxies() and not proxy_bypass(parts.hostname or "")


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ssl.SSLError) as exc:
            raise ConfigError(f"the certificates in {ca_file} (ca_file) cannot be read: {exc}") from exc
    return context


def _said(exc: Exception) -> str:
    return "nothing came for too long" if isinstance(exc, TimeoutError) else str(exc) or type(exc).__name__
