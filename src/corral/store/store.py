"""The store: a folder with ``manifests`` and ``blobs``, shared with whoever else uses it.

Nothing is created until something is written. Every path is made of a `ModelName` or a `Digest`. Names that differ only in
case mean one model, in whatever spelling it was stored.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Literal

from corral.errors import CorruptManifest, InvalidDigest, InvalidName, ModelNotFound, StoreError
from corral.names import Digest, ModelName
from corral.store.files import (
    TEMPORARY_PREFIX,
    TEMPORARY_SUFFIX,
    BlobWriter,
    HashedFile,
    Placed,
    chunks_of,
    is_wanted,
    translated,
    write_atomically,
    write_blob,
)
from corral.store.locks import locked
from corral.store.manifest import Layer, Manifest
from corral.store.partial import PartialBlob, bytes_on_their_way, is_ours, left_alone, open_partial, partial_path

logger = logging.getLogger(__name__)

_LEFTOVER_S = 24 * 3600
_PARTIAL_S = 30 * 24 * 3600
_BUSY_S = 300.0  # somebody may be writing: an upload, or Ollama, whose files have no lock


Stamp = tuple[int, int]  # when a manifest was written (nanoseconds) and in which file: another one has another


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest as it lies in the store. ``digest`` is the sha256 of its bytes ``data``, and the model's ID."""

    name: ModelName
    manifest: Manifest
    data: bytes
    digest: str
    modified_at: datetime
    stamp: Stamp


LeftoverKind = Literal["unused blob", "partial download", "temporary file"]


@dataclass(frozen=True, slots=True)
class RemovedFile:
    """A file that went, and the bytes it took."""

    name: str
    kind: LeftoverKind
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Removed:
    """What a clean-up took away, or would. With ``blobs_unknown`` no blob was touched, since a manifest cannot be read."""

    files: tuple[RemovedFile, ...] = ()
    blobs_unknown: bool = False

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size_bytes for file in self.files)


