"""Reading safetensors files that may come from anyone.

A file is a length of 8 bytes, a JSON object of that length with a type, a shape and a place per tensor, and the data. All
of it is held against the size of the file before anything is believed; data is mapped, not read.

Source: the format's description in the README of huggingface/safetensors. The package of that name can do this too,
but its numpy face knows no bfloat16, which most weights are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from corral.errors import ConversionError

MAX_HEADER_BYTES = 8 << 20  # 75,000 tensors in one file
MAX_DIMENSIONS = 8
_ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
    "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4,
    "U64": 8, "I64": 8, "F64": 8, "C64": 8,
}  # fmt: skip
_NUMPY = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}  # numpy has no bfloat16: its bits are carried

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor in a file: its type by the format's name, its shape with the slowest dimension first, and its place."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: Path
    offset: int

    def map(self) -> Array:
        """Its numbers as they are in the file; those of BF16 as their 16 bits. Raises `ConversionError` for other types."""
        if self.dtype not in _NUMPY:
            raise ConversionError(
                f'the tensor "{self.name[:80]}" has the type {self.dtype}; only F32, F16 and BF16 can be converted'
            )
        return np.memmap(self.path, _NUMPY[self.dtype], "r", self.offset, self.shape)

    def float32(self) -> NDArray[np.float32]:
        """Its numbers as 32-bit floats."""
        return as_float32(self.map(), self.dtype)


def as_float32(numbers: Array, dtype: str) -> NDArray[np.float32]:
    """``numbers`` as `Tensor.map` gives them, as 32-bit floats."""
    if dtype == "BF16":
        return (numbers.astype(np.uint32) << 16).view(np.float32)
    return numbers.astype(np.float32)


def read_safetensors(path: Path, name: str) -> list[Tensor]:
    """The tensors in a file, which errors call ``name``. Raises `ConversionError` when any of it cannot be."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise ConversionError(f"{name} is not a safetensors file, or it is cut short")
        if length > MAX_HEADER_BYTES:
            raise ConversionError(
                f"{name} has a header of {length} bytes where no more than {MAX_HEADER_BYTES} make sense"
            )
        header = _header(file.read(length), name)
    tensors = [_tensor(path, name, size - 8 - length, 8 + length, *item) for item in header.items()]
    _check_places(tensors, name, 8 + length, size)
    return tensors


def _header(data: bytes, name: str) -> dict[str, Any]:
    try:
        header = orjson.loads(data)
    except orjson.JSONDecodeError as exc:
        raise ConversionError(f"{name} is not a safetensors file: its header is not JSON ({exc})") from exc
    if not isinstance(header, dict):
        raise ConversionError(f"{name} is not a safetensors file: its header is no JSON object")
    header.pop("__metadata__", None)
    return header


def _tensor(path: Path, file: str, data_bytes: int, start: int, name: str, facts: Any) -> Tensor:
    match facts:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(begin), int(end)]}:
            pass
        case _:
            raise ConversionError(f'{file}: what its header says of "{name[:80]}" makes no sense')
    if dtype not in _ITEM_BYTES:
        raise ConversionError(f'{file}: the tensor "{name[:80]}" has the unknown type "{dtype[:20]}"')
    if len(shape) > MAX_DIMENSIONS or not all(isinstance(n, int) and 0 < n <= data_bytes for n in shape):
        raise ConversionError(f'{file}: the tensor "{name[:80]}" cannot have the shape {str(shape)[:80]}')
    if not 0 <= begin <= end <= data_bytes or end - begin != math.prod(shape) * _ITEM_BYTES[dtype]:
        raise ConversionError(
            f'{file}: the data of "{name[:80]}" lies outside the file or has another size than its shape'
        )
    return Tensor(name, dtype, tuple(shape), path, start + begin)


def _check_places(tensors: list[Tensor], name: str, start: int, end: int) -> None:
    """Data must follow on data: a gap hides something, and two tensors in one place are an attack or damage."""
    at = start
    for tensor in sorted(tensors, key=lambda tensor: tensor.offset):
        if tensor.offset != at:
            what = "overlap" if tensor.offset < at else "have a gap between them"
            raise ConversionError(f'{name}: the data of "{tensor.name[:80]}" and of the tensor before it {what}')
        at += math.prod(tensor.shape) * _ITEM_BYTES[tensor.dtype]
    if at != end:
        raise ConversionError(f"{name} has {end - at} bytes after its last tensor")
