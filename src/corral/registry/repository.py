"""One repository of a registry: its manifests and ranges of its blobs, through redirects and challenges.

Source: the OCI distribution specification 1.1; Docker's token authentication. What registries add: Ollama's redirects every blob
to storage of its own under a signed link that expires.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlencode, urlsplit

import orjson

from corral.errors import CorruptManifest, InvalidDigest, InvalidName, RegistryError
from corral.names import Digest, ModelName
from corral.registry.authorization import Authorization
from corral.registry.credentials import HUGGING_FACE, Credential, Credentials, normal_host
from corral.registry.keys import SigningKey
from corral.registry.reach import Reach
from corral.registry.transport import Traffic, Transport, joined, parts_of, printable, read_all
from corral.store import Manifest
from corral.store.manifest import MANIFEST_TYPE

if TYPE_CHECKING:
    import aiohttp

_OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_ACCEPT = ", ".join((MANIFEST_TYPE, _OCI_MANIFEST, *_INDEXES))
_MAX_MANIFEST_BYTES = 4 << 20
_MAX_TOKEN_BYTES = 1 << 20
_MAX_HOPS = 10
_EXPIRED = (400, 401, 403, 404, 410)  # what storage says of a signed link that is no longer good
_HOSTS = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}
_MAX_CHALLENGES = 4
_UPLOADED = re.compile(r"(?:bytes=)?0-(\d{1,19})")
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d+|\*)")


@dataclass(frozen=True, slots=True)
class FetchedManifest:
    """A manifest and the very bytes of it, which make the model's ID."""

    manifest: Manifest
    data: bytes


@dataclass(frozen=True, slots=True)
class Body:
    """The bytes of a blob as they come: the range asked for, or the ``whole`` from a registry that knows no ranges."""

    whole: bool
    response: aiohttp.ClientResponse
    traffic: Traffic

    async def read(self, most: int) -> bytes:
        """Some of what follows, nothing at the end."""
        data = await self.response.content.read(most)
        self.traffic.pulled_bytes += len(data)
        return data


