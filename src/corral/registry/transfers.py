"""Pulling a model: its manifest, its blobs, and last the manifest's place in the store. Pushing: the other way round."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup

from corral.config import Settings
from corral.errors import (
    CorralError,
    InvalidName,
    InvalidRequest,
    RegistryError,
    StoreError,
)
from corral.names import DEFAULT_NAMESPACE, DEFAULT_TAG, Digest, ModelName
from corral.registry.credentials import Credential, Credentials
from corral.registry.download import Download
from corral.registry.huggingface import (
    Choice,
    best,
    files_of,
    is_hugging_face,
    leaves_the_choice,
    manifest_of,
    named,
    offers,
    path_of,
    projector_of,
)
from corral.registry.keys import SigningKey
from corral.registry.patience import BACKOFF_S, PATIENCE_S, Patience
from corral.registry.progress import Progress
from corral.registry.push import push_model
from corral.registry.reach import Reach
from corral.registry.repository import FetchedManifest, Identity, Repository
from corral.registry.sources import Sources
from corral.registry.transport import STALL_S, Traffic, Transport
from corral.store import Layer, Store
from corral.store.manifest import CONFIG_TYPE

logger = logging.getLogger(__name__)

_EVERY_S = 0.06
_AT_A_TIME = 4  # blobs of one pull
_SPARE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Found:
    """A model at its registry: the manifest, and where its blobs are to be had. ``choice`` says what had to be chosen."""

    name: ModelName
    sources: Sources
    fetched: FetchedManifest
    choice: str = ""


class _Shared:
    """A download and all who wait for it."""

    def __init__(self, download: Download) -> None:
        self.download = download
        self.waiting = 0
        self.ended = anyio.Event()
        self.error: CorralError | None = None
        self.scope = anyio.CancelScope()


@dataclass(frozen=True, slots=True)
class Outside:
    """What a server's owner decides about other machines. ``mirrors`` has addresses by host.

    ``stall_s`` is how long a connection may be silent, ``patience_s`` how long a line that worked is waited for, ``backoff_s``
    the first pause between two tries.
    """

    offline: bool = False
    mirrors: Mapping[str, Sequence[str]] = field(default_factory=dict)
    ca_file: Path | None = None
    identity: Identity = field(default_factory=Identity)
    stall_s: float = STALL_S
    patience_s: float = PATIENCE_S
    backoff_s: float = BACKOFF_S

    @classmethod
    def of(cls, settings: Settings) -> Outside:
        """What the settings say."""
        identity = Identity(Credentials(settings.data / "credentials.json"), SigningKey())
        return cls(settings.offline, dict(settings.mirrors), settings.ca_file, identity)

    def patience(self) -> Patience:
        """For one blob, or one push."""
        return Patience(self.patience_s, self.backoff_s)


@dataclass(frozen=True, slots=True)
class Wish:
    """How somebody wants to talk to a registry: over plain HTTP, with a login of theirs, and how far they may reach."""

    insecure: bool = False
    credential: Credential | None = None
    reach: Reach = Reach.EVERYWHERE


PLAIN = Wish()


class Transfers:
    """Pulls models into ``store`` and pushes them. Who pulls the same blob at the same time shares the work.

    ``memory_bytes`` is what this machine has for a model; it decides where a name leaves the choice.
    """

    def __init__(
        self, store: Store, outside: Outside | None = None, *, prune: bool = True, memory_bytes: int = 8 << 30
    ) -> None:
        self._store = store
        self._prune = prune
        self._outside = outside or Outside()
        self._memory_bytes = memory_bytes
        self._transport = Transport(
            offline=self._outside.offline, stall_s=self._outside.stall_s, ca_file=self._outside.ca_file
        )
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

    @property
    def traffic(self) -> Traffic:
        """How many bytes of blobs came and went."""
        return self._transport.traffic

    async def pull(self, name: ModelName, wish: Wish = PLAIN) -> AsyncGenerator[Progress, None]:
        """Make ``name`` what its registry has under it, step by step. A pull that fails changes no model.

        Raises `RegistryError`, `StoreError`, `InvalidRequest`.
        """
        _check_scheme(name, wish.insecure)
        yield Progress("pulling manifest")
        found = await self.find(name, wish)
        if found.choice:
            yield Progress(found.choice)
        async with aclosing(self.fetch(found)) as steps:
            async for step in steps:
                yield step

    async def find(self, name: ModelName, wish: Wish = PLAIN) -> Found:
        """What the registry has under ``name``. Raises `RegistryError`, `InvalidRequest`."""
        _check_scheme(name, wish.insecure)
        sources = self._sources(name, wish)
        try:
            if leaves_the_choice(name) and (choice := await self._choose(sources, name)) is not None:
                said = f"choosing {choice.offer.tag}, {choice.offer.size / 1e9:.1f} GB: {choice.reason}"
                return Found(name, sources, await self._manifest(sources, name, choice.offer.tag), said)
            return Found(name, sources, await self._manifest(sources, name, name.tag))
        except RegistryError as exc:
            raise RegistryError(f"pull model manifest: {exc}", exc.status) from exc

    async def push(self, name: ModelName, wish: Wish = PLAIN) -> AsyncGenerator[Progress, None]:
        """Make the registry of ``name`` have what the store has under it, step by step.

        Raises `ModelNotFound`, `RegistryError`, `StoreError`, `InvalidRequest`.
        """
        _check_scheme(name, wish.insecure)
        stored = await to_thread.run_sync(self._store.read, name)
        async with aclosing(
            push_model(self._store, self._registry(name, wish), stored, self._outside.patience())
        ) as steps:
            async for step in steps:
                yield step

    async def check_login(self, host: str, wish: Wish) -> None:
        """Whether the registry at ``host`` takes the login in ``wish``. Raises `RegistryError`, `InvalidRequest`."""
        try:
            name = ModelName(host, DEFAULT_NAMESPACE, "login", DEFAULT_TAG)
        except InvalidName as exc:
            raise InvalidRequest(
                f'"{host}" is not the host of a registry; expected HOST or HOST:PORT, as ghcr.io'
            ) from exc
        await self._registry(name, wish).check()

    async def fetch(self, found: Found) -> AsyncGenerator[Progress, None]:
        """Get the blobs, and make the name the manifest's when all are there. Raises `RegistryError`, `StoreError`."""
        fetched = found.fetched
        layers = list({layer.digest: layer for layer in fetched.manifest.blobs}.values())
        while True:
            missing = [layer for layer in layers if not self._store.has_blob(layer.digest, layer.size)]
            for layer in layers:
                if layer not in missing:
                    yield Progress.of("pulling", layer, layer.size)
            self._check_space(missing)
            async for progress in self.blobs(found.sources, missing):
                yield progress
            yield Progress("verifying sha256 digest")
            yield Progress("writing manifest")
            try:
                unused = await to_thread.run_sync(self._write, found.name, fetched)
                break
            except _BlobsGone:
                continue
        if unused and self._prune:
            num_removed = await to_thread.run_sync(self._store.remove_unused, unused)
            if num_removed:
                yield Progress("removing unused layers")
        yield Progress("success")

    def _sources(self, name: ModelName, wish: Wish) -> Sources:
        """The mirrors, which the owner trusts wherever they are, and the registry."""
        mirrors = [
            Repository(self._transport, name, mirror=mirror, identity=self._outside.identity)
            for mirror in self._outside.mirrors.get(name.host.lower(), ())
        ]
        return Sources([*mirrors, self._registry(name, wish)])

    def _registry(self, name: ModelName, wish: Wish) -> Repository:
        return Repository(
            self._transport,
            name,
            insecure=wish.insecure,
            reach=wish.reach,
            identity=self._outside.identity,
            given=wish.credential,
        )

    async def _choose(self, sources: Sources, name: ModelName) -> Choice | None:
        """The file that is meant where ``name`` says none; ``None`` leaves it to the registry."""
        try:
            found = offers(await sources.ask(lambda repository: files_of(repository, name)))
        except RegistryError as exc:
            logger.info("what there is of %s cannot be said, so its registry chooses: %s", name.short, exc)
            return None
        return (
            best(found, self._memory_bytes, await to_thread.run_sync(self._store.digests_of, name)) if found else None
        )

    async def _manifest(self, sources: Sources, name: ModelName, tag: str) -> FetchedManifest:
        """The manifest of a tag; of a model in parts, which Hugging Face has no manifest for, one that is made here."""
        try:
            return await sources.ask(lambda repository: repository.manifest(tag))
        except RegistryError as exc:
            if not is_hugging_face(name):
                raise
            try:
                files = await sources.ask(lambda repository: files_of(repository, name))
            except RegistryError:
                raise exc from None
            offer = named(found := offers(files), tag)
            if offer is None or len(offer.files) == 1:
                there = ", ".join(sorted(offer.tag for offer in found)) or "no GGUF file at all"
                raise RegistryError(f"{exc}; there is: {there}", exc.status) from exc
        config, manifest = manifest_of(offer, files)
        for file in (*offer.files, *filter(None, [projector_of(files)])):
            sources.lies_at(file.digest, path_of(name, file))
        await to_thread.run_sync(self._store.add_bytes, config, CONFIG_TYPE)
        return FetchedManifest(manifest, manifest.serialise())

    def _write(self, name: ModelName, fetched: FetchedManifest) -> set[Digest]:
        """Put the manifest in place; the blobs that the name meant before and means no longer."""
        with self._store.changing():
            before = self._store.digests_of(name)
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

    async def blobs(self, sources: Sources, layers: Sequence[Layer]) -> AsyncGenerator[Progress, None]:
        """Get ``layers`` into the store, a few at a time and in their order. Raises `RegistryError`, `StoreError`."""
        waiting, running = list(layers), list[_Shared]()
        shown: dict[Digest, int] = {}
        try:
            while waiting or running:
                while waiting and len(running) < _AT_A_TIME:
                    running.append(self._join(sources, waiting.pop(0)))
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

    def in_background(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do ``work``, for as long as we live. What it raises is logged, and ends nothing else."""

        async def guarded() -> None:
            try:
                await work()
            except Exception:
                logger.exception("work in the background failed")

        self._tasks.start_soon(guarded)

    @asynccontextmanager
    async def sharing(self, sources: Sources, layer: Layer) -> AsyncIterator[Download]:
        """A blob on its way, for whoever wants it before all of it is there. What failed is told by `Download.until`.

        Raises `StoreError` when there is no room for it.
        """
        if layer.digest not in self._downloads and not self._store.has_blob(layer.digest, layer.size):
            self._check_space([layer])
        shared = self._join(sources, layer)
        try:
            yield shared.download
        finally:
            self._leave(shared)

    def _join(self, sources: Sources, layer: Layer) -> _Shared:
        shared = self._downloads.get(layer.digest)
        if shared is None or shared.ended.is_set():
            shared = self._downloads[layer.digest] = _Shared(
                Download(self._store, sources, layer, self._outside.patience())
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
                except* Exception as group:  # a mistake of ours ends this download, and no other
                    digest = shared.download.layer.digest
                    logger.error("the download of %s failed by a mistake in Corral", digest, exc_info=group)
                    shared.error = CorralError(
                        f"the download of {digest} failed by a mistake in Corral; the server's log says more"
                    )
        finally:
            shared.download.end(shared.error)
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
