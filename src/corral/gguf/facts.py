"""What Corral wants to know of a model, read from its GGUF metadata. Pure functions.

Keys: the GGUF specification. Capabilities: the rules of Ollama's ``show``, which
takes rerankers for embedding models.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from corral.errors import GgufError
from corral.gguf.memory import MemoryShape, memory_shape
from corral.gguf.reader import ArraySummary, GgufFile, Value
from corral.gguf.types import FILE_TYPES

_LARGEST = 2**31 - 1  # of layers, heads, dimensions and tokens; no engine counts further
_RANK = 4  # llama.h: LLAMA_POOLING_TYPE_RANK
_STRIPS_HISTORY = re.compile(r"content\.split\((['\"])</think>\1\)")


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A model in figures. ``None`` where the file does not say."""

    architecture: str
    name: str
    parameter_count: int
    quantization: str
    context_length: int | None
    embedding_length: int | None
    memory: MemoryShape
    chat_template: str | None
    pooling_type: int | None
    has_vision: bool
    has_audio: bool
    is_adapter: bool

    @property
    def parameter_size(self) -> str:
        """The number of parameters for people: ``4.46M``, ``1.2B``."""
        return human_count(self.parameter_count)

    @property
    def ranks(self) -> bool:
        """Whether it says how well a text answers another."""
        return self.pooling_type == _RANK

    @property
    def capabilities(self) -> tuple[str, ...]:
        """What the file by itself can do, by its own chat template and its parts."""
        found = []
        template = self.chat_template or ""
        if "tools" in template or "tool_call" in template:
            found.append("tools")
        strips = _STRIPS_HISTORY.search(template) and not (
            "reasoning_content" in template or "<SPECIAL_12>" in template
        )
        if ("<think>" in template and "</think>" in template) or strips:
            found.append("thinking")
        found.append("completion" if self.pooling_type is None else "rerank" if self.ranks else "embedding")
        if self.has_vision:
            found.append("vision")
        if self.has_audio:
            found.append("audio")
        return tuple(found)


def model_facts(file: GgufFile) -> ModelFacts:
    """The facts of ``file``, which may have been read without its arrays. Raises `GgufError` for impossible numbers."""
    metadata = file.metadata
    architecture = _text(metadata.get("general.architecture")) or "unknown"

    def of_architecture(key: str) -> Value | None:
        return metadata.get(f"{architecture}.{key}")

    file_type = metadata.get("general.file_type")
    return ModelFacts(
        architecture=architecture,
        name=_text(metadata.get("general.name")) or "",
        parameter_count=sum(tensor.elements for tensor in file.tensors),
        quantization=FILE_TYPES.get(file_type, "unknown") if isinstance(file_type, int) else "unknown",
        context_length=_number(of_architecture("context_length")),
        embedding_length=_number(of_architecture("embedding_length")),
        memory=memory_shape(file, architecture, _number),
        chat_template=_text(metadata.get("tokenizer.chat_template")),
        pooling_type=_number(of_architecture("pooling_type")),
        has_vision=of_architecture("vision.block_count") is not None,
        has_audio=of_architecture("audio.block_count") is not None,
        is_adapter=metadata.get("general.type") == "adapter",
    )


@dataclass(frozen=True, slots=True)
class ProjectorFacts:
    """What a projector turns into tokens."""

    sees: bool
    hears: bool


def projector_facts(file: GgufFile) -> ProjectorFacts:
    """The facts of a projector. One that says nothing of itself sees, as the oldest ones do.

    The sounds of Gemma 3n are not heard: its encoder is listed, and no engine has it.
    """
    metadata = file.metadata
    hears = metadata.get("clip.vision.projector_type") != "gemma3nv" and any(
        value is True for key, value in metadata.items() if key.endswith(".has_audio_encoder")
    )
    return ProjectorFacts(metadata.get("clip.has_vision_encoder") is True or not hears, hears)


def human_count(count: int) -> str:
    """``count`` as lists of models show it.

    >>> [human_count(n) for n in (4_461_824, 567_000_000, 1_235_814_432, 7_000_000_000, 12_345, 7)]
    ['4.46M', '567M', '1.2B', '7B', '12K', '7']
    """
    if count >= 1_000_000_000:
        return f"{count / 1e9:.1f}".removesuffix(".0") + "B"
    if count >= 1_000_000:
        millions = f"{count / 1e6:.2f}"
        return millions.removesuffix(".00") + "M"
    return f"{count // 1000}K" if count >= 1000 else str(count)


def _text(value: Value | None) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: Value | None) -> int | None:
    """A whole number; of a list per layer the largest, for those that only want to know how big things get."""
    if isinstance(value, list):
        return max((number for item in value if (number := _number(item)) is not None), default=None)
    if isinstance(value, ArraySummary | bool) or not isinstance(value, int):
        return None
    if not 0 <= value <= _LARGEST:
        raise GgufError(f"a model cannot have the number {value} in its description")
    return value
