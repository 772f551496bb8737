"""Small random models, each written twice over the same weights: as llama.cpp has them, and in Ollama's own dialect.

The two descriptions stand side by side and share no code with the rules that lead from one to the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from corral.gguf import read_gguf
from corral.tiny import TINY_FILE

WIDTH, HEADS, KV_HEADS, HEAD, FEED, LAYERS = 64, 4, 2, 16, 96, 2
PATCH, SIDE, EYES = 14, 56, 32  # of the part for images: pixels of a patch and of an image, width
TINY = read_gguf(TINY_FILE).metadata
TOKENS = len(TINY["tokenizer.ggml.tokens"])  # type: ignore[arg-type]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Tensor:
    """A tensor under its two names, with its shape as numpy has it; ``half`` ones have 16 bits in the dialect."""

    theirs: str
    ours: str
    shape: Shape
    half: bool = False


@dataclass(frozen=True)
class Twins:
    """One model in both dialects. ``eyes`` are its tensors for images, ``clip`` the values of its projector."""

    theirs: str
    ours: str
    both: Mapping[str, Any]  # values that only differ by the architecture before them
    only_theirs: Mapping[str, Any]
    only_ours: Mapping[str, Any]
    tensors: tuple[Tensor, ...]
    eyes: tuple[Tensor, ...] = ()
    clip: Mapping[str, Any] = field(default_factory=dict)
    more_tokens: int = 0  # of the dialect's vocabulary
    lost: tuple[Tensor, ...] = ()  # of the dialect's file, for which there is no room in llama.cpp's

    def write(self, folder: Path) -> tuple[Path, Path, Path | None]:
        """The model in Ollama's dialect, in llama.cpp's, and its projector in llama.cpp's."""
        numbers = self._numbers()
        theirs = (
            {f"{self.theirs}.{k}": v for k, v in self.both.items()} | tokenizer(self.more_tokens) | self.only_theirs
        )
        ours = {f"{self.ours}.{k}": v for k, v in self.both.items()} | tokenizer() | self.only_ours
        every = sorted((*self.tensors, *self.eyes, *self.lost), key=lambda tensor: tensor.theirs)
        original = write(
            folder / "theirs.gguf",
            self.theirs,
            theirs,
            {t.theirs: numbers[t].astype(np.float16) if t.half else numbers[t] for t in every},
        )
        reference = write(folder / "ours.gguf", self.ours, ours, {t.ours: numbers[t] for t in self.tensors})
        if not self.eyes:
            return original, reference, None
        projector = write(folder / "mmproj.gguf", "clip", self.clip, {t.ours: numbers[t] for t in self.eyes})
        return original, reference, projector

    def _numbers(self) -> dict[Tensor, NDArray[np.float32]]:
        random = np.random.default_rng(7)
        found = {}
        for tensor in (*self.tensors, *self.eyes, *self.lost):
            drawn = random.standard_normal(tensor.shape, np.float32) * np.float32(0.15)
            if "norm" in tensor.ours or ".ln" in tensor.ours or "post_ln" in tensor.ours:
                drawn += 1
            found[tensor] = drawn.astype(np.float16).astype(np.float32)
        return found


def tokenizer(more: int = 0) -> dict[str, Any]:
    """Tiny's own vocabulary, with ``more`` tokens behind it."""
    tokens, kinds = TINY["tokenizer.ggml.tokens"], TINY["tokenizer.ggml.token_type"]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": [*tokens, *(f"<extra{n}>" for n in range(more))],  # type: ignore[misc]
        "tokenizer.ggml.token_type": [*kinds, *([3] * more)],  # type: ignore[misc]
        "tokenizer.ggml.merges": TINY["tokenizer.ggml.merges"],
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.add_bos_token": False,
    }


