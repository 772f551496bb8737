"""Writing safetensors files, sound ones and others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

NAMES = {"float32": "F32", "float16": "F16", "uint16": "BF16", "int64": "I64"}


def write_safetensors(path: Path, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Arrays of 16-bit whole numbers are the bits of bfloat16."""
    header, at = {}, 0
    for name, array in tensors.items():
        facts = {"dtype": NAMES[array.dtype.name], "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        header[name] = facts
        at += array.nbytes
    write_raw(path, json.dumps(header).encode(), b"".join(np.ascontiguousarray(a).tobytes() for a in tensors.values()))


def write_raw(path: Path, header: bytes, data: bytes = b"", *, length: int | None = None) -> None:
    """A file with any header, true or not."""
    path.write_bytes((len(header) if length is None else length).to_bytes(8, "little") + header + data)


def bfloat16(array: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Cut to 16 bits."""
    return (array.view(np.uint32) >> 16).astype(np.uint16)
