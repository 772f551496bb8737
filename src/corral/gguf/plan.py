"""What quantising a model comes to, tensor by tensor, before a byte of it is written. Reads descriptions, never tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from corral.errors import GgufError, QuantizationError
from corral.gguf.mixtures import PLAIN, Mixture, hyperparameters, tensor_types
from corral.gguf.parts import parts_in_order
from corral.gguf.reader import GgufFile, TensorInfo, printable, read_gguf
from corral.gguf.write import NewTensor, NewValue

QUANTIZATION_VERSION = 2  # GGML_QNT_VERSION of ggml.h: the layout of the quantised blocks
SPLIT_KEYS = ("split.no", "split.count", "split.tensors.count")
_NOT_NUMBERS = ("I8", "I16", "I32", "I64", "F64", "Q8_1", "Q8_K")  # indices, or what only a running computation has


@dataclass(frozen=True, slots=True)
class PlannedTensor:
    """One tensor: the file and the place where it lies now, and what it will be."""

    path: Path
    source: TensorInfo
    target: NewTensor

    @property
    def is_converted(self) -> bool:
        """Whether its format changes."""
        return self.source.type_name != self.target.type_name


@dataclass(frozen=True, slots=True)
class Plan:
    """A file to be made: whose metadata it has, with which changes, and its tensors in order."""

    first: GgufFile
    changed: dict[str, NewValue]
    tensors: tuple[PlannedTensor, ...]

    @property
    def total_bytes(self) -> int:
        """Bytes of tensor data to be read."""
        return sum(tensor.source.size_bytes for tensor in self.tensors)


def plan(sources: Sequence[Path], target: Mixture, *, allow_requantize: bool = False) -> Plan:
    """How the model in ``sources``, the parts of one model in any order, becomes one file of the mixture ``target``.

    Raises `GgufError` for files that are none, or no whole model, and `QuantizationError` for a model that is quantised already,
    unless ``allow_requantize``.
    """
    paths = parts_in_order(sources)
    if len(paths) != len(sources):
        names = ", ".join(printable(path.name) for path in sources[:3])
        raise GgufError(f"{names}: these are not the parts of one model")
    parts = [read_gguf(path, arrays=False) for path in paths]
    found = [(part, tensor) for part in parts for tensor in _apart(part)]
    if len({tensor.name for _, tensor in found}) != len(found):
        raise GgufError("two parts of the model have a tensor of the same name")
    types = tensor_types([tensor for _, tensor in found], hyperparameters(parts[0]), target)
    tensors = tuple(
        PlannedTensor(part.path, tensor, NewTensor(tensor.name, types[tensor.name], tensor.shape))
        for part, tensor in found
    )
    for planned in tensors:
        _check_type(planned, allow_requantize)
    changed: dict[str, NewValue] = {
        "general.file_type": target.number,
        "general.quantization_version": QUANTIZATION_VERSION,
    }
    return Plan(parts[0], changed, tensors)


def _apart(part: GgufFile) -> tuple[TensorInfo, ...]:
    """Its tensors, of which no two share data: else a small file could ask for one of any size."""
    end = 0
    for tensor in sorted(part.tensors, key=lambda tensor: tensor.offset):
        if tensor.offset < end:
            raise GgufError(f"{part.path.name} cannot be used: two of its tensors lie over each other")
        end = tensor.offset + tensor.size_bytes
    return part.tensors


def _check_type(planned: PlannedTensor, allow_requantize: bool) -> None:
    kind, name = planned.source.type_name, printable(planned.source.name[:80])
    if not planned.is_converted or kind in PLAIN:
        return
    if kind in _NOT_NUMBERS:
        raise QuantizationError(f'the tensor "{name}" has the type {kind}, which cannot be quantised')
    if not allow_requantize:
        raise QuantizationError("quantization is only supported for F16, BF16 and F32 models")
