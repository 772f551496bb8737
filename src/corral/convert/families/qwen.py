"""Qwen 2 and 3, for text and for embeddings."""

from __future__ import annotations

from gguf import MODEL_ARCH, GGUFWriter

from corral.convert.families.base import Decoder
from corral.convert.pooling import read_pooling


class Qwen2(Decoder):
    """Queries, keys and values have a bias."""

    architecture = MODEL_ARCH.QWEN2

    def describe(self, writer: GGUFWriter) -> None:
        super().describe(writer)
        if (pooling := read_pooling(self.folder)) is not None:
            writer.add_pooling_type(pooling)


class Qwen3(Qwen2):
    """Queries and keys are normed instead."""

    architecture = MODEL_ARCH.QWEN3
