"""How the parts for images of some families become projectors, as llama.cpp's ``clip`` reads them. Tables.

Facts: ``llama/compat`` in Ollama's source, and the constants of the image processors that these models were published with.
"""

from __future__ import annotations

from collections.abc import Mapping

from corral.gguf.ollama.rules import Source, Values, Vision
from corral.gguf.ollama.views import FLOAT32, Array, NewMetadata

_HALVES = Array(FLOAT32, [0.5, 0.5, 0.5])
_CLIP_MEAN = Array(FLOAT32, [0.48145466, 0.4578275, 0.40821073])
_CLIP_DEVIATION = Array(FLOAT32, [0.26862954, 0.26130258, 0.27577711])
_SIZES = {
    f"vision.{key}": f"vision.{key}"
    for key in ("block_count", "embedding_length", "attention.head_count", "patch_size")
}
_OUTPUT = {"embedding_length": "vision.projection_dim"}
_EPSILON = {"vision.attention.layer_norm_epsilon": "vision.attention.layer_norm_epsilon"}
_WIDTH = {"vision.feed_forward_length": "vision.feed_forward_length"}
_IMAGE = {"vision.image_size": "vision.image_size"}


def _defaults(kind: str, mean: Array, deviation: Array, more: Mapping[str, NewMetadata]) -> Values:
    return {
        "has_vision_encoder": True,
        "projector_type": kind,
        "vision.image_mean": mean,
        "vision.image_std": deviation,
        **more,
    }


GEMMA3 = Vision(
    keys=_SIZES | _WIDTH | _IMAGE | _EPSILON | _OUTPUT,
    defaults=_defaults("gemma3", _HALVES, _HALVES, {"use_gelu": True}),
    renames=(
        (r"^v\.patch_embedding\.", "v.patch_embd."),
        (r"^v\.position_embedding\.", "v.position_embd."),
        (r"^v\.post_layernorm\.", "v.post_ln."),
        (r"\.layer_norm1\.", ".ln1."),
        (r"\.layer_norm2\.", ".ln2."),
        (r"\.attn_output\.", ".attn_out."),
        (r"\.mlp\.fc1\.", ".ffn_up."),
        (r"\.mlp\.fc2\.", ".ffn_down."),
        (r"^mm\.mm_input_projection\.", "mm.input_projection."),
        (r"^mm\.mm_soft_emb_norm\.", "mm.soft_emb_norm."),
    ),
    widened=("v.patch_embd.weight", "v.position_embd.weight"),
)


def _qwen25vl(source: Source) -> Values:
    """Every how many layers attend to the whole image, from the first that does."""
    whole = source.numbers("vision.fullatt_block_indexes")
    values: dict[str, NewMetadata] = {"vision.n_wa_pattern": whole[0] + 1 if whole else 8}
    width = source.width("v.blk.0.ffn_up.weight", 1)
    if width:
        values["vision.feed_forward_length"] = width
    return values


QWEN25VL = Vision(
    keys=_SIZES
    | _EPSILON
    | _OUTPUT
    | {f"vision.{key}": f"vision.{key}" for key in ("num_channels", "spatial_merge_size", "window_size")},
    defaults=_defaults("qwen2.5vl_merger", _CLIP_MEAN, _CLIP_DEVIATION, {"use_silu": True, "vision.image_size": 560}),
    renames=(
        (r"^v\.merger\.ln_q\.", "v.post_ln."),
        (r"^v\.merger\.mlp\.0\.", "mm.0."),
        (r"^v\.merger\.mlp\.2\.", "mm.2."),
        (r"^v\.patch_embd_0\.weight$", "v.patch_embd.weight"),
        (r"^v\.patch_embd_1\.weight$", "v.patch_embd.weight.1"),
    ),
    values=_qwen25vl,
    widened=("v.patch_embd.weight", "v.patch_embd.weight.1"),
)


def _llama4(source: Source) -> Values:
    ratio = source.value("vision.pixel_shuffle_ratio")
    scale = round(1 / ratio) if isinstance(ratio, float) and 0.01 < ratio <= 1 else 2
    return {"vision.projector.scale_factor": scale, "vision.projector_type": "llama4"}


