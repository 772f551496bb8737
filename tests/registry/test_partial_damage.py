"""What is half done may be damaged by anything: what is wrong is fetched again, and no more is claimed than is there."""

from __future__ import annotations

import os
import random
import struct
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from corral.names import Digest
from corral.store.partial import PIECE_BYTES, bytes_on_their_way, open_partial

DATA = random.Random(6).randbytes(5 * PIECE_BYTES + 99)
DIGEST, SIZE = Digest.of(DATA), len(DATA)


def piece(number: int) -> bytes:
    return DATA[number * PIECE_BYTES : (number + 1) * PIECE_BYTES]


def begin(folder: Path) -> tuple[Path, Path]:
    """Three pieces of six; the files of data and of the log."""
    partial = open_partial(folder, DIGEST, SIZE)
    assert partial is not None
    with closing(partial):
        for number in range(3):
            partial.write(number, piece(number))
    (log,) = folder.glob("*-pieces")
    return log.with_name(log.name.removesuffix("-pieces")), log


def append(log: Path, *records: tuple[int, int]) -> None:
    with log.open("ab") as file:
        file.writelines(struct.pack("<II", *record) for record in records)


DAMAGE: dict[str, Callable[[Path, Path], None]] = {
    "no data": lambda data, log: data.unlink(),
    "less data": lambda data, log: os.truncate(data, PIECE_BYTES + 5),
    "more data": lambda data, log: os.truncate(data, 9 * PIECE_BYTES),
    "no log": lambda data, log: log.unlink(),
    "empty log": lambda data, log: os.truncate(log, 0),
    "half a record": lambda data, log: os.truncate(log, log.stat().st_size - 3),
    "pieces that are none": lambda data, log: append(log, (6, 1), (1 << 31, 2)),
    "wrong sums": lambda data, log: append(log, (0, 1), (4, zlib.crc32(b"no"))),
    "one piece often": lambda data, log: append(log, *[(0, zlib.crc32(piece(0)))] * 1000),
    "random": lambda data, log: log.write_bytes(random.Random(7).randbytes(1000)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found_and_mended(tmp_path: Path, damage: str) -> None:
    data, log = begin(tmp_path)
    assert bytes_on_their_way(tmp_path, DIGEST, SIZE) == 3 * PIECE_BYTES
    DAMAGE[damage](data, log)
    assert bytes_on_their_way(tmp_path, DIGEST, SIZE) <= 4 * PIECE_BYTES
    partial = open_partial(tmp_path, DIGEST, SIZE)
    assert partial is not None
    with closing(partial):
        while partial.hashed < partial.num_pieces:
            if partial.hash_on() and partial.hashed < partial.num_pieces:
                partial.write(partial.hashed, piece(partial.hashed))
        partial.finish()
    assert (tmp_path / DIGEST.file_name).read_bytes() == DATA
    assert [path.name for path in tmp_path.iterdir()] == [DIGEST.file_name]


def test_a_log_for_another_size_counts_for_nothing(tmp_path: Path) -> None:
    begin(tmp_path)
    assert bytes_on_their_way(tmp_path, DIGEST, SIZE + 1) == 0


def test_a_disk_that_loses_what_was_just_written_is_found_out(tmp_path: Path) -> None:
    partial = open_partial(tmp_path, DIGEST, SIZE)
    assert partial is not None
    with closing(partial):
        for number in range(partial.num_pieces):
            partial.write(number, piece(number))
        with next(tmp_path.glob("*-partial.corral")).open("r+b") as file:
            file.seek(PIECE_BYTES + 5)
            file.write(b"lost")
        assert partial.hash_on()
        assert partial.hash != DIGEST
        partial.check()
        assert [partial.has(number) for number in range(partial.num_pieces)].count(False) == 1
        assert partial.write(1, piece(1))
        assert partial.hash_again()
        partial.finish()
    assert (tmp_path / DIGEST.file_name).read_bytes() == DATA
