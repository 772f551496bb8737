"""Writing GGUF files in one go, from front to back, without ever holding a tensor whole.

The metadata comes from other files, byte for byte and in their order, but for the keys that change. What the tensors' data is
this module does not know.

Source: the GGUF specification, ``docs/gguf.md`` of ggml.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from corral.errors import GgufError
from corral.gguf.reader import DEFAULT_ALIGNMENT, MAGIC, GgufFile
from corral.gguf.types import TENSOR_TYPES

VERSION = 3
_COPIED_AT_ONCE = 1 << 20
_TYPES = {kind.name: (number, kind) for number, kind in TENSOR_TYPES.items()}

NewValue = bool | int | float | str


@dataclass(frozen=True, slots=True)
class NewTensor:
    """A tensor that will be written: name, number format, shape with the fastest dimension first."""

    name: str
    type_name: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """How many numbers it has."""
        elements = 1
        for length in self.shape:
            elements *= length
        return elements

    @property
    def size_bytes(self) -> int:
        """Bytes of its data."""
        kind = _TYPES[self.type_name][1]
        return self.elements // kind.block * kind.bytes


def encoded(key: str, value: NewValue) -> bytes:
    """One metadata value with its key, as it lies in a file: whole numbers as 32 bits without sign, others as 32-bit floats.

    >>> encoded("a", 7).hex()
    '0100000000000000610400000007000000'
    """
    if isinstance(value, bool):
        data = struct.pack("<IB", 7, value)
    elif isinstance(value, int):
        data = struct.pack("<II", 4, value)
    elif isinstance(value, float):
        data = struct.pack("<If", 6, value)
    else:
        data = struct.pack("<I", 8) + _text(value)
    return _text(key) + data


class GgufWriter:
    """One file that is being written: first `begin`, then the data of its tensors in their order, then `finish`."""

    def __init__(self, file: BinaryIO, tensors: Sequence[NewTensor], alignment: int = DEFAULT_ALIGNMENT) -> None:
        self._file = file
        self._tensors = tensors
        self._alignment = alignment
        self._left = iter(tensors)
        self._due_bytes = 0  # of the tensor whose data is being written
        self._missing_bytes = 0  # of those

    @property
    def size_bytes(self) -> int:
        """Bytes of data, with what fills up between tensors; the header not counted."""
        return sum(_aligned(tensor.size_bytes, self._alignment) for tensor in self._tensors)

    def begin(self, source: GgufFile, changed: Mapping[str, NewValue], left_out: Collection[str] = ()) -> None:
        """Write all that stands before the data.

        The metadata are those of ``source``, without ``left_out``; ``changed`` ones keep their place, new ones come last.
        Raises `GgufError` if ``source`` shrank since it was read.
        """
        kept = [key for key in source.records if key not in left_out]
        new = [key for key in changed if key not in source.records]
        written = self._file.write(MAGIC + struct.pack("<IQQ", VERSION, len(self._tensors), len(kept) + len(new)))
        with source.path.open("rb") as original:
            for key in kept:
                if key in changed:
                    written += self._file.write(encoded(key, changed[key]))
                    continue
                span = source.records[key]
                original.seek(span.start)
                for piece in _pieces(original, span.end - span.start):
                    written += self._file.write(piece)
        for key in new:
            written += self._file.write(encoded(key, changed[key]))
        offset = 0
        for tensor in self._tensors:
            written += self._file.write(tensor_header(tensor, offset))
            offset += _aligned(tensor.size_bytes, self._alignment)
        self._pad(written)
        self._next_tensor()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append to the data of the tensor that is due; no piece belongs to two tensors."""
        assert 0 < len(data) <= self._missing_bytes, "a piece reaches into the next tensor"
        self._file.write(data)
        self._missing_bytes -= len(data)
        if self._missing_bytes == 0:
            self._next_tensor()

    def finish(self) -> None:
        """Hand everything to the operating system. All data must have been written."""
        assert self._missing_bytes == 0, "data is missing"
        self._file.flush()
        os.fsync(self._file.fileno())

    def _next_tensor(self) -> None:
        self._pad(self._due_bytes)
        tensor = next(self._left, None)
        self._due_bytes = self._missing_bytes = tensor.size_bytes if tensor else 0

    def _pad(self, length: int) -> None:
        self._file.write(bytes(_aligned(length, self._alignment) - length))


def _pieces(file: BinaryIO, length: int) -> Iterator[bytes]:
    """The next ``length`` bytes of ``file``."""
    while length:
        piece = file.read(min(length, _COPIED_AT_ONCE))
        if not piece:
            raise GgufError("the source became shorter while it was read")
        length -= len(piece)
        yield piece


def tensor_header(tensor: NewTensor, offset: int) -> bytes:
    dimensions = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
    return _text(tensor.name) + dimensions + struct.pack("<IQ", _TYPES[tensor.type_name][0], offset)


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def _aligned(length: int, alignment: int) -> int:
    return -(-length // alignment) * alignment