LLAMA4 = Vision(
    keys=_SIZES | _WIDTH | _IMAGE | _OUTPUT | {"vision.layer_norm_epsilon": "vision.attention.layer_norm_epsilon"},
    defaults=_defaults("llama4", _HALVES, _HALVES, {"use_gelu": True}),
    renames=(
        (r"^v\.vision_adapter\.mlp\.fc1\.", "mm.model.mlp.1."),
        (r"^v\.vision_adapter\.mlp\.fc2\.", "mm.model.mlp.2."),
        (r"^mm\.linear_1\.", "mm.model.fc."),
        (r"^v\.class_embedding", "v.class_embd"),
        (r"^v\.layernorm_post\.", "v.post_ln."),
        (r"^v\.layernorm_pre\.", "v.pre_ln."),
        (r"^v\.patch_embedding\.", "v.patch_embd."),
        (r"^v\.positional_embedding_vlm$", "v.position_embd.weight"),
        (r"\.attn_output\.", ".attn_out."),
        (r"\.attn_norm\.", ".ln1."),
        (r"\.ffn_norm\.", ".ln2."),
        (r"\.mlp\.fc1\.", ".ffn_up."),
        (r"\.mlp\.fc2\.", ".ffn_down."),
    ),
    values=_llama4,
    widened=(),
)

GEMMA4 = Vision(
    keys=_SIZES | _WIDTH | _EPSILON | _OUTPUT,
    defaults={
        "has_vision_encoder": True,
        "vision.projector_type": "gemma4v",
        "vision.image_size": 224,
        "vision.image_mean": Array(FLOAT32, [0.0, 0.0, 0.0]),
        "vision.image_std": Array(FLOAT32, [1.0, 1.0, 1.0]),
    },
)

DEEPSEEK_OCR = Vision(
    keys=_IMAGE
    | {
        "vision.block_count": "vision.block_count",
        "vision.embedding_length": "vision.embedding_length",
        "vision.head_count": "vision.attention.head_count",
        "vision.patch_size": "vision.patch_size",
        "sam.block_count": "vision.sam.block_count",
        "sam.embedding_length": "vision.sam.embedding_length",
        "sam.head_count": "vision.sam.head_count",
    },
    defaults=_defaults(
        "deepseekocr",
        _HALVES,
        _HALVES,
        {
            "use_gelu": True,
            "vision.feed_forward_length": 64,
            "vision.projection_dim": 1280,
            "vision.projector.scale_factor": 1,
            "vision.window_size": 14,
            "vision.attention.layer_norm_epsilon": 1e-6,
        },
    ),
    renames=(
        (r"^s\.position_embd$", "v.sam.pos_embd.weight"),
        (r"^s\.(.*)\.attn\.proj\.", r"v.sam.\1.attn.out."),
        (r"^s\.(.*)\.attn\.rel_pos_([hw])$", r"v.sam.\1.attn.pos_\2.weight"),
        (r"^s\.(.*)\.norm1\.", r"v.sam.\1.pre_ln."),
        (r"^s\.(.*)\.norm2\.", r"v.sam.\1.post_ln."),
        (r"^s\.", "v.sam."),
        (r"\.self_attn\.out_proj\.", ".attn_out."),
        (r"\.self_attn\.qkv_proj\.", ".attn_qkv."),
        (r"\.layer_norm1\.", ".ln1."),
        (r"\.layer_norm2\.", ".ln2."),
        (r"^v\.(.*)\.mlp\.fc1\.", r"v.\1.ffn_up."),
        (r"^v\.(.*)\.mlp\.fc2\.", r"v.\1.ffn_down."),
        (r"^v\.pre_layrnorm\.", "v.pre_ln."),
        (r"^mm\.layers\.", "mm.model.fc."),
        (r"^mm\.image_newline", "v.image_newline"),
        (r"^mm\.view_seperator", "v.view_seperator"),
    ),
    tensors=("v.", "mm.", "s."),
    widened=("v.patch_embd.weight", "v.sam.patch_embd.weight", "v.position_embd.weight"),
)
