"""Writing a translated file: a new header before the source's data, which the system copies by itself where it can."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from corral.errors import GgufError
from corral.gguf.ollama.views import BOOL, FLOAT32, INT32, STRING, UINT8, Array, Kept, NewMetadata, View
from corral.gguf.reader import MAGIC, ArraySummary, GgufFile, Span
from corral.gguf.write import VERSION, NewTensor, encoded, tensor_header

FILLER = "corral.filler"
_BLOCK = 4096  # of most file systems: what they can share begins at multiples of it
_COPIED_AT_ONCE = 64 << 20
_WIDENED_AT_ONCE = 1 << 16  # numbers
_FORMATS = {UINT8: "B", INT32: "i", FLOAT32: "f", BOOL: "?"}


@dataclass(frozen=True, slots=True)
class _Run:
    """Data that lies together in the source and will in the file: where it begins in both, and its length in bytes."""

    source: int
    target: int  # counted from where the data begins
    length: int


def write_view(file: GgufFile, view: View, path: Path, go_on: Callable[[], None] = lambda: None) -> None:
    """Write ``view`` of ``file`` to ``path``; ``file`` was read with its arrays. ``go_on`` is asked often, and may raise.

    The header is made so long that the greater part of the data begins as far from a block's beginning as in the source: so a
    file system that can share blocks does. Raises `GgufError` if the source changed, `OSError` where the disk fails.
    """
    with file.path.open("rb") as source, path.open("wb") as target:
        head, start, places = _header(file, view, source)
        target.write(head)
        for kept, place in zip(view.tensors, places, strict=True):
            if kept.widened:
                target.seek(start + place)
                for piece in _widened(source, kept):
                    go_on()
                    target.write(piece)
        for run in _runs(view.tensors, places, file.alignment):
            for step in _steps(run, start):
                go_on()
                _copy(source, target, step)
        size = start + (places[-1] + _aligned(view.tensors[-1].size_bytes, file.alignment) if places else 0)
        target.truncate(size)
        target.flush()
        os.fsync(target.fileno())


def view_bytes(view: View) -> int:
    """About how many bytes the file will have."""
    return sum(kept.size_bytes for kept in view.tensors) + (64 << 20)


def _header(file: GgufFile, view: View, source: BinaryIO) -> tuple[bytes, int, list[int]]:
    """All that stands before the data; where the data begins; where each tensor's is, from there."""
    kept = [(old, new) for old, new in view.keys.items() if new not in view.values and new != FILLER]
    records = [_renamed_record(source, file.records[old], old, new) for old, new in kept]
    records += [_encoded(key, value) for key, value in view.values.items()]
    places, place = [], 0
    for tensor in view.tensors:
        places.append(place)
        place += _aligned(tensor.size_bytes, file.alignment)
    headers = [
        tensor_header(NewTensor(t.name, t.type_name, t.shape), place)
        for t, place in zip(view.tensors, places, strict=True)
    ]
    begin = MAGIC + struct.pack("<IQQ", VERSION, len(headers), len(records) + 1)
    length = len(begin) + sum(map(len, records)) + len(encoded(FILLER, "")) + sum(map(len, headers))
    runs = _runs(view.tensors, places, file.alignment)
    longest = max(runs, key=lambda run: run.length, default=_Run(0, 0, 0))
    start = _aligned(length, file.alignment)
    if file.alignment <= _BLOCK:
        start += (longest.source - longest.target - start) % _BLOCK
    filler = encoded(FILLER, " " * (start - length))
    return b"".join([begin, *records, filler, *headers]), start, places


def _runs(tensors: Sequence[Kept], places: Sequence[int], alignment: int) -> list[_Run]:
    """The data that is copied as it is, in as few pieces as there can be."""
    runs: list[_Run] = []
    for kept, place in zip(tensors, places, strict=True):
        if kept.widened:
            continue
        last, offset = runs[-1] if runs else None, kept.source.offset
        if (
            last
            and offset - last.source == place - last.target
            and offset == last.source + _aligned(last.length, alignment)
        ):
            runs[-1] = _Run(last.source, last.target, place - last.target + kept.source_bytes)
        else:
            runs.append(_Run(offset, place, kept.source_bytes))
    return runs


def _steps(run: _Run, start: int) -> Iterator[_Run]:
    """``run`` in pieces, of which all but the first begin with a block; targets are places in the file."""
    done = 0
    while done < run.length:
        length = min(_COPIED_AT_ONCE - (run.source + done) % _BLOCK, run.length - done)
        if done == 0 and (head := -run.source % _BLOCK):
            length = min(head, run.length)
        yield _Run(run.source + done, start + run.target + done, length)
        done += length


def _copy(source: BinaryIO, target: BinaryIO, step: _Run) -> None:
    """One piece, by the system itself where it can: file systems that share blocks then share these."""
    done = 0
    if hasattr(os, "copy_file_range"):
        target.flush()
        while done < step.length:
            try:
                copied = os.copy_file_range(
                    source.fileno(), target.fileno(), step.length - done, step.source + done, step.target + done
                )
            except OSError:  # some file systems cannot; what is full says so again below
                break
            if copied == 0:
                break
            done += copied
    source.seek(step.source + done)
    target.seek(step.target + done)
    while done < step.length:
        piece = source.read(min(step.length - done, 1 << 20))
        if not piece:
            raise GgufError("the model's file became shorter while it was read")
        done += target.write(piece)


def _widened(source: BinaryIO, kept: Kept) -> Iterator[bytes]:
    """16-bit floats as 32-bit ones, in pieces. By the standard library: the server is to stay without numpy."""
    source.seek(kept.source.offset)
    left = kept.elements
    while left:
        count = min(left, _WIDENED_AT_ONCE)
        data = source.read(2 * count)
        if len(data) != 2 * count:
            raise GgufError("the model's file became shorter while it was read")
        yield struct.pack(f"<{count}f", *struct.unpack(f"<{count}e", data))
        left -= count


def _renamed_record(source: BinaryIO, span: Span, old: str, new: str) -> bytes:
    """A metadata value as it lies in the source, under another key."""
    source.seek(span.start)
    record = source.read(span.end - span.start)
    if len(record) != span.end - span.start:
        raise GgufError("the model's file became shorter while it was read")
    if old == new:
        return record
    (length,) = struct.unpack_from("<Q", record)
    return _text(new) + record[8 + length :]


def _encoded(key: str, value: NewMetadata) -> bytes:
    if not isinstance(value, Array):
        return encoded(key, value)
    assert not isinstance(value.values, ArraySummary), "the source was read without its arrays"
    head = _text(key) + struct.pack("<IIQ", 9, value.kind, len(value.values))
    if value.kind == STRING:
        return head + b"".join(_text(str(item)) for item in value.values)
    return head + struct.pack(f"<{len(value.values)}{_FORMATS[value.kind]}", *value.values)


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def _aligned(length: int, alignment: int) -> int:
    return -(-length // alignment) * alignment
