"""Pulling a model: its manifest, its blobs, and last the manifest's place in the store. Pushing: the other way round."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing
from types import TracebackType

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup

from corral.errors import CorralError, CorruptManifest, InvalidRequest, ModelNotFound, StoreError
from corral.names import Digest, ModelName
from corral.registry.download import Download
from corral.registry.patience import PATIENCE_S
from corral.registry.progress import Progress
from corral.registry.push import push_model
from corral.registry.repository import FetchedManifest, Repository
from corral.registry.transport import STALL_S, Transport
from corral.store import Layer, Store

_EVERY_S = 0.06
_AT_A_TIME = 4  # blobs of one pull
_SPARE_BYTES = 64 << 20


class _Shared:
    """A download and all who wait for it."""

    def __init__(self, download: Download) -> None:
        self.download = download
        self.waiting = 0
        self.ended = anyio.Event()
        self.error: CorralError | None = None
        self.scope = anyio.CancelScope()


class Transfers:
    """Pulls models into ``store`` and pushes them. Who pulls the same blob at the same time shares the work."""

    def __init__(
        self,
        store: Store,
        *,
        offline: bool = False,
        prune: bool = True,
        stall_s: float = STALL_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._store = store
        self._prune = prune
        self._patience_s = patience_s
        self._transport = Transport(offline=offline, stall_s=stall_s)
        self._downloads: dict[Digest, _Shared] = {}
        self._stack = AsyncExitStack()
        self._tasks: TaskGroup

    async def __aenter__(self) -> Transfers:
        await self._stack.enter_async_context(self._transport)
        self._tasks = await self._stack.enter_async_context(anyio.create_task_group())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tasks.cancel_scope.cancel()
        await self._stack.aclose()  # what went wrong is told as it is, not as a group of one

    async def pull(self, name: ModelName, *, insecure: bool = False) -> AsyncGenerator[Progress, None]:
        """Make ``name`` what its registry has under it, step by step. A pull that fails changes no model.

        Raises `RegistryError`, `StoreError`, `InvalidRequest`.
        """
        _check_scheme(name, insecure)
        yield Progress("pulling manifest")
        repository = Repository(self._transport, name, insecure=insecure)
        fetched = await repository.manifest()
        layers = list({layer.digest: layer for layer in fetched.manifest.blobs}.values())
        while True:
            missing = [layer for layer in layers if not self._store.has_blob(layer.digest, layer.size)]
            for layer in layers:
                if layer not in missing:
                    yield Progress.of("pulling", layer, layer.size)
            self._check_space(missing)
            async for progress in self._blobs(repository, missing):
                yield progress
            yield Progress("verifying sha256 digest")
            yield Progress("writing manifest")
            try:
                unused = await to_thread.run_sync(self._write, name, fetched)
                break
            except _BlobsGone:
                continue
        if unused and self._prune:
            num_removed = await to_thread.run_sync(self._store.remove_unused, unused)
            if num_removed:
                yield Progress("removing unused layers")
        yield Progress("success")

    async def push(self, name: ModelName, *, insecure: bool = False) -> AsyncGenerator[Progress, None]:
        """Make the registry of ``name`` have what the store has under it, step by step.

        Raises `ModelNotFound`, `RegistryError`, `StoreError`, `InvalidRequest`.
        """
        _check_scheme(name, insecure)
        stored = await to_thread.run_sync(self._store.read, name)
        repository = Repository(self._transport, name, insecure=insecure)
        async with aclosing(push_model(self._store, repository, stored, patience_s=self._patience_s)) as steps:
            async for step in steps:
                yield step

    def _write(self, name: ModelName, fetched: FetchedManifest) -> set[Digest]:
        """Put the manifest in place; the blobs that the name meant before and means no longer."""
        with self._store.changing():
            try:
                before = {layer.digest for layer in self._store.read(name).manifest.blobs}
            except (ModelNotFound, CorruptManifest):
                before = set()
            blobs = fetched.manifest.blobs
            if not all(self._store.has_blob(layer.digest) for layer in blobs):
                raise _BlobsGone
            self._store.write(name, fetched.manifest, fetched.data)
        return before - {layer.digest for layer in blobs}

    def _check_space(self, layers: Sequence[Layer]) -> None:
        needed = sum(layer.size - self._store.bytes_on_their_way(layer) for layer in layers)
        free = self._store.free_bytes()
        if layers and needed + _SPARE_BYTES > free:
            raise StoreError(
                f"the model needs {needed:,} more bytes in {self._store.root}, and {free:,} are free there; "
                "free some, or choose another folder with CORRAL_MODELS"
            )

    async def _blobs(self, repository: Repository, layers: Sequence[Layer]) -> AsyncGenerator[Progress, None]:
        """Get ``layers`` into the store, a few at a time and in their order."""
        waiting, running = list(layers), list[_Shared]()
        shown: dict[Digest, int] = {}
        try:
            while waiting or running:
                while waiting and len(running) < _AT_A_TIME:
                    running.append(self._join(repository, waiting.pop(0)))
                with anyio.move_on_after(_EVERY_S):
                    await running[0].ended.wait()
                for shared in list(running):
                    layer, completed = shared.download.layer, shared.download.completed
                    if shared.ended.is_set():
                        if shared.error is not None:
                            raise shared.error
                        running.remove(shared)
                        self._leave(shared)
                        completed = layer.size
                    if shown.get(layer.digest) != completed:
                        shown[layer.digest] = completed
                        yield Progress.of("pulling", layer, completed)
        finally:
            for shared in running:
                self._leave(shared)

    def _join(self, repository: Repository, layer: Layer) -> _Shared:
        shared = self._downloads.get(layer.digest)
        if shared is None or shared.ended.is_set():
            shared = self._downloads[layer.digest] = _Shared(
                Download(self._store, repository, layer, patience_s=self._patience_s)
            )
            self._tasks.start_soon(self._run, shared)
        shared.waiting += 1
        return shared

    def _leave(self, shared: _Shared) -> None:
        """The last who leaves ends the download; what came stays."""
        shared.waiting -= 1
        if not shared.waiting:
            shared.scope.cancel()
            if self._downloads.get(shared.download.layer.digest) is shared:
                del self._downloads[shared.download.layer.digest]

    async def _run(self, shared: _Shared) -> None:
        try:
            with shared.scope:
                try:
                    await shared.download.run()
                except* CorralError as group:
                    shared.error = _first(group)
        finally:
            shared.ended.set()


class _BlobsGone(Exception):
    """Somebody deleted a blob between its coming and the manifest."""


def _check_scheme(name: ModelName, insecure: bool) -> None:
    if name.scheme not in ("https", "http") or (name.scheme == "http" and not insecure):
        raise InvalidRequest(f'insecure protocol {name.scheme}; to use it, say "insecure" (--insecure)')


def _first(group: BaseExceptionGroup[CorralError]) -> CorralError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, CorralError)
    return error
