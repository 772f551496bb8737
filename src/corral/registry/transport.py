"""HTTP to registries: one request at a time, no redirect followed, no credential added, every failure a `RegistryError`.

A `Transport` has two kinds of connections: those that reach every address, and those that keep away from addresses which a stranger
has no business with, checked when the connection is made, after the name has been resolved.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import platform
import socket
import ssl
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
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
_SMALL_S = 120.0  # for the whole of an answer that should be small
_MAX_CONNECTIONS = 64
_BUFFER_BYTES = 1 << 20
_PIECE_BYTES = 1 << 18
# Some registries describe a model's file in a manifest of Ollama's kind only to a client that names itself so.
USER_AGENT = f"ollama/0.20.0 (compatible; corral/{corral.__version__}; {platform.machine()} {sys.platform})"


@dataclass(slots=True)
class Traffic:
    """Bytes of blobs that came and went since the start, also those that had to come or go again."""

    pulled_bytes: int = 0
    pushed_bytes: int = 0


class Transport:
    """Connections to other machines, kept while they are useful. Proxies are the environment's.

    ``ca_file`` holds certificates of authorities to trust besides the system's.
    """

    def __init__(self, *, offline: bool = False, stall_s: float = STALL_S, ca_file: Path | None = None) -> None:
        self._offline = offline
        self._stall_s = stall_s
        self._ca_file = ca_file
        self._sessions: dict[Reach, aiohttp.ClientSession] = {}
        self.traffic = Traffic()

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
            raise RegistryError(f"Corral is set to stay offline, so it does not ask {shown(url)}; unset CORRAL_OFFLINE")
        import aiohttp  # late: a server that never pulls does without

        parts_of(url)
        session = self._session(url, reach)
        try:
            # aiohttp's own limit is for single reads, and begins when all is sent; a peer that reads no more, or that never ends
            # its headers, would hold us for ever.
            async with asyncio.timeout(None) as sending:
                data = self._pieces(body, sending) if body else body
                options = _by_proxy(url)
                sent = {**(headers or {}), **({"Content-Length": str(len(body))} if body else {})}
                sent |= options.pop("headers", {})
                try:
                    response = await session.request(
                        method,
                        _address(url),
                        headers=sent,
                        data=data,
                        allow_redirects=False,
                        trace_request_ctx=sending,
                        **options,
                    )
                except aiohttp.InvalidURL as exc:
                    raise RegistryError(f'"{shown(url)}" is not an address that can be asked') from exc
                except ValueError as exc:  # a host's name or a header as there can be none
                    raise RegistryError(f'"{shown(url)}" cannot be asked: {exc}') from exc
                async with response:
                    sending.reschedule(None)
                    yield response
        except (aiohttp.ClientSSLError, aiohttp.ClientConnectorCertificateError) as exc:
            raise RegistryError(f'{method.title()} "{shown(url)}": {exc}') from exc
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            temporary = not (isinstance(exc, OSError) and exc.errno == errno.EACCES)
            raise RegistryError(f'{method.title()} "{shown(url)}": {_said(exc)}', temporary=temporary) from exc

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
                trace_configs=[self._tracing()],
            )
        return session

    async def _pieces(self, body: bytes, sending: asyncio.Timeout) -> AsyncGenerator[bytes, None]:
        """``body`` a piece at a time; each is given as long as a stall may last."""
        loop = asyncio.get_running_loop()
        for start in range(0, len(body), _PIECE_BYTES):
            sending.reschedule(loop.time() + self._stall_s)
            yield body[start : start + _PIECE_BYTES]
        sending.reschedule(loop.time() + self._stall_s)

    def _tracing(self) -> aiohttp.TraceConfig:
        """Headers of an answer are waited for from when those of the question are sent."""
        import aiohttp

        async def sent(session: object, context: Any, parameters: object) -> None:
            context.trace_request_ctx.reschedule(asyncio.get_running_loop().time() + self._stall_s)

        tracing = aiohttp.TraceConfig()
        tracing.on_request_headers_sent.append(sent)
        return tracing


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
    return RegistryError(f'"{shown(text)}" is not an address that can be asked: {why}')


async def read_all(response: aiohttp.ClientResponse, most: int, within_s: float = _SMALL_S) -> bytes:
    """The whole of an answer that should be small. Raises `RegistryError` past ``most`` bytes, and when it does not end."""
    data = bytearray()
    try:
        async with asyncio.timeout(within_s):
            while chunk := await response.content.read(1 << 16):
                data += chunk
                if len(data) > most:
                    raise RegistryError(f"{response.url.origin()} sends more than {most} bytes where few are expected")
    except TimeoutError as exc:
        raise RegistryError(
            f"{response.url.origin()} does not come to the end of a short answer in {within_s:.0f} s", temporary=True
        ) from exc
    return bytes(data)


def printable(text: str) -> str:
    """What somebody else says, in one line and without what could write over a terminal or forge a line of a log."""
    return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))


def shown(url: str) -> str:
    """``url`` as errors and logs may have it: what is signed or known to few lies in its query, or before an ``@``."""
    address, query, _ = url.partition("?")
    scheme, separator, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    return printable(f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}") + ("?..." if query else "")


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


def _by_proxy(url: str) -> dict[str, Any]:
    """What a request has to know of the environment's proxy for ``url``, if there is one. Raises `ConfigError`.

    aiohttp would look for it too, but only together with logins in ``~/.netrc``, which it sends to whoever is asked.
    """
    from yarl import URL

    if not _has_proxy(url):
        return {}
    scheme = urlsplit(url).scheme
    given = getproxies()[scheme]
    try:
        proxy = URL(given if "://" in given else f"http://{given}")
    except ValueError:
        proxy = URL()
    if proxy.scheme not in ("http", "https") or not proxy.host:
        raise ConfigError(f'{scheme}_proxy is "{shown(given)}"; expected the address of a proxy: http://HOST:PORT')
    options: dict[str, Any] = {"proxy": proxy.with_user(None)}
    if proxy.user:
        login = base64.b64encode(f"{proxy.user}:{proxy.password or ''}".encode()).decode()
        # What is encrypted the proxy does not read: it is told when it is asked for a way through.
        where = "headers" if scheme == "http" else "proxy_headers"
        options[where] = {"Proxy-Authorization": f"Basic {login}"}
    return options


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ssl.SSLError) as exc:
            raise ConfigError(f"the certificates in {ca_file} (ca_file) cannot be read: {exc}") from exc
    return context


def _said(exc: Exception) -> str:
    import aiohttp

    if isinstance(exc, aiohttp.ClientHttpProxyError):
        return f"the proxy refuses: {exc.status} {printable(exc.message)}"
    if isinstance(exc, aiohttp.ClientResponseError):  # its own text has the whole address once more
        return f"what answers does not speak HTTP as it should: {printable(exc.message)[:200]}"
    return "nothing came for too long" if isinstance(exc, TimeoutError) else str(exc) or type(exc).__name__
