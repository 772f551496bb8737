"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from corral.errors import StoreError
from corral.names import Digest

# Ollama takes any name in its folder of blobs that is no digest for a leftover, and so do we.
TEMPORARY_PREFIX, TEMPORARY_SUFFIX = "sha256-", ".corral-tmp"
CHUNK_BYTES = 1 << 20

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
        if target.exists() and target.stat().st_size == self._size:
            target.touch()  # it is wanted now: whoever clears leftovers goes by age
            self._path.unlink()
        else:
            self._path.replace(target)
        self._path = None
        sync_folder(self._folder)
        return self._size


def write_blob(folder: Path, chunks: Iterable[bytes]) -> tuple[Digest, int]:
    """Put what ``chunks`` hold into ``folder`` under its digest; digest and size."""
    with BlobWriter(folder) as writer:
        for chunk in chunks:
            writer.write(chunk)
        return writer.digest, writer.finish()


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
