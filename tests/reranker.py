"""A tiny reranker: a BERT of random weights with a head that gives one number, as GGUF, and the same sum once more in numpy."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from tests.convert.bert import gelu

Floats = NDArray[np.float32]

WIDTH, HEADS, LAYERS, INNER, CONTEXT = 32, 2, 2, 64, 64
CLS, SEP = 2, 3
WORDS = [
    *("the", "a", "cat", "dog", "sits", "runs", "outside", "inside", "paris", "london", "is", "city", "of", "lights"),
    *("rain", "weather", "sun", "blue", "red", "green", "what", "where", "who", "one", "two", "three", "four", "five"),
]
TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"\u2581{word}" for word in WORDS)]


@dataclass
class Reranker:
    """The weights, by their names in a GGUF file."""

    weights: dict[str, Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        chosen = np.random.default_rng(5)

        def matrix(name: str, rows: int, columns: int) -> None:
            self.weights[f"{name}.weight"] = chosen.standard_normal((rows, columns)).astype(np.float32) / columns**0.5

        def linear(name: str, rows: int, columns: int) -> None:
            matrix(name, rows, columns)
            self.weights[f"{name}.bias"] = chosen.standard_normal(rows).astype(np.float32) / 10

        def norm(name: str) -> None:
            self.weights[f"{name}.weight"] = np.ones(WIDTH, np.float32)
            self.weights[f"{name}.bias"] = np.zeros(WIDTH, np.float32)

        matrix("token_embd", len(TOKENS), WIDTH)
        matrix("position_embd", CONTEXT, WIDTH)
        matrix("token_types", 2, WIDTH)
        norm("token_embd_norm")
        for layer in range(LAYERS):
            for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
                linear(f"blk.{layer}.{part}", WIDTH, WIDTH)
            linear(f"blk.{layer}.ffn_up", INNER, WIDTH)
            linear(f"blk.{layer}.ffn_down", WIDTH, INNER)
            norm(f"blk.{layer}.attn_output_norm")
            norm(f"blk.{layer}.layer_output_norm")
        linear("cls", WIDTH, WIDTH)
        linear("cls.output", 1, WIDTH)

    def write(self, path: Path) -> Path:
        writer = gguf.GGUFWriter(path, "bert")
        writer.add_name("reranker")
        writer.add_context_length(CONTEXT)
        writer.add_embedding_length(WIDTH)
        writer.add_block_count(LAYERS)
        writer.add_feed_forward_length(INNER)
        writer.add_head_count(HEADS)
        writer.add_layer_norm_eps(1e-12)
        writer.add_causal_attention(False)
        writer.add_pooling_type(gguf.PoolingType.RANK)
        writer.add_token_type_count(2)
        writer.add_tokenizer_model("bert")
        writer.add_tokenizer_pre("default")
        writer.add_token_list(TOKENS)
        writer.add_token_types([3] * 5 + [1] * len(WORDS))
        writer.add_bos_token_id(CLS)
        writer.add_sep_token_id(SEP)
        writer.add_eos_token_id(SEP)
        writer.add_unk_token_id(1)
        writer.add_pad_token_id(0)
        writer.add_add_eos_token(True)
        for name, values in self.weights.items():
            writer.add_tensor(name, values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    def score(self, query: str, document: str) -> float:
        """How well ``document`` answers ``query``: the head on top of the first token."""
        first = self._encode(tokens(query, document))[0]
        hidden = np.tanh(self._linear("cls", first[None]))
        return float(self._linear("cls.output", hidden)[0, 0])

    def _encode(self, ids: list[int]) -> Floats:
        get = self.weights
        x = get["token_embd.weight"][ids] + get["position_embd.weight"][: len(ids)] + get["token_types.weight"][0]
        x = self._norm("token_embd_norm", x)
        for layer in range(LAYERS):
            block = f"blk.{layer}"
            x = self._norm(f"{block}.attn_output_norm", x + self._attention(block, x))
            inner = gelu(self._linear(f"{block}.ffn_up", x))
            x = self._norm(f"{block}.layer_output_norm", x + self._linear(f"{block}.ffn_down", inner))
        return x

    def _attention(self, block: str, x: Floats) -> Floats:
        def split(name: str) -> Floats:
            return self._linear(f"{block}.{name}", x).reshape(len(x), HEADS, -1).swapaxes(0, 1)

        query, key, value = split("attn_q"), split("attn_k"), split("attn_v")
        scores = query @ key.swapaxes(1, 2) / query.shape[-1] ** 0.5
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = scores / scores.sum(axis=-1, keepdims=True) @ value
        return self._linear(f"{block}.attn_output", mixed.swapaxes(0, 1).reshape(x.shape))

    def _linear(self, name: str, x: Floats) -> Any:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def _norm(self, name: str, x: Floats) -> Floats:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12)
        return scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]


def tokens(query: str, document: str) -> list[int]:
    """A pair as the engine gives it to models that have all four marks: ``[CLS] query [SEP] [SEP] document [SEP]``."""
    return [CLS, *words(query), SEP, SEP, *words(document), SEP]


def words(text: str) -> list[int]:
    return [TOKENS.index(f"\u2581{word}") if word in WORDS else 1 for word in text.lower().split()]
