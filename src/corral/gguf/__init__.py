"""GGUF: the file format of llama.cpp's models."""

from corral.gguf.facts import ModelFacts, ProjectorFacts, human_count, model_facts, projector_facts
from corral.gguf.memory import MemoryShape
from corral.gguf.parts import parts_in_order, read_parts
from corral.gguf.reader import ArraySummary, Float32, GgufFile, TensorInfo, Value, read_gguf

__all__ = [
    "ArraySummary",
    "Float32",
    "GgufFile",
    "MemoryShape",
    "ModelFacts",
    "ProjectorFacts",
    "TensorInfo",
    "Value",
    "human_count",
    "model_facts",
    "parts_in_order",
    "projector_facts",
    "read_gguf",
    "read_parts",
]
