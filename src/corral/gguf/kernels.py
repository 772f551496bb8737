"""ggml's own conversions between number formats, called in the library that the engine is made of.

This is native code: only the process that quantises imports it.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import xllamacpp.xllamacpp as engine

from corral.errors import QuantizationError
from corral.gguf.types import TENSOR_TYPES

_NUMBERS = {kind.name: number for number, kind in TENSOR_TYPES.items()}
_KINDS = {kind.name: kind for kind in TENSOR_TYPES.values()}
_TO_FLOAT = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)


class _TypeTraits(ctypes.Structure):
    """What ggml says of a number format: ``struct ggml_type_traits`` in ``ggml.h``."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("block", ctypes.c_int64),
        ("interleaved", ctypes.c_int64),
        ("bytes", ctypes.c_size_t),
        ("quantised", ctypes.c_bool),
        ("to_float", _TO_FLOAT),
        ("from_float", ctypes.c_void_p),
    ]


class Kernels:
    """Conversions of runs of numbers. All may be called by several threads at once, and let the others run meanwhile."""

    def __init__(self) -> None:
        try:
            library = ctypes.CDLL(engine.__file__)
            self._quantize = library.ggml_quantize_chunk
            self._validate = library.ggml_validate_row_data
            self._traits = library.ggml_get_type_traits
            self._half_to_float = library.ggml_fp16_to_fp32_row
            self._brain_to_float = library.ggml_bf16_to_fp32_row
        except (OSError, AttributeError) as exc:
            raise QuantizationError(f"this build of the engine cannot quantise: {exc}") from exc
        self._quantize.argtypes = [
            ctypes.c_int,
            ctypes.c_void_p,
            ctypes.c_void_p,
            *[ctypes.c_int64] * 3,
            ctypes.c_void_p,
        ]
        self._quantize.restype = ctypes.c_size_t
        self._validate.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
        self._validate.restype = ctypes.c_bool
        self._traits.argtypes = [ctypes.c_int]
        self._traits.restype = ctypes.POINTER(_TypeTraits)
        for function in (self._half_to_float, self._brain_to_float):
            function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
            function.restype = None
        self._scratch = threading.local()

    def are_finite(self, type_name: str, data: bytes | bytearray) -> bool:
        """Whether ``data`` has neither infinities nor what is no number, as far as ggml tells for its format."""
        return bool(self._validate(_NUMBERS[type_name], _address(data), len(data)))

    def converted(self, source_type: str, target_type: str, data: bytes) -> bytearray:
        """The numbers of ``data`` in another format. Their count must be a multiple of the blocks of both."""
        source, target = _KINDS[source_type], _KINDS[target_type]
        count = len(data) // source.bytes * source.block
        numbers = self._floats(source_type, data, count)
        result = bytearray(count // target.block * target.bytes)
        # Without weights of importance ggml rounds each block by itself, so the whole run may count as one row.
        made = self._quantize(_NUMBERS[target_type], numbers, _address(result), 0, 1, count, None)
        assert made == len(result), f"ggml made {made} bytes of {target_type} where {len(result)} were due"
        return result

    def _to_float(self, source_type: str) -> Any:
        """ggml's function from a format to 32-bit floats: source address, target address, count."""
        if source_type == "F16":
            return self._half_to_float
        if source_type == "BF16":
            return self._brain_to_float
        kind, traits = _KINDS[source_type], self._traits(_NUMBERS[source_type]).contents
        if (traits.block, traits.bytes) != (kind.block, kind.bytes):
            raise QuantizationError(f"this build of the engine stores {source_type} in another way than the file")
        if not traits.quantised or not traits.to_float:
            raise QuantizationError(f"tensors of the type {source_type} cannot be quantised")
        return traits.to_float

    def _floats(self, source_type: str, data: bytes, count: int) -> int:
        """The address of the numbers of ``data`` as 32-bit floats, good until this thread asks again."""
        if source_type == "F32":
            return _address(data)
        buffer = getattr(self._scratch, "buffer", None)
        if buffer is None or len(buffer) < count:
            buffer = self._scratch.buffer = (ctypes.c_float * count)()
        address = ctypes.addressof(buffer)
        self._to_float(source_type)(_address(data), address, count)
        return address


def _address(data: bytes | bytearray) -> int:
    """Where the bytes of ``data`` lie; the caller keeps it alive."""
    if isinstance(data, bytes):
        return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0
    return ctypes.addressof((ctypes.c_char * len(data)).from_buffer(data))
