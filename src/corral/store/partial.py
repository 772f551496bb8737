"""Blobs on their way: the bytes so far, and which pieces of them are there, in files that outlive every process.

A piece is there once a record with its check sum is in the log beside the data. Records are only added, so whatever kills the
process leaves at most the last pieces undone; after a power cut the check sums tell which of them never reached the disk.
"""

from __future__ import annotations

import hashlib
import os
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from corral.errors import InvalidDigest
from corral.names import Digest
from corral.store.files import settle, sync_folder, translated
from corral.store.locks import take_lock

PIECE_BYTES = 1 << 20
_HEADER = struct.Struct("<16sQ")  # and the size of the blob
_MAGIC = b"corral-pieces-1\n"
_RECORD = struct.Struct("<II")  # number of the piece, CRC-32 of its bytes


class PartialBlob:
    """A blob of ``size`` bytes on its way, which nobody else writes. Safe to use from threads; one of them hashes."""

    def __init__(self, folder: Path, digest: Digest, size: int, log: BinaryIO) -> None:
        self.digest = digest
        self.size = size
        self.num_pieces = -(-size // PIECE_BYTES)
        self.hashed = 0  # pieces from the beginning that are in the hash
        self._folder = folder
        self._path = partial_path(folder, digest)
        self._log = log
        self._sums: list[int | None] = [None] * self.num_pieces
        self._fresh = bytearray(self.num_pieces)  # written by us: no power cut came between
        self._num_done = 0
        self._lock = threading.Lock()
        self._hasher = hashlib.sha256()
        with translated(folder):
            self._load()
            self._path.touch()
            self._data = self._path.open("r+b", buffering=0)
            self._data.truncate(size)
            self._reader = self._path.open("rb", buffering=0)

    @property
    def completed_bytes(self) -> int:
        """Bytes of the pieces that are there."""
        last = self.num_pieces - 1
        short = self.num_pieces * PIECE_BYTES - self.size if self.num_pieces and self._sums[last] is not None else 0
        return self._num_done * PIECE_BYTES - short

    def has(self, piece: int) -> bool:
        """Whether the piece is there."""
        return self._sums[piece] is not None

    def piece_size(self, piece: int) -> int:
        """Bytes of one piece; the last may be shorter."""
        return min(PIECE_BYTES, self.size - piece * PIECE_BYTES)

    def write(self, piece: int, data: bytes | bytearray) -> bool:
        """Keep a piece; whether it differs from what was there. Raises `StoreError`."""
        total = zlib.crc32(data)
        with self._lock, translated(self._folder):
            known = self._sums[piece]
            if known == total:
                return False
            self._data.seek(piece * PIECE_BYTES)
            _write_all(self._data, data)
            self._log.write(_RECORD.pack(piece, total))
            self._sums[piece] = total
            self._fresh[piece] = True
            self._num_done += known is None
        return True

    def check(self) -> None:
        """Read all pieces; those that are not what was kept are missing again."""
        for piece, expected in enumerate(self._sums):
            if expected is not None and zlib.crc32(self._read(piece)) != expected:
                self._lose(piece)

    def hash_on(self) -> bool:
        """Hash the pieces that follow; ``False`` when one turned out not to be what was kept, and now is missing again."""
        while self.hashed < self.num_pieces and (expected := self._sums[self.hashed]) is not None:
            data = self._read(self.hashed)
            if not self._fresh[self.hashed] and zlib.crc32(data) != expected:
                self._lose(self.hashed)
                return False
            self._hasher.update(data)
            self.hashed += 1
        return True

    def _read(self, piece: int) -> bytes:
        with translated(self._folder):
            self._reader.seek(piece * PIECE_BYTES)
            return self._reader.read(self.piece_size(piece)) or b""

    def _lose(self, piece: int) -> None:
        with self._lock:
            self._sums[piece] = None
            self._fresh[piece] = False
            self._num_done -= 1

    def hash_again(self) -> bool:
        """Hash everything from the beginning."""
        self.hashed, self._hasher = 0, hashlib.sha256()
        return self.hash_on()

    @property
    def hash(self) -> Digest:
        """The digest of what was hashed so far."""
        return Digest(self._hasher.hexdigest())

    def finish(self) -> None:
        """Make it a blob. Raises `StoreError`."""
        assert self.hashed == self.num_pieces, "not all of the blob was hashed"
        assert self.hash == self.digest, "a blob goes by its digest"
        with translated(self._folder):
            settle(self._data.fileno())
            if os.name == "nt":
                self._data.close()
                self._reader.close()
            self._path.replace(self._folder / self.digest.file_name)
            _log_path(self._folder, self.digest).unlink(missing_ok=True)
            sync_folder(self._folder)

    def discard(self) -> None:
        """Forget what is there: it is not what was asked for."""
        with translated(self._folder):
            self._path.unlink(missing_ok=True)
            _log_path(self._folder, self.digest).unlink(missing_ok=True)

    def close(self) -> None:
        """Let others go on."""
        self._data.close()
        self._reader.close()
        self._log.close()

    def _load(self) -> None:
        """Read the log; one for another size, or of which not even the beginning is whole, begins anew."""
        self._log.seek(0)
        content = self._log.read()
        if content[: _HEADER.size] != _HEADER.pack(_MAGIC, self.size) or not self._path.exists():
            self._log.truncate(0)
            self._log.write(_HEADER.pack(_MAGIC, self.size))
            return
        records = content[_HEADER.size :]
        whole = len(records) // _RECORD.size * _RECORD.size
        self._log.truncate(_HEADER.size + whole)
        for piece, total in _RECORD.iter_unpack(records[:whole]):
            if piece < self.num_pieces:
                self._sums[piece] = total
        self._num_done = sum(total is not None for total in self._sums)


def open_partial(folder: Path, digest: Digest, size: int) -> PartialBlob | None:
    """The blob on its way, with all that came of it before; ``None`` while somebody else works on it. Raises `StoreError`."""
    path = _log_path(folder, digest)
    while True:
        with translated(folder):
            folder.mkdir(parents=True, exist_ok=True)
            log = path.open("a+b", buffering=0)
        try:
            with translated(folder):
                taken = take_lock(log, wait=False)
            if not taken:
                log.close()
                return None
            if _is_same_file(log, path):  # not one that its owner has just finished with
                return PartialBlob(folder, digest, size, log)
        except BaseException:
            log.close()
            raise
        log.close()


def bytes_on_their_way(folder: Path, digest: Digest, size: int) -> int:
    """About how many bytes of a blob are there already, whoever works on it."""
    if not partial_path(folder, digest).exists():
        return 0
    try:
        content = _log_path(folder, digest).read_bytes()
    except OSError:
        return 0
    if content[: _HEADER.size] != _HEADER.pack(_MAGIC, size):
        return 0
    records = content[_HEADER.size :]
    whole = len(records) // _RECORD.size * _RECORD.size
    pieces = {piece for piece, _ in _RECORD.iter_unpack(records[:whole]) if piece * PIECE_BYTES < size}
    return min(size, len(pieces) * PIECE_BYTES)


def is_ours(name: str) -> bool:
    """Whether a file of that name is one of ours, which have a lock."""
    return "-partial.corral" in name or "-partial-note-" in name


@contextmanager
def left_alone(folder: Path, name: str) -> Iterator[bool]:
    """Whether nobody fetches the blob of which ``name`` is one of the files; for as long as the block lasts nobody begins to."""
    try:
        digest = Digest.parse(name.partition("-partial")[0])
        log = _log_path(folder, digest).open("rb")
    except (InvalidDigest, OSError):
        yield True
        return
    with log:
        yield take_lock(log, wait=False)


def partial_path(folder: Path, digest: Digest) -> Path:
    """Where the bytes of a blob lie while it is on its way."""
    return folder / f"{digest.file_name}-partial.corral"


def _log_path(folder: Path, digest: Digest) -> Path:
    return folder / f"{digest.file_name}-partial.corral-pieces"


def _is_same_file(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _write_all(file: BinaryIO, data: bytes | bytearray) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) or 0 :]
