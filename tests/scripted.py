"""A model that says the same after every prompt: its weights lead from any token to the first of a script, and on to its end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np

from corral.gguf import read_gguf
from corral.tiny import TINY_FILE

_WIDTH, _HEAD = 64, 32


def scripted(path: Path, template: str, script: Sequence[str]) -> Path:
    """Write the model. The pieces of ``script`` are tokens of its own, each once, and none that Tiny's vocabulary has."""
    tiny = read_gguf(TINY_FILE).metadata
    tokens, types = list(tiny["tokenizer.ggml.tokens"]), list(tiny["tokenizer.ggml.token_type"])
    said = list(range(len(tokens), len(tokens) + len(script)))
    tokens, types = tokens + list(script), types + [gguf.TokenType.USER_DEFINED] * len(script)
    end = tiny["tokenizer.ggml.eos_token_id"]
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_name(path.stem)
    writer.add_context_length(4096)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(_WIDTH)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_key_length(_HEAD)
    writer.add_value_length(_HEAD)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(tiny["tokenizer.ggml.merges"])
    writer.add_eos_token_id(end)
    writer.add_add_bos_token(False)
    writer.add_chat_template(template)
    # A token's vector has one direction, that of its place in the script, and the next token answers to that direction.
    vectors, answers = np.zeros((2, len(tokens), _WIDTH), np.float32)
    vectors[:, 0] = 1
    for place, (token, following) in enumerate(zip([None, *said], [*said, end], strict=True)):
        if token is not None:
            vectors[token] = np.eye(_WIDTH, dtype=np.float32)[place]
        answers[following, place] = 10
    writer.add_tensor("token_embd.weight", vectors)
    writer.add_tensor("output.weight", answers)
    writer.add_tensor("output_norm.weight", np.ones(_WIDTH, np.float32))
    for name, width in (("attn_norm", _WIDTH), ("ffn_norm", _WIDTH), ("attn_q_norm", _HEAD), ("attn_k_norm", _HEAD)):
        writer.add_tensor(f"blk.0.{name}.weight", np.ones(width, np.float32))
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        writer.add_tensor(f"blk.0.{name}.weight", np.zeros((_WIDTH, _WIDTH), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