def write(path: Path, architecture: str, values: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Path:
    """A GGUF file, by the ``gguf`` package; whole numbers get 32 bits, without sign outside lists."""
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in values.items():
        _add(writer, key, value)
    for name, numbers in tensors.items():
        writer.add_tensor(name, numbers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case _:
            kinds = {bool: gguf.GGUFValueType.BOOL, int: gguf.GGUFValueType.INT32, str: gguf.GGUFValueType.STRING}
            inner = kinds.get(type(value[0]), gguf.GGUFValueType.FLOAT32)
            writer.add_key_value(key, list(value), gguf.GGUFValueType.ARRAY, inner)


def _same(shape: Shape, *names: str) -> list[Tensor]:
    return [Tensor(name, name, shape) for name in names]


def _blocks(
    *tensors: tuple[str, str, Shape], layers: int = LAYERS, prefix: str = "blk", half: bool = False
) -> list[Tensor]:
    return [
        Tensor(f"{prefix}.{n}.{theirs}", f"{prefix}.{n}.{ours}", shape, half and len(shape) > 1)
        for n in range(layers)
        for theirs, ours, shape in tensors
    ]


def _as(name: str, shape: Shape) -> tuple[str, str, Shape]:
    return name, name, shape


BASE = {
    "context_length": 512,
    "embedding_length": WIDTH,
    "block_count": LAYERS,
    "feed_forward_length": FEED,
    "attention.head_count": HEADS,
    "attention.head_count_kv": KV_HEADS,
    "attention.layer_norm_rms_epsilon": 1e-6,
    "rope.freq_base": 10000.0,
}
ATTENTION = (
    _as("attn_q.weight", (HEADS * HEAD, WIDTH)),
    _as("attn_k.weight", (KV_HEADS * HEAD, WIDTH)),
    _as("attn_v.weight", (KV_HEADS * HEAD, WIDTH)),
)
OUTPUT = _as("attn_output.weight", (WIDTH, HEADS * HEAD))
FORWARD = (
    _as("ffn_gate.weight", (FEED, WIDTH)),
    _as("ffn_up.weight", (FEED, WIDTH)),
    _as("ffn_down.weight", (WIDTH, FEED)),
)
WORDS = [*_same((TOKENS, WIDTH), "token_embd.weight"), *_same((WIDTH,), "output_norm.weight")]


OLMO3 = Twins(
    theirs="olmo3",
    ours="olmo2",
    both=BASE | {"attention.sliding_window": 32, "attention.sliding_window_pattern": [True, False]},
    only_theirs={},
    only_ours={},
    tensors=(
        *WORDS,
        *_same((TOKENS, WIDTH), "output.weight"),
        *_blocks(
            *ATTENTION,
            OUTPUT,
            *FORWARD,
            _as("attn_q_norm.weight", (HEADS * HEAD,)),
            _as("attn_k_norm.weight", (KV_HEADS * HEAD,)),
            _as("post_attention_norm.weight", (WIDTH,)),
            _as("post_ffw_norm.weight", (WIDTH,)),
        ),
    ),
)

EXPERTS = 4
GPT_OSS = Twins(
    theirs="gptoss",
    ours="gpt-oss",
    both=BASE
    | {
        "expert_count": EXPERTS,
        "expert_used_count": 2,
        "attention.key_length": HEAD,
        "attention.value_length": HEAD,
        "attention.sliding_window": 32,
        "rope.scaling.factor": 32.0,
        "rope.scaling.original_context_length": 64,
    },
    only_theirs={"tokenizer.ggml.pre": "default"},
    only_ours={
        "tokenizer.ggml.pre": "gpt-4o",
        "gpt-oss.rope.scaling.type": "yarn",
        "gpt-oss.expert_feed_forward_length": FEED,
    },
    tensors=(
        *WORDS,
        *_same((TOKENS, WIDTH), "output.weight"),
        *_blocks(
            *ATTENTION,
            _as("attn_q.bias", (HEADS * HEAD,)),
            _as("attn_k.bias", (KV_HEADS * HEAD,)),
            _as("attn_v.bias", (KV_HEADS * HEAD,)),
            ("attn_out.weight", "attn_output.weight", (WIDTH, HEADS * HEAD)),
            ("attn_out.bias", "attn_output.bias", (WIDTH,)),
            ("attn_sinks", "attn_sinks.weight", (HEADS,)),
            _as("attn_norm.weight", (WIDTH,)),
            ("ffn_norm.weight", "post_attention_norm.weight", (WIDTH,)),
            _as("ffn_gate_inp.weight", (EXPERTS, WIDTH)),
            _as("ffn_gate_inp.bias", (EXPERTS,)),
            _as("ffn_gate_exps.weight", (EXPERTS, FEED, WIDTH)),
            _as("ffn_gate_exps.bias", (EXPERTS, FEED)),
            _as("ffn_up_exps.weight", (EXPERTS, FEED, WIDTH)),
            _as("ffn_up_exps.bias", (EXPERTS, FEED)),
            _as("ffn_down_exps.weight", (EXPERTS, WIDTH, FEED)),
            _as("ffn_down_exps.bias", (EXPERTS, WIDTH)),
        ),
    ),
)

LFM2 = Twins(
    theirs="lfm2",
    ours="lfm2",
    both={k: v for k, v in BASE.items() if k not in ("attention.head_count_kv", "feed_forward_length")}
    | {"attention.head_count_kv": [0, KV_HEADS], "shortconv.l_cache": 3, "vocab_size": TOKENS},
    only_theirs={"lfm2.feed_forward_length": 2 * FEED, "tokenizer.ggml.pre": "default"},
    only_ours={"lfm2.feed_forward_length": FEED, "tokenizer.ggml.pre": "lfm2"},
    tensors=(
        *_same((TOKENS, WIDTH), "token_embd.weight"),
        Tensor("output_norm.weight", "token_embd_norm.weight", (WIDTH,)),
        *_blocks(*FORWARD, _as("attn_norm.weight", (WIDTH,)), _as("ffn_norm.weight", (WIDTH,))),
        *_same((WIDTH, 3), "blk.0.shortconv.conv.weight"),
        *_same((3 * WIDTH, WIDTH), "blk.0.shortconv.in_proj.weight"),
        *_same((WIDTH, WIDTH), "blk.0.shortconv.out_proj.weight"),
        *(Tensor(f"blk.1.{name}", f"blk.1.{name}", shape) for name, _, shape in (*ATTENTION, OUTPUT)),
        *_same((HEAD,), "blk.1.attn_q_norm.weight", "blk.1.attn_k_norm.weight"),
    ),
)

GEMMA_PERIOD = 6  # layers, of which the last attends to everything; the engine's embeddings need one that does
GEMMA_NORMS = (
    _as("attn_norm.weight", (WIDTH,)),
    _as("attn_q_norm.weight", (HEAD,)),
    _as("attn_k_norm.weight", (HEAD,)),
    _as("post_attention_norm.weight", (WIDTH,)),
    _as("ffn_norm.weight", (WIDTH,)),
    _as("post_ffw_norm.weight", (WIDTH,)),
)
GEMMA = {k: v for k, v in BASE.items() if k not in ("rope.freq_base", "attention.layer_norm_rms_epsilon")} | {
    "attention.key_length": HEAD,
    "attention.value_length": HEAD,
    "attention.sliding_window": 32,
}
CLIP_SIZES = {
    "block_count": LAYERS,
    "embedding_length": EYES,
    "attention.head_count": 2,
    "patch_size": PATCH,
    "image_size": SIDE,
}
GEMMA3 = Twins(
    theirs="gemma3",
    ours="gemma3",
    both=GEMMA,
    only_theirs={
        "gemma3.rope.global.freq_base": 500_000.0,
        "gemma3.rope.local.freq_base": 20_000.0,
        "gemma3.mm.tokens_per_image": 4,
        "gemma3.vision.feed_forward_length": 2 * EYES,
        "gemma3.vision.num_channels": 3,
        "gemma3.vision.attention.layer_norm_epsilon": 1e-6,
        **{f"gemma3.vision.{key}": value for key, value in CLIP_SIZES.items()},
    },
    only_ours={
        "gemma3.rope.freq_base": 500_000.0,
        "gemma3.rope.freq_base_swa": 20_000.0,
        "gemma3.attention.layer_norm_rms_epsilon": 1e-6,
    },
    tensors=(*WORDS, *_blocks(*ATTENTION, OUTPUT, *FORWARD, *GEMMA_NORMS)),
    eyes=(
        Tensor("v.patch_embedding.weight", "v.patch_embd.weight", (EYES, 3, PATCH, PATCH), half=True),
        Tensor("v.patch_embedding.bias", "v.patch_embd.bias", (EYES,)),
        Tensor("v.position_embedding.weight", "v.position_embd.weight", ((SIDE // PATCH) ** 2, EYES), half=True),
        Tensor("v.post_layernorm.weight", "v.post_ln.weight", (EYES,)),
        Tensor("v.post_layernorm.bias", "v.post_ln.bias", (EYES,)),
        Tensor("mm.mm_input_projection.weight", "mm.input_projection.weight", (EYES, WIDTH)),
        Tensor("mm.mm_soft_emb_norm.weight", "mm.soft_emb_norm.weight", (EYES,)),
        *_blocks(
            *((f"attn_{x}.weight", f"attn_{x}.weight", (EYES, EYES)) for x in "qkv"),
            *((f"attn_{x}.bias", f"attn_{x}.bias", (EYES,)) for x in "qkv"),
            ("attn_output.weight", "attn_out.weight", (EYES, EYES)),
            ("attn_output.bias", "attn_out.bias", (EYES,)),
            ("layer_norm1.weight", "ln1.weight", (EYES,)),
            ("layer_norm1.bias", "ln1.bias", (EYES,)),
            ("layer_norm2.weight", "ln2.weight", (EYES,)),
            ("layer_norm2.bias", "ln2.bias", (EYES,)),
            ("mlp.fc1.weight", "ffn_up.weight", (2 * EYES, EYES)),
            ("mlp.fc1.bias", "ffn_up.bias", (2 * EYES,)),
            ("mlp.fc2.weight", "ffn_down.weight", (EYES, 2 * EYES)),
            ("mlp.fc2.bias", "ffn_down.bias", (EYES,)),
            prefix="v.blk",
        ),
    ),
    clip={
        "general.type": "mmproj",
        "clip.has_vision_encoder": True,
        "clip.projector_type": "gemma3",
        "clip.use_gelu": True,
        "clip.vision.feed_forward_length": 2 * EYES,
        "clip.vision.projection_dim": WIDTH,
        "clip.vision.attention.layer_norm_epsilon": 1e-6,
        "clip.vision.image_mean": [0.5, 0.5, 0.5],
        "clip.vision.image_std": [0.5, 0.5, 0.5],
        **{f"clip.vision.{key}": value for key, value in CLIP_SIZES.items()},
    },
    more_tokens=3,
)

EMBEDDING_GEMMA = Twins(
    theirs="gemma3",
    ours="gemma-embedding",
    both=GEMMA
    | {
        "block_count": GEMMA_PERIOD,
        "rope.freq_base": 1_000_000.0,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "pooling_type": 1,
    },
    only_theirs={"gemma3.attention.causal": False, "gemma3.attention.sliding_window_pattern": [True, False]},
    only_ours={
        "gemma-embedding.rope.freq_base_swa": 10_000.0,
        "gemma-embedding.dense_2_feat_in": WIDTH,
        "gemma-embedding.dense_2_feat_out": 2 * WIDTH,
        "gemma-embedding.dense_3_feat_in": 2 * WIDTH,
        "gemma-embedding.dense_3_feat_out": WIDTH,
    },
    tensors=(
        *_same((TOKENS, WIDTH), "token_embd.weight"),
        Tensor("norm.weight", "output_norm.weight", (WIDTH,)),
        Tensor("dense.0.weight", "dense_2.weight", (2 * WIDTH, WIDTH)),
        Tensor("dense.1.weight", "dense_3.weight", (WIDTH, 2 * WIDTH)),
        *_blocks(*ATTENTION, OUTPUT, *FORWARD, *GEMMA_NORMS, layers=GEMMA_PERIOD),
    ),
)

QWEN25VL = Twins(
    theirs="qwen25vl",
    ours="qwen2vl",
    both=BASE,
    only_theirs={
        "qwen25vl.rope.mrope_section": [2, 3, 3],
        "qwen25vl.vision.fullatt_block_indexes": [1],
        "qwen25vl.vision.num_channels": 3,
        "qwen25vl.vision.spatial_merge_size": 2,
        "qwen25vl.vision.window_size": 56,
        "qwen25vl.vision.attention.layer_norm_epsilon": 1e-6,
        **{f"qwen25vl.vision.{key}": value for key, value in CLIP_SIZES.items() if key != "image_size"},
    },
    only_ours={"qwen2vl.rope.dimension_sections": [2, 3, 3, 0]},
    tensors=(
        *WORDS,
        *_same((TOKENS, WIDTH), "output.weight"),
        *_blocks(
            *ATTENTION,
            OUTPUT,
            *FORWARD,
            _as("attn_q.bias", (HEADS * HEAD,)),
            _as("attn_k.bias", (KV_HEADS * HEAD,)),
            _as("attn_v.bias", (KV_HEADS * HEAD,)),
            _as("attn_norm.weight", (WIDTH,)),
            _as("ffn_norm.weight", (WIDTH,)),
        ),
    ),
    eyes=(
        Tensor("v.patch_embd_0.weight", "v.patch_embd.weight", (EYES, 3, PATCH, PATCH), half=True),
        Tensor("v.patch_embd_1.weight", "v.patch_embd.weight.1", (EYES, 3, PATCH, PATCH), half=True),
        Tensor("v.merger.ln_q.weight", "v.post_ln.weight", (EYES,)),
        Tensor("v.merger.mlp.0.weight", "mm.0.weight", (4 * EYES, 4 * EYES)),
        Tensor("v.merger.mlp.0.bias", "mm.0.bias", (4 * EYES,)),
        Tensor("v.merger.mlp.2.weight", "mm.2.weight", (WIDTH, 4 * EYES)),
        Tensor("v.merger.mlp.2.bias", "mm.2.bias", (WIDTH,)),
        *_blocks(
            *((f"attn_{x}.weight", f"attn_{x}.weight", (EYES, EYES)) for x in ("q", "k", "v", "out")),
            *((f"attn_{x}.bias", f"attn_{x}.bias", (EYES,)) for x in ("q", "k", "v", "out")),
            _as("ln1.weight", (EYES,)),
            _as("ln2.weight", (EYES,)),
            *((f"ffn_{x}.weight", f"ffn_{x}.weight", (2 * EYES, EYES)) for x in ("gate", "up")),
            *((f"ffn_{x}.bias", f"ffn_{x}.bias", (2 * EYES,)) for x in ("gate", "up")),
            _as("ffn_down.weight", (EYES, 2 * EYES)),
            _as("ffn_down.bias", (EYES,)),
            prefix="v.blk",
        ),
    ),
    clip={
        "general.type": "mmproj",
        "clip.has_vision_encoder": True,
        "clip.projector_type": "qwen2.5vl_merger",
        "clip.use_silu": True,
        "clip.vision.feed_forward_length": 2 * EYES,
        "clip.vision.projection_dim": WIDTH,
        "clip.vision.attention.layer_norm_epsilon": 1e-6,
        "clip.vision.n_wa_pattern": 2,
        "clip.vision.spatial_merge_size": 2,
        "clip.vision.window_size": 56,
        "clip.vision.image_mean": [0.48145466, 0.4578275, 0.40821073],
        "clip.vision.image_std": [0.26862954, 0.26130258, 0.27577711],
        **{f"clip.vision.{key}": value for key, value in CLIP_SIZES.items() if key != "image_size"},
        "clip.vision.image_size": 560,
    },
)

MISTRAL3 = Twins(
    theirs="mistral3",
    ours="mistral3",
    both=BASE | {"rope.scaling.type": "yarn", "rope.scaling.factor": 8.0, "rope.scaling.original_context_length": 16},
    only_theirs={
        "tokenizer.ggml.pre": "default",
        "mistral3.rope.scaling.beta_fast": 30.0,
        "mistral3.rope.scaling.beta_slow": 2.0,
        "mistral3.rope.scaling.mscale_all_dim": 0.5,
        "mistral3.rope.scaling_beta": 0.3,
        "mistral3.vision.block_count": LAYERS,
    },
    only_ours={
        "tokenizer.ggml.pre": "tekken",
        "mistral3.rope.scaling.yarn_beta_fast": 30.0,
        "mistral3.rope.scaling.yarn_beta_slow": 2.0,
        "mistral3.rope.scaling.yarn_log_multiplier": 0.5,
        "mistral3.attention.temperature_scale": 0.3,
    },
    tensors=(
        *WORDS,
        *_same((TOKENS, WIDTH), "output.weight"),
        *_blocks(*ATTENTION, OUTPUT, *FORWARD, _as("attn_norm.weight", (WIDTH,)), _as("ffn_norm.weight", (WIDTH,))),
    ),
    lost=tuple(_same((EYES, EYES), "v.blk.0.attn_q.weight", "mm.linear_1.weight")),
)

BROAD = 128  # numbers per head, as all models of Qwen3-VL have
QWEN3VL = Twins(
    theirs="qwen3vl",
    ours="qwen3vl",
    both=BASE | {"attention.key_length": BROAD, "attention.value_length": BROAD},
    only_theirs={"qwen3vl.vision.deepstack_visual_indexes": [0], "qwen3vl.vision.block_count": LAYERS},
    only_ours={"qwen3vl.rope.dimension_sections": [24, 20, 20, 0], "qwen3vl.n_deepstack_layers": 1},
    tensors=(
        *WORDS,
        *_same((TOKENS, WIDTH), "output.weight"),
        *_blocks(
            *FORWARD,
            _as("attn_q.weight", (HEADS * BROAD, WIDTH)),
            _as("attn_k.weight", (KV_HEADS * BROAD, WIDTH)),
            _as("attn_v.weight", (KV_HEADS * BROAD, WIDTH)),
            _as("attn_output.weight", (WIDTH, HEADS * BROAD)),
            _as("attn_q_norm.weight", (BROAD,)),
            _as("attn_k_norm.weight", (BROAD,)),
            _as("attn_norm.weight", (WIDTH,)),
            _as("ffn_norm.weight", (WIDTH,)),
        ),
    ),
    lost=tuple(_same((EYES, EYES), "v.blk.0.attn_q.weight", "v.merger.linear_fc1.weight")),
)

QUERY_RANK, RANK, TURNED, LATENT = (
    24,
    32,
    8,
    16,
)  # of the compressed attention; numbers of a head that turn, and that do not
GLM4_FLASH = Twins(
    theirs="glm4moelite",
    ours="deepseek2",
    both={k: v for k, v in BASE.items() if k != "attention.head_count_kv"}
    | {
        "leading_dense_block_count": 1,
        "attention.q_lora_rank": QUERY_RANK,
        "attention.kv_lora_rank": RANK,
        "rope.dimension_count": TURNED,
        "expert_count": EXPERTS,
        "expert_used_count": 2,
        "expert_shared_count": 1,
        "expert_feed_forward_length": FEED,
        "expert_weights_scale": 1.8,
        "expert_weights_norm": True,
        "expert_gating_func": 2,
        "vocab_size": TOKENS,
    },
    only_theirs={
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.eos_token_ids": [2, 1, 0],
        "glm4moelite.attention.head_count_kv": HEADS,
        "glm4moelite.attention.key_length": LATENT + TURNED,
        "glm4moelite.attention.value_length": LATENT + TURNED,
        "glm4moelite.attention.key_length_mla": RANK + TURNED,
        "glm4moelite.attention.value_length_mla": RANK,
    },
    only_ours={
        "tokenizer.ggml.pre": "glm4",
        "tokenizer.ggml.eot_token_id": 1,
        "tokenizer.ggml.eom_token_id": 0,
        "deepseek2.attention.head_count_kv": 1,
        "deepseek2.attention.key_length": RANK + TURNED,
        "deepseek2.attention.value_length": RANK,
        "deepseek2.attention.key_length_mla": LATENT + TURNED,
        "deepseek2.attention.value_length_mla": LATENT + TURNED,
        "deepseek2.expert_group_count": 1,
        "deepseek2.expert_group_used_count": 1,
    },
    tensors=(
        *WORDS,
        *_same((TOKENS, WIDTH), "output.weight"),
        *_blocks(
            _as("attn_norm.weight", (WIDTH,)),
            _as("attn_q_a_norm.weight", (QUERY_RANK,)),
            _as("attn_kv_a_norm.weight", (RANK,)),
            _as("attn_q_a.weight", (QUERY_RANK, WIDTH)),
            _as("attn_q_b.weight", (HEADS * (LATENT + TURNED), QUERY_RANK)),
            _as("attn_kv_a_mqa.weight", (RANK + TURNED, WIDTH)),
            _as("attn_k_b.weight", (HEADS, RANK, LATENT)),
            _as("attn_v_b.weight", (HEADS, LATENT + TURNED, RANK)),
            _as("attn_output.weight", (WIDTH, HEADS * (LATENT + TURNED))),
            _as("ffn_norm.weight", (WIDTH,)),
        ),
        *(Tensor(f"blk.0.{name}", f"blk.0.{name}", shape) for name, _, shape in FORWARD),
        *_same((EXPERTS, WIDTH), "blk.1.ffn_gate_inp.weight"),
        *_same((EXPERTS,), "blk.1.exp_probs_b.bias"),
        *_same((EXPERTS, FEED, WIDTH), "blk.1.ffn_gate_exps.weight", "blk.1.ffn_up_exps.weight"),
        *_same((EXPERTS, WIDTH, FEED), "blk.1.ffn_down_exps.weight"),
        *_same((FEED, WIDTH), "blk.1.ffn_gate_shexp.weight", "blk.1.ffn_up_shexp.weight"),
        *_same((WIDTH, FEED), "blk.1.ffn_down_shexp.weight"),
    ),
)

LLAMA4_EXPERTS = (
    _as("ffn_gate_inp.weight", (EXPERTS, WIDTH)),
    _as("ffn_gate_exps.weight", (EXPERTS, FEED, WIDTH)),
    _as("ffn_up_exps.weight", (EXPERTS, FEED, WIDTH)),
    _as("ffn_down_exps.weight", (EXPERTS, WIDTH, FEED)),
    _as("ffn_gate_shexp.weight", (FEED, WIDTH)),
    _as("ffn_up_shexp.weight", (FEED, WIDTH)),
    _as("ffn_down_shexp.weight", (WIDTH, FEED)),
)
SEEN = (SIDE // PATCH) ** 2 + 1  # places of an image, and the one for the whole of it
LLAMA4 = Twins(
    theirs="llama4",
    ours="llama4",
    both=BASE
    | {
        "block_count": 4,  # the last attends to everything, which the engine needs one to do
        "interleave_moe_layer_step": 2,
        "expert_count": EXPERTS,
        "expert_used_count": 1,
        "expert_feed_forward_length": FEED,
    },
    only_theirs={
        "llama4.vision.feed_forward_length": 2 * EYES,
        "llama4.vision.layer_norm_epsilon": 1e-5,
        "llama4.vision.pixel_shuffle_ratio": 0.5,
        **{f"llama4.vision.{key}": value for key, value in CLIP_SIZES.items()},
    },
    only_ours={},
    tensors=(
        *WORDS,
        *_same((TOKENS, WIDTH), "output.weight"),
        *_blocks(*ATTENTION, OUTPUT, _as("attn_norm.weight", (WIDTH,)), _as("ffn_norm.weight", (WIDTH,)), layers=4),
        *(
            Tensor(f"blk.{n}.{name}", f"blk.{n}.{name}", shape)
            for layers, tensors in (((0, 2), FORWARD), ((1, 3), LLAMA4_EXPERTS))
            for n in layers
            for name, _, shape in tensors
        ),
    ),
    eyes=(
        Tensor("v.patch_embedding.weight", "v.patch_embd.weight", (EYES, 3 * PATCH * PATCH)),
        Tensor("v.class_embedding", "v.class_embd", (EYES,)),
        Tensor("v.positional_embedding_vlm", "v.position_embd.weight", (SEEN, EYES)),
        *(
            Tensor(f"v.layernorm_{x}.{y}", f"v.{x}_ln.{y}", (EYES,))
            for x in ("pre", "post")
            for y in ("weight", "bias")
        ),
        Tensor("v.vision_adapter.mlp.fc1.weight", "mm.model.mlp.1.weight", (EYES, 4 * EYES)),
        Tensor("v.vision_adapter.mlp.fc2.weight", "mm.model.mlp.2.weight", (EYES, EYES)),
        Tensor("mm.linear_1.weight", "mm.model.fc.weight", (WIDTH, EYES)),
        *_blocks(
            *((f"attn_{x}.weight", f"attn_{x}.weight", (EYES, EYES)) for x in "qkv"),
            *((f"attn_{x}.bias", f"attn_{x}.bias", (EYES,)) for x in "qkv"),
            ("attn_output.weight", "attn_out.weight", (EYES, EYES)),
            ("attn_output.bias", "attn_out.bias", (EYES,)),
            *(
                (f"{x}_norm.{y}", f"ln{n}.{y}", (EYES,))
                for n, x in ((1, "attn"), (2, "ffn"))
                for y in ("weight", "bias")
            ),
            ("mlp.fc1.weight", "ffn_up.weight", (2 * EYES, EYES)),
            ("mlp.fc1.bias", "ffn_up.bias", (2 * EYES,)),
            ("mlp.fc2.weight", "ffn_down.weight", (EYES, 2 * EYES)),
            ("mlp.fc2.bias", "ffn_down.bias", (EYES,)),
            prefix="v.blk",
        ),
    ),
    clip={
        "general.type": "mmproj",
        "clip.has_vision_encoder": True,
        "clip.projector_type": "llama4",
        "clip.use_gelu": True,
        "clip.vision.feed_forward_length": 2 * EYES,
        "clip.vision.projection_dim": WIDTH,
        "clip.vision.projector.scale_factor": 2,
        "clip.vision.attention.layer_norm_epsilon": 1e-5,
        "clip.vision.image_mean": [0.5, 0.5, 0.5],
        "clip.vision.image_std": [0.5, 0.5, 0.5],
        **{f"clip.vision.{key}": value for key, value in CLIP_SIZES.items()},
    },
)

TWINS = {
    "olmo3": OLMO3,
    "gptoss": GPT_OSS,
    "lfm2": LFM2,
    "gemma3": GEMMA3,
    "embeddinggemma": EMBEDDING_GEMMA,
    "qwen25vl": QWEN25VL,
    "llama4": LLAMA4,
    "mistral3": MISTRAL3,
    "qwen3vl": QWEN3VL,
    "glm4moelite": GLM4_FLASH,
}
