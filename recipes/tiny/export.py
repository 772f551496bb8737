"""Write trained weights as GGUF (architecture ``qwen3``), with the tokeniser and the chat template inside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import numpy as np
from data import CONTROL_TOKENS, VISIBLE_TOKENS
from errors import RecipeError
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, TokenType, quants
from model import Config
from numpy.typing import NDArray

Quantization = Literal["q8_0", "f16"]
Weights = dict[str, NDArray[np.float32]]

CONTEXT_LENGTH = 2048

# What GGUF calls each tensor of a block.
MATRICES = {
    "attn.q": "attn_q",
    "attn.k": "attn_k",
    "attn.v": "attn_v",
    "attn.o": "attn_output",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}
NORMS = {
    "n1": "attn_norm",
    "n2": "ffn_norm",
    "attn.qn": "attn_q_norm",
    "attn.kn": "attn_k_norm",
}


def export(
    weights: Path, output: Path, *, config: Config, tokenizer: Path, template: Path, quantization: Quantization
) -> None:
    """Write ``output``; only the matrices are quantised, the norms stay float32."""
    arrays = _load(weights)
    writer = GGUFWriter(output, "qwen3")
    _add_settings(writer, config, quantization)
    _add_tokenizer(writer, tokenizer, config.vocabulary_size)
    writer.add_chat_template(template.read_text())
    _add_tensors(writer, arrays, config.layers, quantization)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _load(path: Path) -> Weights:
    try:
        with np.load(path) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except FileNotFoundError as exc:
        raise RecipeError(f"{path} does not exist; try: --first train") from exc


def _add_settings(writer: GGUFWriter, config: Config, quantization: Quantization) -> None:
    writer.add_name("Tiny")
    writer.add_description("A very small chat model for first runs and tests")
    writer.add_license("mit")
    writer.add_size_label("4.5M")
    writer.add_context_length(CONTEXT_LENGTH)
    writer.add_embedding_length(config.width)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.feed_forward)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_key_length(config.head_width)
    writer.add_value_length(config.head_width)
    writer.add_rope_freq_base(config.rope_base)
    writer.add_layer_norm_rms_eps(config.norm_epsilon)
    writer.add_vocab_size(config.vocabulary_size)
    is_q8_0 = quantization == "q8_0"
    writer.add_file_type(LlamaFileType.MOSTLY_Q8_0 if is_q8_0 else LlamaFileType.MOSTLY_F16)


def _add_tokenizer(writer: GGUFWriter, path: Path, vocabulary_size: int) -> None:
    bpe = json.loads(path.read_text())["model"]
    vocabulary: dict[str, int] = bpe["vocab"]
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    if len(tokens) != vocabulary_size:
        raise RecipeError(f"{path} has {len(tokens)} tokens; the network has {vocabulary_size}")
    # tokenizers wrote a merge as one text "a b" until 0.20, and as a pair since.
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in bpe["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([_token_type(token) for token in tokens])
    writer.add_token_merges(merges)
    writer.add_eos_token_id(vocabulary["<|im_end|>"])
    writer.add_pad_token_id(vocabulary["<|endoftext|>"])
    writer.add_add_bos_token(False)


def _token_type(token: str) -> TokenType:
    if token in CONTROL_TOKENS:
        return TokenType.CONTROL
    return TokenType.USER_DEFINED if token in VISIBLE_TOKENS else TokenType.NORMAL


def _add_tensors(writer: GGUFWriter, weights: Weights, layers: int, quantization: Quantization) -> None:
    _add_matrix(writer, "token_embd.weight", weights["emb.weight"], quantization)
    writer.add_tensor("output_norm.weight", weights["norm.weight"])
    for layer in range(layers):
        for ours, theirs in NORMS.items():
            writer.add_tensor(f"blk.{layer}.{theirs}.weight", weights[f"blocks.{layer}.{ours}.weight"])
        for ours, theirs in MATRICES.items():
            matrix = weights[f"blocks.{layer}.{ours}.weight"]
            _add_matrix(writer, f"blk.{layer}.{theirs}.weight", matrix, quantization)


def _add_matrix(writer: GGUFWriter, name: str, matrix: NDArray[np.float32], quantization: Quantization) -> None:
    if quantization == "f16":
        writer.add_tensor(name, matrix.astype(np.float16))
        return
    q8_0 = GGMLQuantizationType.Q8_0
    writer.add_tensor(name, quants.quantize(matrix, q8_0), raw_dtype=q8_0)
