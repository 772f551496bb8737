"""Small adapters, made with the ``gguf`` package."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from corral.tiny import TINY_FILE


def adapter(path: Path, *, architecture: str = "qwen3", kind: str = "lora", width: int = 0, rank: int = 4) -> Path:
    """An adapter for the first two layers of Tiny that changes what it says; ``width`` makes it one for another model."""
    dice = np.random.default_rng(7)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", kind)
    writer.add_float32("adapter.lora.alpha", 8.0)
    for tensor in gguf.GGUFReader(TINY_FILE).tensors:
        if tensor.name in ("blk.0.ffn_down.weight", "blk.1.attn_q.weight"):
            columns, rows = (int(n) for n in tensor.shape)
            writer.add_tensor(f"{tensor.name}.lora_a", dice.normal(size=(rank, width or columns)).astype(np.float32))
            writer.add_tensor(f"{tensor.name}.lora_b", dice.normal(size=(rows, rank)).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def projector(path: Path) -> Path:
    """A file that says it turns images into tokens; it is never loaded."""
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_tensor("v.patch_embd.weight", np.zeros((2, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
