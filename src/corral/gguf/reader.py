"""Reading GGUF files that may come from anyone.

Every count, length, offset, dimension and type is held against the size of the file before anything is allocated or read
for it, so a hostile file costs an error of one line and neither time nor memory. Tensor data is not touched.

Source: the GGUF specification, ``docs/gguf.md`` of ggml.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from corral.errors import GgufError
from corral.gguf.types import TENSOR_TYPES

MAGIC = b"GGUF"
MAX_DIMENSIONS = 4
MAX_DEPTH = 4  # arrays of arrays; no real file has any
MAX_NAME_BYTES = 1 << 16
DEFAULT_ALIGNMENT = 32

_UINT32 = struct.Struct("<I")
_UINT64 = struct.Struct("<Q")
_STRING, _ARRAY, _BOOL, _FLOAT32 = 8, 9, 7, 6
_SCALARS: Mapping[int, struct.Struct] = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    7: struct.Struct("<B"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}


class Float32(float):
    """A number that was stored in 32 bits: it has about seven digits, and is printed with those."""

    @property
    def shortest(self) -> float:
        """The 64-bit number with the fewest digits that means this one.

        >>> Float32(struct.unpack("<f", struct.pack("<f", 1e-6))[0]).shortest
        1e-06
        """
        if not math.isfinite(self):
            return float(self)
        for digits in range(6, 10):
            shorter = float(f"{self:.{digits}g}")
            if struct.pack("<f", shorter) == struct.pack("<f", self):
                return shorter
        return float(self)


@dataclass(frozen=True, slots=True)
class ArraySummary:
    """An array that was left out: how many elements it has, and the first of them if they are numbers."""

    count: int
    first: int | float | None = field(default=None, compare=False)


Value = int | float | str | bool | list["Value"] | ArraySummary


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor: its number format, its shape with the fastest dimension first, and where its data lies in the file."""

    name: str
    type_name: str
    shape: tuple[int, ...]
    offset: int
    size_bytes: int

    @property
    def elements(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a file: from ``start`` to before ``end``, in bytes."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class GgufFile:
    """What a GGUF file says of itself. ``records`` is where each metadata value lies, its key included, for those who copy it."""

    path: Path
    version: int
    metadata: Mapping[str, Value] = field(repr=False)
    tensors: tuple[TensorInfo, ...] = field(repr=False)
    size_bytes: int
    alignment: int = DEFAULT_ALIGNMENT
    records: Mapping[str, Span] = field(repr=False, default_factory=dict)


def read_gguf(path: Path, *, arrays: bool = True) -> GgufFile:
    """The metadata and the tensor list of a GGUF file; with ``arrays=False`` long arrays are only counted.

    Raises `GgufError` that names the file and what is wrong with it.
    """
    try:
        with path.open("rb") as file, _mapped(file.fileno(), path) as data:
            return _Reader(data, path, arrays).read()
    except OSError as exc:
        raise GgufError(f"cannot read {path.name}: {exc.strerror}") from exc


def _mapped(descriptor: int, path: Path) -> mmap.mmap:
    try:
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    except ValueError:  # an empty file
        raise GgufError(f"{path.name} is not a GGUF file: it is empty") from None


class _Reader:
    def __init__(self, data: mmap.mmap, path: Path, arrays: bool) -> None:
        self._data = data
        self._path = path
        self._arrays = arrays
        self._size = len(data)
        self._at = 0

    def read(self) -> GgufFile:
        if self._data[:4] != MAGIC:
            raise self._error("it is not a GGUF file")
        self._at = 4
        version = self._uint32()
        if version not in (2, 3):
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
            what = "it is big-endian" if swapped in (1, 2, 3) else f"it has version {version} of the format"
            raise self._error(f"{what}; versions 2 and 3, little-endian, can be read")
        num_tensors = self._count(at_least=24, what="tensors")
        num_values = self._count(at_least=13, what="metadata values")
        metadata: dict[str, Value] = {}
        records: dict[str, Span] = {}
        for _ in range(num_values):
            record_start = self._at
            key = self._string(MAX_NAME_BYTES)
            if key in metadata:
                raise self._error(f'it has the key "{key[:80]}" twice')
            metadata[key] = self._value(self._uint32(), 0)
            records[key] = Span(record_start, self._at)
        headers = [self._tensor_header() for _ in range(num_tensors)]
        alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
            raise self._error(f"its alignment is {alignment}, which is no power of two")
        start = -(-self._at // alignment) * alignment
        tensors = tuple(self._tensor(header, start, alignment) for header in headers)
        if len({tensor.name for tensor in tensors}) != len(tensors):
            raise self._error("two of its tensors have one name")
        return GgufFile(self._path, version, metadata, tensors, self._size, alignment, records)

    def _value(self, kind: int, depth: int) -> Value:
        if kind == _STRING:
            return self._string(self._size)
        if kind == _ARRAY:
            return self._array(depth)
        scalar = _SCALARS.get(kind)
        if scalar is None:
            raise self._error(f"it has a value of the unknown type {kind}")
        value = scalar.unpack_from(self._data, self._take(scalar.size))[0]
        if kind == _BOOL:
            return bool(value)
        return Float32(value) if kind == _FLOAT32 else value

    def _array(self, depth: int) -> Value:
        if depth >= MAX_DEPTH:
            raise self._error("its arrays are nested too deeply")
        kind = self._uint32()
        scalar = _SCALARS.get(kind)
        if scalar is None and kind not in (_STRING, _ARRAY):
            raise self._error(f"it has an array of the unknown type {kind}")
        smallest = scalar.size if scalar else 8 if kind == _STRING else 12
        count = self._count(at_least=smallest, what="elements of an array")
        leave_out = not self._arrays and count > 64
        if scalar is not None:
            start = self._take(count * scalar.size)
            if leave_out:
                return ArraySummary(count, scalar.unpack_from(self._data, start)[0])
            values = struct.unpack_from(f"<{count}{scalar.format[-1]}", self._data, start)
            convert: Callable[[int | float], Value] = bool if kind == _BOOL else Float32 if kind == _FLOAT32 else _same
            return [convert(value) for value in values]
        if kind == _STRING and leave_out:
            for _ in range(count):
                self._skip_string()
            return ArraySummary(count)
        return [self._value(kind, depth + 1) for _ in range(count)]

    def _tensor_header(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._string(MAX_NAME_BYTES)
        num_dimensions = self._uint32()
        if not 0 < num_dimensions <= MAX_DIMENSIONS:
            raise self._error(f'the tensor "{name[:80]}" has {num_dimensions} dimensions')
        shape = tuple(self._uint64() for _ in range(num_dimensions))
        return name, shape, self._uint32(), self._uint64()

    def _tensor(self, header: tuple[str, tuple[int, ...], int, int], start: int, alignment: int) -> TensorInfo:
        name, shape, number, offset = header
        kind = TENSOR_TYPES.get(number)
        if kind is None:
            raise self._error(f'the tensor "{name[:80]}" has the unknown type {number}')
        if not all(shape) or shape[0] % kind.block:
            raise self._error(f'the tensor "{name[:80]}" cannot have the shape {list(shape)} in {kind.name}')
        size = math.prod(shape) // kind.block * kind.bytes
        if offset % alignment or start + offset + size > self._size:
            raise self._error(f'the data of the tensor "{name[:80]}" lies outside the file; it may be cut short')
        return TensorInfo(name, kind.name, shape, start + offset, size)

    def _string(self, longest: int) -> str:
        length = self._uint64()
        if length > longest:
            raise self._error(f"it has a text of {length} bytes where no more than {longest} make sense")
        start = self._take(length)
        return self._data[start : start + length].decode(errors="replace")

    def _skip_string(self) -> None:
        self._take(self._uint64())

    def _count(self, *, at_least: int, what: str) -> int:
        """A number of things of ``at_least`` so many bytes each, which the rest of the file can hold."""
        count = self._uint64()
        if count > (self._size - self._at) // at_least:
            raise self._error(f"it claims {count} {what}, more than fit into it")
        return count

    def _uint32(self) -> int:
        value: int = _UINT32.unpack_from(self._data, self._take(4))[0]
        return value

    def _uint64(self) -> int:
        value: int = _UINT64.unpack_from(self._data, self._take(8))[0]
        return value

    def _take(self, length: int) -> int:
        """Move past ``length`` bytes; where they begin."""
        start, end = self._at, self._at + length
        if end > self._size:
            raise self._error("it ends too early")
        self._at = end
        return start

    def _error(self, what: str) -> GgufError:
        return GgufError(printable(f"{self._path.name} cannot be used: {what}"))


def printable(text: str) -> str:
    """``text`` in one line, with nothing in it that a terminal would obey.

    >>> printable("a\x1b[31m")
    'a\\x1b[31m'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _same(value: int | float) -> Value:
    return value