class Note:
    """A line of text in a file; not being able to keep it is no error."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> str:
        """The line; empty if there is none."""
        try:
            return self._path.read_text()
        except (OSError, UnicodeDecodeError):
            return ""

    def write(self, line: str) -> None:
        """Keep ``line`` and forget the one before."""
        with suppress(OSError):
            write_atomically(self._path, line.encode(), mode=0o600)  # an address may be signed

    def remove(self) -> None:
        """Forget it."""
        with suppress(OSError):
            self._path.unlink()


class Store:
    """A model store in ``root``. Safe to use from threads and beside other processes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._manifests = root / "manifests"
        self._blobs = root / "blobs"
        self._complained: dict[ModelName, Stamp | None] = {}

    # -- manifests ----------------------------------------------------------------------------------------------

    def find(self, name: ModelName) -> ModelName | None:
        """``name`` in the spelling under which it is stored, or ``None``."""
        if os.path.isfile(self._manifests / name.path):  # noqa: PTH113 - `Path.is_file` raises for what is too long
            return name
        spelled = next(_spellings(self._manifests, name.path.parts), None)
        return ModelName.from_path(PurePosixPath(*spelled)) if spelled else None

    def names(self) -> list[ModelName]:
        """The names of all manifests, readable or not. What has no valid name is passed over."""
        names = []
        for path in self._manifests.glob("*/*/*/*"):
            try:
                name = ModelName.from_path(PurePosixPath(path.relative_to(self._manifests).as_posix()))
            except InvalidName:
                continue
            if path.is_file():
                names.append(name)
        return names

    def read(self, name: ModelName) -> StoredManifest:
        """The manifest of ``name``. Raises `ModelNotFound`, and `CorruptManifest` when it cannot be read."""
        stored = self.find(name)
        if stored is None:
            raise ModelNotFound(name.short)
        path = self._manifests / stored.path
        try:
            with path.open("rb") as file:  # one file, even if another takes its place meanwhile
                data, status = file.read(), os.fstat(file.fileno())
            manifest = Manifest.parse(data)
        except FileNotFoundError:
            raise ModelNotFound(name.short) from None
        except OSError as exc:
            raise CorruptManifest(f'the manifest of "{name.short}" cannot be read: {exc.strerror}') from exc
        except CorruptManifest as exc:
            raise CorruptManifest(
                f'the manifest of "{name.short}" is damaged: {exc}; try: corral rm {name.short}, then get it again'
            ) from exc
        modified_at = datetime.fromtimestamp(status.st_mtime, UTC).astimezone()
        return StoredManifest(stored, manifest, data, hashlib.sha256(data).hexdigest(), modified_at, _stamp(status))

    def digests_of(self, name: ModelName) -> set[Digest]:
        """The blobs that ``name`` means; none where there is no such model, or none that can be read."""
        try:
            return {layer.digest for layer in self.read(name).manifest.blobs}
        except (ModelNotFound, CorruptManifest):
            return set()

    def stamp(self, name: ModelName) -> Stamp | None:
        """What changes when the manifest of ``name`` (in its stored spelling) does; ``None`` if there is none."""
        try:
            return _stamp((self._manifests / name.path).stat())
        except OSError:
            return None

    def entries(self) -> list[StoredManifest]:
        """All manifests that can be read. One that cannot hides only itself, and is logged once."""
        entries = []
        for name in self.names():
            try:
                entries.append(self.read(name))
            except ModelNotFound:
                continue  # removed since it was listed
            except CorruptManifest as exc:
                stamp = self.stamp(name)
                if self._complained.get(name) != stamp:
                    self._complained[name] = stamp
                    logger.warning("%s", exc)
        return entries

    def changing(self) -> AbstractContextManager[None]:
        """Keep everyone else from changing models: blobs that are added inside are there until a manifest needs them."""
        return locked(self.root)

    def write(self, name: ModelName, manifest: Manifest, data: bytes | None = None) -> None:
        """Make ``name`` mean ``manifest``; ``data`` are its bytes where they are to be kept. All at once or not at all.

        Raises `StoreError` when a blob is not here, as after a deletion since it was added.
        """
        with self.changing():
            for layer in manifest.blobs:
                if not self.has_blob(layer.digest):
                    raise StoreError(
                        f'"{name.short}" cannot be made: its file {layer.digest} is not in the model store'
                    )
            self._put(self.find(name) or name, manifest.serialise() if data is None else data)

    def copy(self, source: ModelName, destination: ModelName) -> None:
        """Make ``destination`` mean what ``source`` means. Onto itself it changes nothing."""
        with self.changing():
            stored = self.find(source)
            if stored is None:
                raise ModelNotFound(source.short)
            target = self.find(destination) or destination
            if target == stored:
                return
            try:
                data = (self._manifests / stored.path).read_bytes()
            except OSError as exc:
                raise CorruptManifest(f'the manifest of "{source.short}" cannot be read: {exc.strerror}') from exc
            self._put(target, data)

    def delete(self, name: ModelName) -> None:
        """Remove a model, and of its blobs those that no other model uses."""
        with self.changing():
            stored = self.find(name)
            if stored is None:
                raise ModelNotFound(name.short)
            blobs = self.digests_of(stored)  # whatever a damaged one used is found by the next clean-up
            with translated(self.root):
                (self._manifests / stored.path).unlink()
                self._remove_empty_folders()
            self.remove_unused(blobs)

    def remove_unused(self, blobs: Set[Digest]) -> int:
        """Remove those of ``blobs`` that no model uses; how many. None goes while a manifest cannot be read."""
        with self.changing():
            used = self._used()
            if used is None:
                logger.warning("a manifest cannot be read, so no file was removed")
                return 0
            unused = blobs - used
            with translated(self.root):
                for digest in unused:
                    self.blob_path(digest).unlink(missing_ok=True)
            return len(unused)

    # -- blobs --------------------------------------------------------------------------------------------------

    def blob_path(self, digest: Digest) -> Path:
        """Where the blob lies or would lie."""
        path = self._blobs / digest.file_name
        legacy = self._blobs / str(digest)  # older versions of Ollama wrote a colon
        return legacy if not path.exists() and legacy.exists() else path

    def has_blob(self, digest: Digest, size: int | None = None) -> bool:
        """Whether the blob is here, and of that size if one is given."""
        path = self.blob_path(digest)
        try:
            return path.is_file() and (size is None or path.stat().st_size == size)
        except OSError:
            return False

    def wants_blob(self, digest: Digest) -> bool:
        """Whether the blob is here; if it is, no clean-up takes it for the next hour. Raises `StoreError`."""
        with translated(self.root):
            return is_wanted(self.blob_path(digest))

    def read_part(self, digest: Digest, first: int, most: int) -> bytes:
        """At most ``most`` bytes of a blob, from the byte ``first`` on. Raises `StoreError`."""
        try:
            with self.blob_path(digest).open("rb") as file:
                file.seek(first)
                return file.read(most)
        except OSError as exc:
            raise StoreError(f"the file {digest} of the model store cannot be read: {exc.strerror}") from exc

    def read_coming(self, digest: Digest, first: int, most: int) -> bytes:
        """As `read_part`, of a blob that is perhaps still on its way; it may be finished at any moment."""
        for path in (self.blob_path(digest), partial_path(self._blobs, digest), self.blob_path(digest)):
            try:
                with path.open("rb") as file:
                    file.seek(first)
                    return file.read(most)
            except FileNotFoundError:
                continue
            except OSError as exc:
                raise StoreError(f"the file {digest} of the model store cannot be read: {exc.strerror}") from exc
        raise StoreError(f"the file {digest} is not in the model store any more")

    def note(self, digest: Digest, about: str) -> Note:
        """A line to remember about a blob and ``about``, for as long as half-done downloads are kept."""
        return Note(self._blobs / f"{digest.file_name}-partial-note-{Digest.of(about.encode()).short}")

    def partial(self, layer: Layer) -> PartialBlob | None:
        """The blob of ``layer`` on its way; ``None`` while somebody else works on it. Raises `StoreError`."""
        return open_partial(self._blobs, layer.digest, layer.size)

    def bytes_on_their_way(self, layer: Layer) -> int:
        """About how many bytes of the blob of ``layer`` came so far."""
        return bytes_on_their_way(self._blobs, layer.digest, layer.size)

    def free_bytes(self) -> int:
        """Space that is left where blobs go."""
        return shutil.disk_usage(self._existing_folder()).free

    def device(self) -> int:
        """The number of the device where blobs go; files of the same one can be linked."""
        return self._existing_folder().stat().st_dev

    def _existing_folder(self) -> Path:
        folder = self._blobs
        while not folder.exists():
            folder = folder.parent
        return folder

    def add_bytes(self, data: bytes, media_type: str) -> Layer:
        """Store ``data`` as a blob."""
        return self._add((data,), media_type)

    def place(self, file: HashedFile) -> Placed:
        """Make a file elsewhere a blob; how. It is to be done within `changing`, before the manifest that needs it.

        A link has the age of the file it leads to, so a clean-up might take it for something old. Raises `StoreError`.
        """
        with self.changing(), translated(self.root):
            return file.place(self._blobs)

    @contextmanager
    def workplace(self) -> Iterator[Path]:
        """A folder on the device of the blobs for files on their way; it is gone at the end. Raises `StoreError`."""
        parent = self.root / "making"
        with translated(self.root):
            parent.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(parent)
            folder = Path(tempfile.mkdtemp(dir=parent))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):
                parent.rmdir()  # unless somebody else works there

    def copy_ahead(self, file: HashedFile) -> Placed | None:
        """Make a file of another device a blob, which takes its time and so is done outside of `changing`; ``None`` for others."""
        if file.path.stat().st_dev == self.device():
            return None
        with translated(self.root):
            return file.place(self._blobs)

    def incoming(self) -> BlobWriter:
        """A blob that somebody sends. Whatever is done with it raises `OSError`; see `translated`."""
        return BlobWriter(self._blobs)

    def add_file(self, path: Path, media_type: str) -> Layer:
        """Store a copy of the file as a blob."""
        return self._add(chunks_of(path), media_type)

    def read_blob(self, digest: Digest) -> bytes:
        """The bytes of a small blob. Raises `StoreError`."""
        try:
            return self.blob_path(digest).read_bytes()
        except OSError as exc:
            raise StoreError(f"the file {digest} of the model store cannot be read: {exc.strerror}") from exc

    # -- clean-up -----------------------------------------------------------------------------------------------

    def prune(self, *, unused_s: float = _LEFTOVER_S, partial_s: float = _PARTIAL_S, dry_run: bool = False) -> Removed:
        """Remove what no model uses, and half-done downloads, that nobody touched for so many seconds.

        What somebody works on stays. While a manifest cannot be read its blobs are unknown, so then no blob goes.
        Raises `StoreError`.
        """
        if not self._blobs.is_dir():
            return Removed()
        with self.changing():
            return self._prune(unused_s, partial_s, dry_run)

    def tidy(self) -> None:
        """`prune` as it is done without being asked: what cannot be written is left alone.

        A blob that no model uses may be a finished part of a model on its way, so it stays as long as a partial download.
        """
        try:
            removed = self.prune(unused_s=_PARTIAL_S)
        except StoreError as exc:
            logger.info("not cleaning up: %s", exc)
            return
        if removed.files:
            logger.info("removed %d files that no model uses, %d bytes", len(removed.files), removed.size_bytes)

    def set_aside(self, digest: Digest) -> Path | None:
        """Take the damaged file of a blob out of everyone's way, if there is one; where it then lies. Raises `StoreError`."""
        path = self.blob_path(digest)
        aside = path.with_name(f"{digest.file_name}-damaged{TEMPORARY_SUFFIX}")
        with self.changing(), translated(self.root):
            try:
                path.replace(aside)
            except FileNotFoundError:
                return None
        return aside

    def put_back(self, digest: Digest, aside: Path) -> None:
        """Let a file that was set aside go, or make it the blob again if there is no other."""
        with self.changing(), translated(self.root):
            if self.has_blob(digest):
                aside.unlink(missing_ok=True)
            else:
                with suppress(FileNotFoundError):
                    aside.replace(self.blob_path(digest))

    def _prune(self, unused_s: float, partial_s: float, dry_run: bool) -> Removed:
        used, now = self._used(), time.time()
        files = []
        for path in sorted(self._blobs.iterdir()):
            try:
                status = path.stat()
            except OSError:
                continue
            kind = _kind_of_leftover(path.name, used)
            if kind is None or now - status.st_mtime < (partial_s if kind == "partial download" else unused_s):
                continue
            if kind != "unused blob" and not is_ours(path.name) and now - status.st_mtime < _BUSY_S:
                continue
            with left_alone(self._blobs, path.name) as alone, translated(self.root):
                if not alone:
                    continue
                if not dry_run:
                    path.unlink(missing_ok=True)
            files.append(RemovedFile(path.name, kind, _bytes_on_disk(status)))
        if not dry_run:
            with translated(self.root):
                self._remove_empty_folders()
        return Removed(tuple(files), blobs_unknown=used is None)

    def _used(self) -> set[Digest] | None:
        """The blobs that manifests refer to; ``None`` when that cannot be known."""
        used: set[Digest] = set()
        for name in self.names():
            try:
                used |= {layer.digest for layer in self.read(name).manifest.blobs}
            except ModelNotFound:
                continue
            except CorruptManifest:
                return None
        return used

    def _put(self, name: ModelName, data: bytes) -> None:
        with translated(self.root):
            write_atomically(self._manifests / name.path, data)

    def _add(self, chunks: Iterable[bytes], media_type: str) -> Layer:
        with translated(self.root):
            digest, size = write_blob(self._blobs, chunks)
        return Layer(media_type, digest, size)

    def _remove_empty_folders(self) -> None:
        for depth in (3, 2, 1):
            for folder in self._manifests.glob("/".join("*" * depth)):
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()


