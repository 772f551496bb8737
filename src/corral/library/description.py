"""What the library says of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from corral.gguf import ModelFacts, TensorInfo
from corral.gguf.ollama import Translation
from corral.library.prompting import Prompting
from corral.names import ModelName


@dataclass(frozen=True, slots=True)
class Details:
    """A model in a few words. ``families`` is ``None`` where nobody said."""

    parent_model: str
    format: str
    family: str
    families: tuple[str, ...] | None
    parameter_size: str
    quantization_level: str
    context_length: int | None = None
    embedding_length: int | None = None


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """A model as a list shows it. ``digest`` is the sha256 of its manifest, its ID; ``size`` is bytes of all its blobs."""

    name: ModelName
    digest: str
    size: int
    modified_at: datetime
    details: Details
    capabilities: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """All that is needed to run a model. ``more_weights`` are the further files of a model in parts, in order.

    ``template`` is a Go template, if the model has one; ``prompting`` says if it is used. ``translation`` is what the weights need
    before llama.cpp loads them, which are in Ollama's dialect then; ``refusal`` says why it cannot load them, where that is known.
    """

    name: ModelName
    digest: str
    weights: Path
    more_weights: tuple[Path, ...]
    adapters: tuple[Path, ...]
    projectors: tuple[Path, ...]
    template: str | None
    prompting: Prompting
    system: str | None
    parameters: Mapping[str, object] = field(repr=False)
    messages: tuple[tuple[str, str], ...]
    capabilities: tuple[str, ...]
    details: Details
    facts: ModelFacts | None = field(repr=False)
    size: int
    translation: Translation | None = field(default=None, repr=False)
    projector_translation: Translation | None = field(default=None, repr=False)
    refusal: str = ""

    @property
    def all_weights(self) -> tuple[Path, ...]:
        """The files of the model: one, or all parts in order."""
        return (self.weights, *self.more_weights)

    @property
    def only_reads(self) -> bool:
        """Whether it makes vectors or scores of texts, and no text."""
        return not {"embedding", "rerank"}.isdisjoint(self.capabilities)


@dataclass(frozen=True, slots=True)
class ModelDetails:
    """All there is to say of a model. Texts are empty where there is none."""

    license: str
    modelfile: str
    parameters: str
    template: str
    system: str
    details: Details
    messages: tuple[tuple[str, str], ...]
    model_info: Mapping[str, object]
    projector_info: Mapping[str, object]
    tensors: tuple[TensorInfo, ...]
    capabilities: tuple[str, ...]
    modified_at: datetime
    requires: str
