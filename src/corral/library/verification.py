"""Whether the files of models hold what they should, and getting those again that do not."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import BinaryIO

import anyio
from anyio import to_thread

from corral.errors import CorralError, CorruptManifest, ModelNotFound, RegistryError, StoreError
from corral.library.library import Library
from corral.names import Digest, ModelName
from corral.registry import Progress, Transfers, Wish
from corral.store import Layer
from corral.tiny import TINY_NAME

_STEP_BYTES = 64 << 20  # between two looks at how far it is


@dataclass(slots=True)
class _File:
    """A blob and the models that need it; ``problem`` is what was found out."""

    layer: Layer
    models: list[ModelName]
    problem: str = ""

    def __str__(self) -> str:
        return f"{self.layer.digest} of {', '.join(name.short for name in self.models)} {self.problem}"


@dataclass(slots=True)
class _Inventory:
    """What there is to look at. ``unreadable`` are manifests, and what is wrong with each."""

    files: dict[Digest, _File] = field(default_factory=dict)
    unreadable: dict[ModelName, str] = field(default_factory=dict)


class Verification:
    """Looks at the files of ``library``, and gets from registries what is damaged."""

    def __init__(self, library: Library, transfers: Transfers) -> None:
        self._store = library.store
        self._library = library
        self._transfers = transfers

    async def run(
        self, names: Sequence[ModelName], *, repair: bool = False, wish: Wish | None = None
    ) -> AsyncGenerator[Progress, None]:
        """Hash the files of the models ``names``, of all if there are none, each file once; say what is damaged, step by step.

        With ``repair`` what is damaged is fetched again. Raises `ModelNotFound`, and at the end `StoreError` if anything is
        (still) damaged.
        """
        inventory = await to_thread.run_sync(self._take_inventory, names)
        for file in inventory.files.values():
            async with aclosing(self._check(file)) as steps:
                async for step in steps:
                    yield step
        damaged = [file for file in inventory.files.values() if file.problem]
        left = [*inventory.unreadable.values(), *map(str, damaged)]
        for line in left:
            yield Progress(line)
        if repair and left:
            left = []
            for name in inventory.unreadable:
                async with aclosing(self._pull(name, wish or Wish(), left)) as steps:
                    async for step in steps:
                        yield step
            for file in damaged:
                async with aclosing(self._repair(file, wish or Wish(), left)) as steps:
                    async for step in steps:
                        yield step
        if left:
            advice = "" if repair else "; to fetch it again: corral verify --repair"
            num_files = len(inventory.files) + len(inventory.unreadable)
            raise StoreError(f"{len(left)} of {num_files} files damaged: {'; '.join(left)}{advice}")
        yield Progress("success")

    def _take_inventory(self, names: Sequence[ModelName]) -> _Inventory:
        inventory = _Inventory()
        for name in names or self._store.names():
            try:
                stored = self._store.read(name)
            except CorruptManifest as exc:
                inventory.unreadable[name] = str(exc)
                continue
            except ModelNotFound:
                if names:
                    raise
                continue  # removed since it was listed
            for layer in stored.manifest.blobs:
                inventory.files.setdefault(layer.digest, _File(layer, [])).models.append(stored.name)
        return inventory

    async def _check(self, file: _File) -> AsyncGenerator[Progress, None]:
        """Find out what is wrong with ``file``."""
        layer, hasher, completed = file.layer, hashlib.sha256(), 0
        try:
            with self._store.blob_path(layer.digest).open("rb") as source:
                while read := await to_thread.run_sync(_hash_some, source, hasher):
                    completed += read
                    yield Progress.of("verifying", layer, min(completed, layer.size))
        except FileNotFoundError:
            if await to_thread.run_sync(self._is_needed, file):
                file.problem = "is missing"
        except OSError as exc:
            file.problem = f"cannot be read: {exc.strerror}"
        else:
            if completed != layer.size:
                file.problem = f"has {completed} bytes instead of {layer.size}"
            elif hasher.hexdigest() != layer.digest.hex:
                file.problem = "holds other bytes than it should"
        if not file.problem:
            yield Progress.of("verifying", layer, layer.size)

    def _is_needed(self, file: _File) -> bool:
        """Whether a model that was there when we began still needs it."""
        for name in file.models:
            try:
                if any(layer.digest == file.layer.digest for layer in self._store.read(name).manifest.blobs):
                    return True
            except (ModelNotFound, CorruptManifest):
                continue
        return False

    async def _pull(self, name: ModelName, wish: Wish, left: list[str]) -> AsyncGenerator[Progress, None]:
        """Get a model whose manifest cannot be read; what went wrong is added to ``left``."""
        try:
            async with aclosing(self._transfers.pull(name, wish)) as steps:
                async for step in steps:
                    if step.status != "success":
                        yield step
        except CorralError as exc:
            left.append(f"{name.short} could not be repaired: {exc}")

    async def _repair(self, file: _File, wish: Wish, left: list[str]) -> AsyncGenerator[Progress, None]:
        """Get ``file`` from wherever one of its models comes from; what went wrong is added to ``left``.

        The damaged one goes only when there is another.
        """
        digest, why = file.layer.digest, ""
        for name in file.models:
            try:
                if name.key == ModelName.parse(TINY_NAME).key and await to_thread.run_sync(self._from_box, digest):
                    yield Progress(f"took {digest.short} from the package")
                    return
                found = await self._transfers.find(name, wish)
                if all(layer.digest != digest for layer in found.fetched.manifest.blobs):
                    raise RegistryError(f"{name.host} has another version now; try: corral pull {name.short}")
                aside = await to_thread.run_sync(self._store.set_aside, digest)
                try:
                    async with aclosing(self._transfers.blobs(found.sources, [file.layer])) as steps:
                        async for step in steps:
                            yield step
                finally:
                    if aside is not None:
                        with anyio.CancelScope(shield=True):
                            await to_thread.run_sync(self._store.put_back, digest, aside)
                return
            except CorralError as exc:
                why = f"{name.short}: {exc}"
        left.append(f"{file} and could not be repaired ({why})")

    def _from_box(self, digest: Digest) -> bool:
        """Whether the model in the box has it; then it is in the store again."""
        aside = self._store.set_aside(digest)
        self._library.add_tiny()
        there = self._store.has_blob(digest)  # not that of a Tiny of another version
        if aside is not None:
            self._store.put_back(digest, aside)
        return there


def _hash_some(source: BinaryIO, hasher: hashlib._Hash) -> int:
    """Hash what follows, up to a step; how many bytes that were."""
    read = 0
    while read < _STEP_BYTES and (chunk := source.read(1 << 20)):
        hasher.update(chunk)
        read += len(chunk)
    return read