def _remove_abandoned(parent: Path) -> None:
    """Whoever was killed left its folder. No work goes on for so long without a change in it."""
    for folder in parent.iterdir():
        with suppress(OSError):
            times = [path.stat().st_mtime for path in (folder, *folder.iterdir())]
            if time.time() - max(times) > _LEFTOVER_S:
                shutil.rmtree(folder, ignore_errors=True)


def _stamp(status: os.stat_result) -> Stamp:
    return (status.st_mtime_ns, status.st_ino)


def _spellings(folder: Path, parts: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The files below ``folder`` whose path is ``parts`` in any case; where both exist, the spelling given comes first."""
    part, *rest = parts
    try:
        names = [name for name in os.listdir(folder) if name.isascii() and name.lower() == part.lower()]  # noqa: PTH208
    except OSError:
        return
    for name in sorted(names, key=lambda name: (name != part, name)):
        if rest:
            for tail in _spellings(folder / name, rest):
                yield (name, *tail)
        elif (folder / name).is_file():
            yield (name,)


def _kind_of_leftover(name: str, used: set[Digest] | None) -> LeftoverKind | None:
    """What a file among the blobs is that no model needs; ``None`` for one that stays, and for what is not ours to judge."""
    if "-partial" in name or name.endswith(".tmp"):  # the latter of Ollama's, for models of many small files
        return "partial download"
    try:
        digest = Digest.parse(name)
    except InvalidDigest:
        return "temporary file" if name.startswith(TEMPORARY_PREFIX) else None
    return "unused blob" if used is not None and digest not in used else None


def _bytes_on_disk(status: os.stat_result) -> int:
    """What a file takes; one that is full of holes takes less than its length."""
    blocks = getattr(status, "st_blocks", None)
    return status.st_size if blocks is None else min(status.st_size, blocks * 512)
