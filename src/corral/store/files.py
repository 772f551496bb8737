"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from corral.errors import StoreError
from corral.names import Digest

# Ollama takes any name in its folder of blobs that is no digest for a leftover, and so do we.
TEMPORARY_PREFIX, TEMPORARY_SUFFIX = "sha256-", ".corral-tmp"
CHUNK_BYTES = 1 << 20
_FICLONE = 0x40049409  # linux/fs.h

_ADVICE = {
    errno.ENOSPC: "there is no space left on the device; free some, or choose another folder with CORRAL_MODELS",
    errno.EDQUOT: "the quota of the disk is used up; free some space, or choose another folder with CORRAL_MODELS",
    errno.EFBIG: "the file would be larger than is allowed here (ulimit -f)",
    errno.EROFS: "the file system is read-only; choose another folder with CORRAL_MODELS",
    errno.EACCES: "permission denied; change the owner of the folder, or choose another one with CORRAL_MODELS",
    errno.EPERM: "not permitted; change the owner of the folder, or choose another one with CORRAL_MODELS",
}


@contextmanager
def translated(path: Path, what: str = "the model store") -> Iterator[None]:
    """Turn what the system says of ``path``, which is ``what``, into a `StoreError` that says what to try."""
    try:
        yield
    except OSError as exc:
        number = exc.errno if exc.errno is not None else 0
        raise StoreError(f"cannot write to {what} {path}: {_ADVICE.get(number, exc.strerror)}") from exc


def write_atomically(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Put ``data`` at ``path``: whoever looks sees the old file or the new one, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(TEMPORARY_SUFFIX, ".", path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            settle(file.fileno(), mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


class BlobWriter:
    """A file in ``folder`` that becomes a blob when all of it is there. Raises `OSError`.

    As a context manager: what was not finished is gone at the end.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(TEMPORARY_SUFFIX, TEMPORARY_PREFIX, folder)
        self._path: Path | None = Path(name)
        self._file = os.fdopen(descriptor, "wb")
        self._folder = folder
        self._hasher, self._size = hashlib.sha256(), 0

    def __enter__(self) -> BlobWriter:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # a full disk says so once more
            self._file.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def write(self, chunk: bytes) -> None:
        """What follows."""
        self._hasher.update(chunk)
        self._file.write(chunk)
        self._size += len(chunk)

    @property
    def digest(self) -> Digest:
        """Of what was written so far."""
        return Digest(self._hasher.hexdigest())

    def finish(self) -> int:
        """Put it in its place, under its digest; its size. A blob that is there already stays."""
        assert self._path is not None, "it is finished already"
        self._file.flush()
        settle(self._file.fileno())
        self._file.close()
        target = self._folder / self.digest.file_name
        if is_wanted(target, self._size):
            self._path.unlink()
        else:
            self._path.replace(target)
        self._path = None
        sync_folder(self._folder)
        return self._size


def is_wanted(blob: Path, size: int | None = None) -> bool:
    """Whether a blob (of ``size``) is there; then it is young again, as whoever clears leftovers goes by age.

    One that another program has too keeps the age that it has there.
    """
    try:
        status = blob.stat()
        if size is not None and status.st_size != size:
            return False
        if status.st_nlink == 1:
            os.utime(blob)
    except FileNotFoundError:
        return False
    return True


def write_blob(folder: Path, chunks: Iterable[bytes]) -> tuple[Digest, int]:
    """Put what ``chunks`` hold into ``folder`` under its digest; digest and size."""
    with BlobWriter(folder) as writer:
        for chunk in chunks:
            writer.write(chunk)
        return writer.digest, writer.finish()


Placed = Literal["reflink", "hard link", "copy", "here already"]


@dataclass(frozen=True, slots=True)
class HashedFile:
    """A file elsewhere on this machine, and what it held when it was hashed."""

    path: Path
    digest: Digest
    size: int
    stamp: tuple[int, int, int]

    @classmethod
    def of(cls, path: Path, on_bytes: Callable[[int], None]) -> HashedFile:
        """Hash ``path``, telling how many bytes came. Raises `StoreError` when it changes meanwhile, `OSError`."""
        path = path.resolve(strict=True)
        stamp, hasher, size = _stamp_of(path), hashlib.sha256(), 0
        for chunk in chunks_of(path):
            hasher.update(chunk)
            size += len(chunk)
            on_bytes(len(chunk))
        hashed = cls(path, Digest(hasher.hexdigest()), size, stamp)
        hashed.check()
        return hashed

    @classmethod
    def named(cls, path: Path, digest: Digest) -> HashedFile:
        """A file that is believed to hold what its name says."""
        stamp = _stamp_of(path)
        return cls(path, digest, stamp[0], stamp)

    def check(self) -> None:
        """Raises `StoreError` when the file is not what it was."""
        if _stamp_of(self.path) != self.stamp or self.stamp[0] != self.size:
            raise StoreError(f"{self.path} changes while it is read; try again when nobody writes it")

    def place(self, folder: Path) -> Placed:
        """Make it a blob in ``folder`` with as little room as the file system allows. Raises `StoreError`, `OSError`."""
        target = folder / self.digest.file_name
        if target.exists() and target.stat().st_size == self.size:
            return "here already"
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
        try:
            how = _clone(self.path, temporary)
            self.check()  # it may have changed since it was hashed
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(folder)
        return how


def _clone(source: Path, target: Path) -> Placed:
    """A second name for the bytes of ``source``, one that shares nothing but them if that can be."""
    try:
        _reflink(source, target)
        return "reflink"
    except OSError:
        target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source)
        return "hard link"
    except OSError:
        free = shutil.disk_usage(target.parent).free
        if source.stat().st_size > free:
            raise StoreError(
                f"{source} has to be copied to {target.parent.parent}, and {free:,} bytes are free there"
            ) from None
        shutil.copyfile(source, target)
        with target.open("rb") as file:
            settle(file.fileno())
        return "copy"


def _reflink(source: Path, target: Path) -> None:
    """Raises `OSError` where the file system cannot."""
    if sys.platform == "linux":
        import fcntl

        with source.open("rb") as original, target.open("wb") as clone:
            fcntl.ioctl(clone, _FICLONE, original.fileno())
            settle(clone.fileno())
    elif sys.platform == "darwin":
        import ctypes

        if ctypes.CDLL(None, use_errno=True).clonefile(os.fsencode(source), os.fsencode(target), 0):
            raise OSError(ctypes.get_errno(), "clonefile")
    else:
        raise OSError(errno.ENOTSUP, "no reflinks here")


def _stamp_of(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino


def chunks_of(path: Path) -> Iterator[bytes]:
    """The bytes of a file, a piece at a time."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def sync_folder(folder: Path) -> None:
    """Make renames in ``folder`` last; not every system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def settle(descriptor: int, mode: int = 0o644) -> None:
    """Readable by everyone, as Ollama's files are, unless ``mode`` says otherwise, and on the disk."""
    if hasattr(os, "fchmod"):
        os.fchmod(descriptor, mode)
    os.fsync(descriptor)
