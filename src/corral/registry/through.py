"""A pull for others: what this machine lacks is fetched once, and handed on while it comes."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import aclosing

from anyio import to_thread

from corral.errors import CorralError, StoreError
from corral.names import Digest, ModelName
from corral.registry.repository import FetchedManifest
from corral.registry.transfers import Found, Transfers, Wish
from corral.store import Layer, Store

logger = logging.getLogger(__name__)

_CHUNK_BYTES = 1 << 18
_MAX_FAILED = 64  # models that failed, of which the blobs stay known


class PullThrough:
    """Models that others ask this machine for. What was asked for stays here, as if it had been pulled."""

    def __init__(self, store: Store, transfers: Transfers) -> None:
        self._store = store
        self._transfers = transfers
        self._found: dict[tuple[str, ...], Found] = {}  # models on their way
        self._layers: dict[Digest, tuple[Layer, Found]] = {}
        self._failed: list[Found] = []  # who asks for a blob of one begins it again

    async def manifest(self, name: ModelName, wish: Wish, *, begin: bool = True) -> FetchedManifest:
        """The manifest of ``name`` from its registry; with ``begin`` its blobs begin to come. Raises `RegistryError`."""
        found = await self._transfers.find(name, wish)
        if begin and name.key not in self._found:
            self._found[name.key] = found
            self._layers |= {layer.digest: (layer, found) for layer in found.fetched.manifest.blobs}
            self._transfers.in_background(lambda: self._fetch(found))
        return found.fetched

    def size(self, digest: Digest) -> int | None:
        """Bytes of a blob that is on its way; ``None`` if none of that digest is."""
        layer, _ = self._layers.get(digest, (None, None))
        return layer.size if layer else None

    async def read(self, digest: Digest, first: int, end: int) -> AsyncIterator[bytes]:
        """Bytes ``first`` to ``end`` (exclusive) of a blob that is on its way, as they come.

        They are what the registry sent: whoever reads them has to check the digest. Raises `RegistryError`, `StoreError`.
        """
        layer, found = self._layers[digest]
        async with self._transfers.sharing(found.sources, layer) as download:
            while first < end:
                await download.until(first)
                most = min(_CHUNK_BYTES - first % _CHUNK_BYTES, end - first)  # never past the piece that is there
                data = await to_thread.run_sync(self._store.read_coming, digest, first, most)
                if not data:
                    raise StoreError(f"the file {digest} of the model store is shorter than it should be")
                yield data
                first += len(data)

    async def _fetch(self, found: Found) -> None:
        name = found.name.short
        logger.info("fetching %s for another machine", name)
        try:
            async with aclosing(self._transfers.fetch(found)) as steps:
                async for _ in steps:
                    pass
        except CorralError as exc:
            logger.warning("fetching %s for another machine failed: %s", name, exc)
        else:
            logger.info("fetched %s for another machine", name)
            self._forget(found)
            return
        finally:
            del self._found[found.name.key]
        self._failed.append(found)
        while len(self._failed) > _MAX_FAILED:
            self._forget(self._failed.pop(0))

    def _forget(self, found: Found) -> None:
        self._layers = {digest: (layer, of) for digest, (layer, of) in self._layers.items() if of is not found}
