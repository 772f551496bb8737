"""What a GGUF file will have in it, and writing it tensor by tensor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType

from corral.convert.safetensors import Array, Tensor, as_float32
from corral.errors import ConversionError

_TYPES = {"F32": GGMLQuantizationType.F32, "F16": GGMLQuantizationType.F16, "BF16": GGMLQuantizationType.BF16}
_FILE_TYPES = {
    GGMLQuantizationType.F32: LlamaFileType.ALL_F32,
    GGMLQuantizationType.F16: LlamaFileType.MOSTLY_F16,
    GGMLQuantizationType.BF16: LlamaFileType.MOSTLY_BF16,
}
Change = Callable[[Array], Array]


@dataclass(frozen=True, slots=True)
class Output:
    """A tensor to be written: its shape with the slowest dimension first; ``load`` reads it when its turn comes."""

    name: str
    type: GGMLQuantizationType
    shape: tuple[int, ...]
    load: Callable[[], Array]

    @property
    def size_bytes(self) -> int:
        """Its data, without the padding after it."""
        return int(np.prod(self.shape)) * (4 if self.type is GGMLQuantizationType.F32 else 2)


def copied(name: str, tensor: Tensor, *, float32: bool, change: Change | None = None) -> Output:
    """``tensor`` under another name, in its own type or in F32. ``change`` must not depend on the type, or get F32."""
    kind = GGMLQuantizationType.F32 if float32 else _TYPES.get(tensor.dtype)
    if kind is None:
        tensor.map()  # raises and says what types there may be
        raise AssertionError(tensor.dtype)

    def load() -> Array:
        numbers = tensor.map()
        if float32:
            numbers = as_float32(numbers, tensor.dtype)
        return numbers if change is None else np.ascontiguousarray(change(numbers))

    return Output(name, kind, tensor.shape, load)


def computed(name: str, numbers: Sequence[float]) -> Output:
    """A list of numbers that comes from the configuration."""
    array = np.array(numbers, np.float32)
    return Output(name, GGMLQuantizationType.F32, array.shape, lambda: array)


class Plan:
    """Metadata, which ``writer`` has already, and tensors."""

    def __init__(self, writer: GGUFWriter, outputs: Sequence[Output]) -> None:
        for name, times in Counter(output.name for output in outputs).items():
            if times > 1:
                raise ConversionError(f"{times} tensors would be {name}")
        self._writer = writer
        self._outputs = outputs
        writer.add_file_type(self._file_type())
        for output in outputs:
            dtype = np.dtype(np.float32 if output.type is GGMLQuantizationType.F32 else np.uint16)
            writer.add_tensor_info(output.name, output.shape, dtype, output.size_bytes, output.type)

    @property
    def size_bytes(self) -> int:
        """The data of all tensors."""
        return sum(output.size_bytes for output in self._outputs)

    def write(self, target: Path) -> Iterator[int]:
        """Write the file; after each tensor, the bytes that were written so far."""
        self._writer.write_header_to_file(target)
        self._writer.write_kv_data_to_file()
        self._writer.write_ti_data_to_file()
        completed = 0
        yield completed
        for output in self._outputs:
            self._writer.write_tensor_data(output.load())
            completed += output.size_bytes
            yield completed
        self._writer.close()

    def _file_type(self) -> LlamaFileType:
        """By the type that most of the weights have."""
        sizes = dict.fromkeys(_FILE_TYPES, 0)
        for output in self._outputs:
            sizes[output.type] += output.size_bytes if len(output.shape) > 1 else 0
        return _FILE_TYPES[max(sizes, key=sizes.__getitem__)]
