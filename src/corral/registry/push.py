"""Pushing a model: what the registry lacks of its blobs, in chunks that can be gone on with, and last the manifest.

Where an upload is, the registry knows; under which address, a small file beside the blob does, so that another process, or the
same one after a power cut, goes on with it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

import anyio
from anyio import to_thread

from corral.errors import RegistryError
from corral.registry.patience import Patience
from corral.registry.progress import Progress
from corral.registry.repository import Repository, Upload
from corral.store import Layer, Store, StoredManifest
from corral.store.manifest import media_type_of

_CHUNK_BYTES = 16 << 20
_OVERLOADED = (408, 425, 429, 502, 503, 504)  # statuses of a registry that may do better in a moment

_Answer = TypeVar("_Answer")


async def push_model(
    store: Store, repository: Repository, stored: StoredManifest, patience: Patience
) -> AsyncGenerator[Progress, None]:
    """The steps of a push. Raises `RegistryError`, `StoreError`."""
    yield Progress("retrieving manifest")
    for layer in {layer.digest: layer for layer in stored.manifest.blobs}.values():
        if await _has(repository, layer, patience):
            yield Progress.of("pushing", layer, layer.size)
            continue
        async for completed in _push_blob(store, repository, layer, patience):
            yield Progress.of("pushing", layer, completed)
    yield Progress("pushing manifest")
    media_type = media_type_of(stored.data)
    await _insist(lambda: repository.put_manifest(stored.data, media_type), patience)
    yield Progress("success")


async def _push_blob(
    store: Store, repository: Repository, layer: Layer, patience: Patience
) -> AsyncGenerator[int, None]:
    """Send a blob; how many bytes of it are there."""
    note = store.note(layer.digest, repository.address)
    upload = await _unfinished(repository, await to_thread.run_sync(note.read))
    if upload is None:
        upload = await _begin(repository, layer, patience)
    furthest = -1
    while upload is not None:
        if upload.received > furthest:
            furthest = upload.received
            patience.worked(time.monotonic())
        url, all_sent = upload.url, upload.received >= layer.size
        await to_thread.run_sync(note.write, url)
        yield min(upload.received, layer.size)
        try:
            if not all_sent:
                chunk = await to_thread.run_sync(store.read_part, layer.digest, upload.received, _CHUNK_BYTES)
                upload = await repository.send_chunk(upload, chunk)
            else:
                await repository.finish_upload(upload, layer.digest)
                upload = None
        except RegistryError as exc:
            if all_sent and await _has(repository, layer, patience):
                break  # it was done, and the answer got lost
            if not exc.temporary:
                await to_thread.run_sync(note.remove)
            await anyio.sleep(patience.failed(exc, time.monotonic()))
            upload = await _unfinished(repository, url)
            if upload is None and not await _has(repository, layer, patience):
                upload = await _begin(repository, layer, patience)
    await to_thread.run_sync(note.remove)
    yield layer.size


async def _has(repository: Repository, layer: Layer, patience: Patience) -> bool:
    return await _insist(lambda: repository.has(layer.digest), patience)


async def _begin(repository: Repository, layer: Layer, patience: Patience) -> Upload | None:
    return await _insist(lambda: repository.begin_upload(layer.digest, layer.origin), patience)


async def _insist(ask: Callable[[], Awaitable[_Answer]], patience: Patience) -> _Answer:
    """The answer, for which it may have to be asked again. A registry that never gave one is not waited for."""
    own = patience.anew(time.monotonic())  # an answer to this is no progress of the push
    while True:
        try:
            answer = await ask()
        except RegistryError as exc:
            if exc.status not in _OVERLOADED and not patience.ever_worked:
                raise
            await anyio.sleep(own.failed(exc, time.monotonic()))
        else:
            if not patience.ever_worked:
                patience.worked(time.monotonic())
            return answer


async def _unfinished(repository: Repository, url: str) -> Upload | None:
    """The upload at ``url`` as far as the registry has it; ``None`` when it knows of none, or cannot be asked."""
    if not url:
        return None
    try:
        return await repository.upload_status(url)
    except RegistryError:
        return None
