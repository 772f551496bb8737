"""Images that a request only links to, fetched before it is decoded, where the server's owner allows it.

A link sends this machine to an address that somebody else chose, and through a model's context its answer may travel back. So the
addresses are checked as those of models are, when a connection is made and again for every redirect, whoever asks; and nothing but
an image is handed on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType

import anyio

from corral.config import Settings
from corral.errors import InvalidRequest, RegistryError
from corral.media.kinds import kind_of
from corral.registry import Reach
from corral.registry.transport import Transport, joined, parts_of, read_all, shown

MOST_LINKS = 16
_MOST_REDIRECTS = 5
_WITHIN_S = 30.0
_STALL_S = 10.0
_REDIRECTS = (301, 302, 303, 307, 308)
_HEADERS = {"Accept": "image/png, image/jpeg, image/webp, image/gif"}


@dataclass(slots=True)
class RemoteImages:
    """Fetches images, as far as ``reach`` goes; ``None`` is nowhere. Use as ``async with``."""

    reach: Reach | None
    max_bytes: int
    transport: Transport

    @classmethod
    def of(cls, settings: Settings) -> RemoteImages:
        """What a server may fetch."""
        reach = {"internet": Reach.INTERNET, "networks": Reach.NETWORKS}.get(settings.fetch_images)
        transport = Transport(offline=settings.offline, stall_s=_STALL_S, ca_file=settings.ca_file)
        return cls(reach, settings.image_max_bytes, transport)

    async def __aenter__(self) -> RemoteImages:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.transport.__aexit__(kind, exc, trace)

    async def fetch(self, wanted: list[str]) -> Mapping[str, bytes]:
        """The images behind links, all at once. Raises `InvalidRequest` for the first that fails."""
        if len(wanted) > MOST_LINKS:
            raise InvalidRequest(f"the request links to {len(wanted)} images, where {MOST_LINKS} are fetched at most")
        found: dict[str, bytes] = {}
        failed: list[InvalidRequest] = []

        async def one(link: str) -> None:
            try:
                found[link] = await self._image(link)
            except InvalidRequest as exc:
                failed.append(exc)
                group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            for link in wanted:
                group.start_soon(one, link)
        if failed:
            raise failed[0]
        return found

    async def _image(self, link: str) -> bytes:
        try:
            with anyio.fail_after(_WITHIN_S):
                data, media_type = await self._followed(link)
        except TimeoutError:
            raise InvalidRequest(f'the image "{shown(link)}" does not come in {_WITHIN_S:.0f} s') from None
        except RegistryError as exc:
            raise InvalidRequest(f'the image "{shown(link)}" cannot be fetched: {exc}') from exc
        kind = kind_of(data)
        if kind.holds != "image":
            raise InvalidRequest(f'"{shown(link)}" is not an image: it is {kind.name}, sent as "{media_type}"')
        return data

    async def _followed(self, link: str) -> tuple[bytes, str]:
        """What is behind ``link`` in the end, and the media type that it has there. Raises `RegistryError`."""
        assert self.reach is not None
        url = link
        for _ in range(_MOST_REDIRECTS + 1):
            if parts_of(url).scheme not in ("http", "https"):
                raise RegistryError(f'it leads to "{shown(url)}", which is no web address')
            async with self.transport.request("GET", url, _HEADERS, reach=self.reach) as response:
                if response.status in _REDIRECTS and (location := response.headers.get("Location")):
                    url = joined(url, location)
                    continue
                if response.status != 200:
                    raise RegistryError(f"{response.url.host} answers with status {response.status}")
                if (length := response.content_length) is not None and length > self.max_bytes:
                    raise RegistryError(
                        f"it has {length} bytes, where {self.max_bytes} are allowed (CORRAL_IMAGE_MAX_BYTES)"
                    )
                return await read_all(response, self.max_bytes, _WITHIN_S), shown(response.content_type)
        raise RegistryError(f"it is redirected more than {_MOST_REDIRECTS} times")
