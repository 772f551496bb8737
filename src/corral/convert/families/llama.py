"""Llama, and what is built like it: Mistral."""

from __future__ import annotations

from gguf import MODEL_ARCH

from corral.convert.families.base import Decoder, interleaved
from corral.convert.plan import Change
from corral.convert.safetensors import Tensor


class Llama(Decoder):
    """Mistral's sliding window is left out, as everywhere: the engine's Llama attends to all."""

    architecture = MODEL_ARCH.LLAMA

    def change(self, name: str, tensor: Tensor) -> Change | None:
        if name.endswith(("q_proj.weight", "q_proj.bias")):
            return interleaved(self.heads)
        if name.endswith(("k_proj.weight", "k_proj.bias")):
            return interleaved(self.kv_heads)
        return None