@dataclass(frozen=True, slots=True)
class Upload:
    """A blob on its way to a registry: where it goes on, and how many bytes are there."""

    url: str
    received: int


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this machine is for registries."""

    credentials: Credentials = field(default_factory=Credentials)
    key: SigningKey | None = None


class Repository:
    """What the registry of ``name`` has in that repository. For one transfer: tokens and links are kept as long as it lives.

    ``mirror`` is asked in the place of the registry, for the same things.
    """

    def __init__(
        self,
        transport: Transport,
        name: ModelName,
        *,
        insecure: bool = False,
        mirror: str = "",
        reach: Reach = Reach.EVERYWHERE,
        identity: Identity | None = None,
        given: Credential | None = None,
    ) -> None:
        self._name = name
        self._ask = partial(transport.request, reach=reach)
        self._traffic = transport.traffic
        parts = urlsplit(mirror or f"{'http' if insecure else 'https'}://{_HOSTS.get(name.host.lower(), name.host)}")
        self._origin = f"{parts.scheme}://{_authority(parts)}"
        self._path = f"{self._origin}/v2{parts.path.rstrip('/')}/{name.namespace}/{name.model}"
        self._query = "?" + urlencode({"ns": name.host}) if mirror else ""
        identity = identity or Identity()
        self._authorization = Authorization(self._ask, self._origin, identity.credentials, identity.key, given)
        self._links: dict[Digest, str] = {}
        self._files: dict[Digest, str] = {}

    async def manifest(self, tag: str = "") -> FetchedManifest:
        """The manifest of the name's tag, or of ``tag``; of an index the one that means a model. Raises `RegistryError`."""
        data, document = await self._document(tag or self._name.tag)
        if isinstance(entries := document.get("manifests"), list):
            data, document = await self._document(str(_chosen(entries)))
        try:
            manifest = Manifest.parse(data)
        except CorruptManifest as exc:
            raise RegistryError(str(exc)) from exc
        if not manifest.layers:
            raise RegistryError("it has no layers")
        return FetchedManifest(manifest, data)

    @asynccontextmanager
    async def blob(self, digest: Digest, first: int, end: int, size: int) -> AsyncIterator[Body]:
        """Bytes ``first`` to ``end`` (exclusive) of a blob of ``size`` bytes, or the whole of it.

        Raises `RegistryError`: for other statuses, for other ranges than the one asked for, for a link that cannot be renewed.
        """
        headers = {"Range": f"bytes={first}-{end - 1}"}
        if (link := self._links.get(digest)) is not None:
            async with self._ask("GET", link, headers) as response:
                if response.status not in _EXPIRED:
                    yield _body(response, self._traffic, digest, first, end, size)
                    return
            self._links.pop(digest, None)
        url = self._files.get(digest) or f"{self._path}/blobs/{digest}{self._query}"
        async with self._answer("GET", url, headers) as response:
            if _origin_of(str(response.url)) != self._origin:
                self._links[digest] = str(response.url)
            yield _body(response, self._traffic, digest, first, end, size)

    async def document(self, path: str) -> tuple[Any, str]:
        """The JSON at ``path`` of the registry, which is no part of the protocol, and the address of its next page.

        Raises `RegistryError`.
        """
        async with self._answer("GET", joined(self._origin, path), {"Accept": "application/json"}) as response:
            data = await read_all(response, _MAX_MANIFEST_BYTES)
            if response.status != 200:
                raise _failed(f"{self._origin} does not say what is in it", response, data)
            following = _next_page(response)
        try:
            return orjson.loads(data), following
        except orjson.JSONDecodeError as exc:
            raise RegistryError(f"what {self._origin} sends is not JSON: {exc}") from exc

    def lies_at(self, digest: Digest, path: str) -> None:
        """A blob is fetched from ``path`` of the registry, which has it as a file."""
        self._files[digest] = joined(self._origin, path)

    async def check(self) -> None:
        """Whether it lets us in. Raises `RegistryError` when it does not."""
        path = "/api/whoami-v2" if normal_host(self._name.host) in HUGGING_FACE else "/v2/"
        async with self._answer("GET", self._origin + path, {}) as response:
            if response.status != 200:
                failed = "unauthorized" if response.status == 401 else f"{self._origin} is no registry"
                raise _failed(failed, response, await read_all(response, _MAX_TOKEN_BYTES))

    @property
    def address(self) -> str:
        """Which repository this is, of all there are."""
        return self._path

    async def has(self, digest: Digest) -> bool:
        """Whether the blob is there. Raises `RegistryError`."""
        async with self._answer("HEAD", f"{self._path}/blobs/{digest}", {}) as response:
            if response.status in (200, 404):
                return response.status == 200
            raise _failed(f"{self._origin} does not say whether it has {digest}", response, b"")

    async def begin_upload(self, digest: Digest, origin: str = "") -> Upload | None:
        """An upload for a blob; ``None`` when the registry took it from the repository of the model ``origin`` instead."""
        query = ""
        if origin:
            with suppress(InvalidName):
                other = ModelName.parse(origin)
                query = "?" + urlencode({"mount": str(digest), "from": f"{other.namespace}/{other.model}"})
        async with self._answer("POST", f"{self._path}/blobs/uploads/{query}", {}, b"") as response:
            if response.status == 201:
                return None
            if response.status != 202:
                raise _failed(f"{self._origin} takes no upload", response, await read_all(response, _MAX_TOKEN_BYTES))
            return _upload(response, 0)

    async def upload_status(self, url: str) -> Upload | None:
        """How far an upload is; ``None`` when the registry has forgotten it."""
        async with self._answer("GET", url, {}) as response:
            return _upload(response, 0) if response.status in (202, 204) else None

    async def send_chunk(self, upload: Upload, data: bytes) -> Upload:
        """Send what follows; the upload as it then is. Raises `RegistryError`."""
        end = upload.received + len(data)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Range": f"{upload.received}-{end - 1}",
        }
        async with self._answer("PATCH", upload.url, headers, data) as response:
            if response.status not in (202, 204):
                failed = _failed(f"{self._origin} refuses a part", response, await read_all(response, _MAX_TOKEN_BYTES))
                failed.temporary = failed.temporary or response.status in (404, 416)  # it may be further than we think
                raise failed
            self._traffic.pushed_bytes += len(data)
            return _upload(response, end)

    async def finish_upload(self, upload: Upload, digest: Digest) -> None:
        """Make an upload a blob; the registry checks its digest. Raises `RegistryError`."""
        url = f"{upload.url}{'&' if '?' in upload.url else '?'}{urlencode({'digest': str(digest)})}"
        async with self._answer("PUT", url, {"Content-Type": "application/octet-stream"}, b"") as response:
            if response.status not in (201, 204):
                raise _failed(f"{self._origin} refuses {digest}", response, await read_all(response, _MAX_TOKEN_BYTES))

    async def put_manifest(self, data: bytes, media_type: str) -> None:
        """Make the tag mean this manifest. Raises `RegistryError`."""
        url = f"{self._path}/manifests/{self._name.tag}"
        async with self._answer("PUT", url, {"Content-Type": media_type}, data) as response:
            if response.status not in (200, 201):
                raise _failed(
                    f"{self._origin} refuses the manifest", response, await read_all(response, _MAX_TOKEN_BYTES)
                )

    async def _document(self, reference: str) -> tuple[bytes, dict[str, Any]]:
        url = f"{self._path}/manifests/{reference}{self._query}"
        async with self._answer("GET", url, {"Accept": _ACCEPT}) as response:
            data = await read_all(response, _MAX_MANIFEST_BYTES)
        if response.status == 404:
            raise RegistryError("file does not exist", 404)
        if response.status != 200:
            raise _failed("", response, data)
        try:
            document = orjson.loads(data)
        except orjson.JSONDecodeError as exc:
            raise RegistryError(f"what {url} sends is not JSON: {exc}") from exc
        if not isinstance(document, dict):
            raise RegistryError(f"what {url} sends is not a JSON object")
        if ":" in reference and Digest.parse(reference) != Digest.of(data):
            raise RegistryError(f"what {url} sends has another digest")
        return data, document

    @asynccontextmanager
    async def _answer(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer at the end of redirects. Credentials go to the registry itself and to nobody else."""
        num_challenges = 0
        for _ in range(_MAX_HOPS + 1):
            sent = dict(headers)
            ours = _origin_of(url) == self._origin
            shown = self._authorization.header if ours else ""
            if shown:
                sent["Authorization"] = shown
            async with self._ask(method, url, sent, body) as response:
                if ours and response.status == 401 and num_challenges < _MAX_CHALLENGES:
                    challenge = response.headers.get("WWW-Authenticate", "")
                elif response.status in (301, 302, 303, 307, 308):
                    self._authorization.accepted(shown)
                    url = _next(url, response)
                    continue
                else:
                    self._authorization.accepted(shown if response.status != 401 else "")
                    yield response
                    return
            num_challenges += 1
            await self._authorization.renew(challenge, shown)
        raise RegistryError(f"{self._origin} redirects more than {_MAX_HOPS} times")


def _chosen(entries: list[Any]) -> Digest:
    """The manifest that an index means for a model: the one for no platform, or for the one that models are labelled with."""
    found = [entry for entry in entries if isinstance(entry, dict)]

    def platform(entry: dict[str, Any]) -> int:
        given = entry.get("platform")
        if not isinstance(given, dict):
            return 0
        return 1 if (given.get("os"), given.get("architecture")) == ("linux", "amd64") else 2

    try:
        return Digest.parse(str(min(found, key=platform)["digest"]))
    except (ValueError, KeyError, InvalidDigest) as exc:
        raise RegistryError("it is an index that names no manifest") from exc


def _next(url: str, response: aiohttp.ClientResponse) -> str:
    target = joined(url, response.headers.get("Location", ""))
    if "Location" not in response.headers or urlsplit(target).scheme not in ("http", "https"):
        raise RegistryError(f"{_origin_of(url)} redirects to no address (status {response.status})", response.status)
    if urlsplit(url).scheme == "https" and urlsplit(target).scheme == "http":
        raise RegistryError(f"{_origin_of(url)} redirects to {_origin_of(target)}, which is not encrypted")
    return target


def _next_page(response: aiohttp.ClientResponse) -> str:
    try:
        return str(response.links["next"]["url"]) if "next" in response.links else ""
    except ValueError as exc:
        raise RegistryError(f"{_origin_of(str(response.url))} names no next page of its answer: {exc}") from exc


def _origin_of(url: str) -> str:
    parts = parts_of(url)
    return f"{parts.scheme}://{_authority(parts)}"


def _authority(parts: SplitResult) -> str:
    """Host and port, without the port that goes without saying."""
    netloc = parts.netloc.lower()
    return netloc.removesuffix(":443" if parts.scheme == "https" else ":80")


def _body(response: aiohttp.ClientResponse, traffic: Traffic, digest: Digest, first: int, end: int, size: int) -> Body:
    where = _origin_of(str(response.url))
    if response.status == 206:
        given = response.headers.get("Content-Range", "")
        found = _CONTENT_RANGE.fullmatch(given)
        if not found or (int(found[1]), int(found[2]) + 1) != (first, end) or found[3] not in ("*", str(size)):
            raise RegistryError(f'{where} sends "{given}" where bytes {first}-{end - 1}/{size} were asked for')
        return Body(False, response, traffic)
    if response.status == 200:
        if response.content_length not in (None, size):
            raise RegistryError(f"{where} has {response.content_length} bytes for {digest}; the manifest says {size}")
        return Body(True, response, traffic)
    if response.status in (404, 410):
        raise RegistryError(f"{where} does not have {digest} (status {response.status})", response.status)
    raise _failed(f"{where} refuses {digest}", response, b"")


def _upload(response: aiohttp.ClientResponse, received: int) -> Upload:
    """What an answer says of an upload. ``Range`` counts up to the last byte; ``0-0`` at the beginning means none."""
    found = _UPLOADED.fullmatch(response.headers.get("Range", ""))
    if found:
        last = int(found[1])
        received = last + 1 if last or received == 1 else 0
    asked = str(response.url)
    url = joined(asked, response.headers.get("Docker-Upload-Location") or response.headers.get("Location") or asked)
    if urlsplit(asked).scheme == "https" and urlsplit(url).scheme != "https":
        raise RegistryError(f"{_origin_of(asked)} wants an upload at {_origin_of(url)}, which is not encrypted")
    return Upload(url, received)


def _failed(what: str, response: aiohttp.ClientResponse, body: bytes) -> RegistryError:
    text = printable(body[:1000].decode(errors="replace"))
    return RegistryError(
        ": ".join(filter(None, (what, str(response.status), text))),
        response.status,
        temporary=response.status in (408, 425, 429) or response.status >= 500,
        retry_after_s=_seconds(response.headers.get("Retry-After", "")),
    )


def _seconds(wait: str) -> float:
    """What ``Retry-After`` says, as a number or as a date; 0 for what is neither."""
    if wait.isascii() and wait.isdigit():
        return float(wait)
    try:
        return max(0.0, parsedate_to_datetime(wait).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0
