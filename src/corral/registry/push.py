"""Pushing a model: what the registry lacks of its blobs, in chunks that can be gone on with, and last the manifest.

Where an upload is, the registry knows; under which address, a small file beside the blob does, so that another process, or the
same one after a power cut, goes on with it.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator

import anyio
from anyio import to_thread

from corral.errors import RegistryError
from corral.registry.progress import Progress
from corral.registry.repository import Repository, Upload
from corral.store import Layer, Store, StoredManifest
from corral.store.manifest import media_type_of

_CHUNK_BYTES = 16 << 20
_MAX_FAILURES = 6
_MAX_WAIT_S = 60.0


async def push_model(store: Store, repository: Repository, stored: StoredManifest) -> AsyncGenerator[Progress, None]:
    """The steps of a push. Raises `RegistryError`, `StoreError`."""
    yield Progress("retrieving manifest")
    for layer in {layer.digest: layer for layer in stored.manifest.blobs}.values():
        if await repository.has(layer.digest):
            yield Progress.of("pushing", layer, layer.size)
            continue
        async for completed in _push_blob(store, repository, layer):
            yield Progress.of("pushing", layer, completed)
    yield Progress("pushing manifest")
    await repository.put_manifest(stored.data, media_type_of(stored.data))
    yield Progress("success")


async def _push_blob(store: Store, repository: Repository, layer: Layer) -> AsyncGenerator[int, None]:
    """Send a blob; how many bytes of it are there."""
    note = store.note(layer.digest, repository.address)
    upload = await _unfinished(repository, await to_thread.run_sync(note.read))
    if upload is None:
        upload = await repository.begin_upload(layer.digest, layer.origin)
    failures = 0
    while upload is not None:
        url = upload.url
        await to_thread.run_sync(note.write, url)
        yield min(upload.received, layer.size)
        try:
            if upload.received < layer.size:
                chunk = await to_thread.run_sync(store.read_part, layer.digest, upload.received, _CHUNK_BYTES)
                upload = await repository.send_chunk(upload, chunk)
            else:
                await repository.finish_upload(upload, layer.digest)
                upload = None
            failures = 0
        except RegistryError as exc:
            failures += 1
            if not exc.temporary or failures > _MAX_FAILURES:
                if not exc.temporary:
                    await to_thread.run_sync(note.remove)
                raise
            wait = max(exc.retry_after_s, 2 ** (failures - 1) * random.uniform(0.5, 1.0))  # noqa: S311
            await anyio.sleep(min(wait, _MAX_WAIT_S))
            upload = await _unfinished(repository, url)
            if upload is None and not await repository.has(layer.digest):
                upload = await repository.begin_upload(layer.digest, layer.origin)
    await to_thread.run_sync(note.remove)
    yield layer.size


async def _unfinished(repository: Repository, url: str) -> Upload | None:
    """The upload at ``url`` as far as the registry has it; ``None`` when it knows of none, or cannot be asked."""
    if not url:
        return None
    try:
        return await repository.upload_status(url)
    except RegistryError:
        return None
