"""What a translated file is: which metadata and tensors of a source it has, and under which names. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from corral.gguf.reader import ArraySummary, GgufFile, TensorInfo, Value

UINT8, INT32, FLOAT32, BOOL, STRING = 0, 5, 6, 7, 8


@dataclass(frozen=True, slots=True)
class Array:
    """An array of numbers or texts, with the number of its type in the format."""

    kind: int
    values: list[int] | list[float] | list[bool] | list[str] | ArraySummary


NewMetadata = bool | int | float | str | Array


@dataclass(frozen=True, slots=True)
class Kept:
    """A tensor of the source with its name and shape in the translated file.

    A shorter shape keeps the first rows; ``widened`` ones are written as 32-bit floats.
    """

    source: TensorInfo
    name: str
    shape: tuple[int, ...]
    widened: bool = False

    @property
    def type_name(self) -> str:
        """Its number format in the translated file."""
        return "F32" if self.widened else self.source.type_name

    @property
    def elements(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    @property
    def source_bytes(self) -> int:
        """How much of the source's data it is made of, from the beginning: whole rows."""
        row_bytes = self.source.size_bytes * self.source.shape[0] // self.source.elements
        return row_bytes * (self.elements // self.shape[0])

    @property
    def size_bytes(self) -> int:
        """Bytes of its data in the translated file."""
        return self.elements * 4 if self.widened else self.source_bytes


@dataclass(frozen=True, slots=True)
class View:
    """A file to be made of a source: the source's metadata under new keys where ``keys`` has them, then ``values``, which win."""

    keys: Mapping[str, str] = field(repr=False)  # key of the source to key of the file, in order; others are left out
    values: Mapping[str, NewMetadata] = field(repr=False)
    tensors: tuple[Kept, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Translation:
    """A file of Ollama's dialect as llama.cpp wants it.

    ``projector`` is there if the images' part could be translated too; ``lacks`` says what was left behind, and why.
    """

    family: str
    model: View
    projector: View | None = None
    lacks: str = ""


def as_translated(file: GgufFile, view: View) -> GgufFile:
    """What the translated file will say of itself, for whoever wants its facts; offsets and records are the source's."""
    metadata: dict[str, Value] = {new: file.metadata[old] for old, new in view.keys.items()}
    metadata |= {key: _plain(value) for key, value in view.values.items()}
    tensors = tuple(
        replace(kept.source, name=kept.name, shape=kept.shape, type_name=kept.type_name, size_bytes=kept.size_bytes)
        for kept in view.tensors
    )
    return replace(file, metadata=metadata, tensors=tensors)


def _plain(value: NewMetadata) -> Value:
    if not isinstance(value, Array):
        return value
    return value.values if isinstance(value.values, ArraySummary) else list(value.values)
