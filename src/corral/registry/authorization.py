"""Answers to a registry that asks who we are.

A credential goes to the registry it is for. It does not follow redirects, and a token server of another host sees it only where
that is known to belong to the registry. A login for that host itself is used there; else a token is asked for without a name.

Source: Docker's token authentication; RFC 7617 (Basic); what Ollama's registry wants signed is in `corral.registry.keys`.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit

import anyio
import orjson
from anyio import to_thread

from corral.errors import CorralError, RegistryError
from corral.names import DEFAULT_HOST
from corral.registry.credentials import HUGGING_FACE, Credential, Credentials, normal_host
from corral.registry.keys import SigningKey
from corral.registry.transport import parts_of, printable, read_all

if TYPE_CHECKING:
    import aiohttp

_MAX_TOKEN_BYTES = 1 << 20
_PARAMETER = re.compile(r'([a-zA-Z_]+)="((?:[^"\\]|\\.)*)"|([a-zA-Z_]+)=([^",\s]+)')
_TOKEN_SERVERS = {"registry-1.docker.io": "auth.docker.io"}
_KNOWN_BY_KEY = (DEFAULT_HOST, *HUGGING_FACE)  # these get the signature at once, others when nothing else will do
_CLIENT = "corral"


class Asks(Protocol):
    """The part of a transport that is needed here, for one reach."""

    def __call__(
        self, method: str, url: str, headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """One request, no redirect followed."""


class Authorization:
    """What is shown to the registry at ``origin``, and how it is come by. For one transfer; used by several tasks at once."""

    def __init__(
        self,
        ask: Asks,
        origin: str,
        credentials: Credentials,
        key: SigningKey | None = None,
        given: Credential | None = None,
    ) -> None:
        self._ask = ask
        self._origin = origin
        self._host = normal_host(urlsplit(origin).netloc)
        self._credentials = credentials
        self._key = key
        self._given = given
        self._lock = anyio.Lock()
        self._ways: AsyncIterator[str] | None = None
        self._challenge = ""
        self._accepted = False
        token = given or (
            credentials.token(self._host) if origin.startswith("https:") else None
        )  # unasked: not in the clear
        self.header = f"Bearer {token.token}" if token is not None and token.token else ""

    def accepted(self, header: str) -> None:
        """The registry took ``header``: if it refuses it later, it has run out."""
        self._accepted = self._accepted or header == self.header

    async def renew(self, challenge: str, refused: str) -> None:
        """Have another `header`, now that the registry refused ``refused`` with ``challenge``.

        Raises `RegistryError` when there is nothing else to show.
        """
        async with self._lock:
            if self.header != refused:
                return  # another task was here before
            if self._ways is None or self._accepted or challenge != self._challenge:
                self._ways, self._challenge, self._accepted = self._all_ways(challenge), challenge, False
            try:
                async for header in self._ways:
                    if header != refused or self._is_bearer(challenge):
                        self.header = header
                        return
            except CorralError:
                self._ways = None  # it has ended with that; who tries again begins anew
                raise
            raise RegistryError(f"unauthorized: access denied by {self._host}; try: corral login {self._host}", 401)

    @staticmethod
    def _is_bearer(challenge: str) -> bool:
        return challenge.partition(" ")[0].lower() == "bearer"

    async def _all_ways(self, challenge: str) -> AsyncIterator[str]:
        """Headers to try, best first. Raises `RegistryError` when there is none at all, and why."""
        found = self._given or await to_thread.run_sync(self._credentials.find, self._host)
        if found is not None and found.token:
            yield f"Bearer {found.token}"
            return
        if self._is_bearer(challenge):
            async for header in self._tokens(challenge, found):
                yield header
        elif found is not None and found.password:
            yield found.basic
        else:
            raise RegistryError(
                f"unauthorized: {self._host} wants a login, and there is none for it; try: corral login {self._host}",
                401,
            )

    async def _tokens(self, challenge: str, found: Credential | None) -> AsyncIterator[str]:
        """Tokens from the server that the challenge names, in every way that there is to ask for one."""
        url = self._token_address(challenge)
        realm = normal_host(urlsplit(url).netloc)
        ours = realm in (self._host, _TOKEN_SERVERS.get(self._host)) or {realm, self._host} <= set(HUGGING_FACE)
        if not ours:
            found = await to_thread.run_sync(self._credentials.find, realm)
        shown = {"Authorization": found.basic} if found is not None and found.password else None
        refusal: RegistryError | None = None
        if found is not None and found.identity_token:
            yield await self._exchange(url, found)
        elif shown is not None:
            yield await self._token(url, shown)
        elif not (ours and self._host in _KNOWN_BY_KEY and self._key is not None):
            try:
                yield await self._token(url)
            except RegistryError as exc:
                refusal = exc
        if ours and shown is None and self._key is not None:
            signed = _signable(url)
            yield await self._token(signed, {"Authorization": await to_thread.run_sync(self._key.sign, "GET", signed)})
        elif refusal is not None:
            raise refusal
        elif not ours and shown is None:
            raise RegistryError(
                f'unauthorized: realm host "{realm}" does not match original host "{self._host}", '
                f"so no login for that is shown to it; try: corral login {realm}",
                401,
            )

    def _token_address(self, challenge: str) -> str:
        given = {a or c: b or d for a, b, c, d in _PARAMETER.findall(challenge.partition(" ")[2])}
        realm: str = given.get("realm", "")
        parts = parts_of(realm)
        if parts.scheme not in ("https", urlsplit(self._origin).scheme) or not parts.hostname:
            raise RegistryError(f'{self._host} sends clients for a token to "{realm}", which is not a safe address')
        query = [*parse_qsl(parts.query, keep_blank_values=True)]
        if "service" in given:
            query.append(("service", given["service"]))
        query += [("scope", scope) for scope in given.get("scope", "").split()]
        return parts._replace(query=urlencode(sorted(query)), fragment="").geturl()

    async def _token(self, url: str, headers: dict[str, str] | None = None) -> str:
        async with self._ask("GET", url, headers) as response:
            return await _token_in(response)

    async def _exchange(self, url: str, found: Credential) -> str:
        """A token for one that lasts, as OAuth 2 has it (RFC 6749, section 6)."""
        parts = urlsplit(url)
        form = [
            *parse_qsl(parts.query),
            ("grant_type", "refresh_token"),
            ("refresh_token", found.identity_token),
            ("client_id", _CLIENT),
        ]
        scopes = " ".join(value for name, value in form if name == "scope")
        body = urlencode([*((name, value) for name, value in form if name != "scope"), ("scope", scopes)])
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        async with self._ask("POST", parts._replace(query="").geturl(), headers, body.encode()) as response:
            return await _token_in(response)


def _signable(url: str) -> str:
    """``url`` with a time and a word that is used once, so that a signature is good for one request alone."""
    parts = urlsplit(url)
    nonce = secrets.token_urlsafe(16)
    query = sorted([*parse_qsl(parts.query, keep_blank_values=True), ("ts", str(int(time.time()))), ("nonce", nonce)])
    return parts._replace(query=urlencode(query)).geturl()


async def _token_in(response: aiohttp.ClientResponse) -> str:
    data = await read_all(response, _MAX_TOKEN_BYTES)
    host = urlsplit(str(response.url)).netloc
    if response.status != 200:
        text = printable(data[:1000].decode(errors="replace"))
        said = f"{response.status}: {text}" if text else str(response.status)
        if response.status in (408, 425, 429) or response.status >= 500:
            raise RegistryError(f"{host} gives no token now: {said}", response.status, temporary=True)
        raise RegistryError(f"unauthorized: access denied by {host} ({said}); try: corral login {host}", 401)
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as exc:
        raise RegistryError(f"{host} sends no token: what it sends is not JSON: {exc}") from exc
    token = (document.get("token") or document.get("access_token")) if isinstance(document, dict) else None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise RegistryError(f'{host} sends no token: there is no "token" in its answer, or it is not one')
    return f"Bearer {token}"
