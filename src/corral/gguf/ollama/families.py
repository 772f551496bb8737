"""The families of which Ollama's registry has files in its own dialect, and what becomes of them.

Facts: the engine of Ollama translates these files while it loads them (``llama/compat`` in its source); its README has the list.
A file in llama.cpp's dialect matches none of the marks here.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Mapping
from typing import Final

from corral.errors import GgufError, NotSupported
from corral.gguf.ollama.projectors import DEEPSEEK_OCR, GEMMA3, GEMMA4, LLAMA4, QWEN25VL
from corral.gguf.ollama.rules import (
    Family,
    Source,
    Values,
    model_view,
    projector_view,
    truncated,
    vocabulary_size,
)
from corral.gguf.ollama.views import INT32, UINT8, Array, Kept, NewMetadata, Translation, View
from corral.gguf.reader import ArraySummary, GgufFile

ELSEWHERE: Final = "a GGUF file made for llama.cpp, such as those on Hugging Face (corral pull hf.co/USER/REPOSITORY)"
_MERGED = "its part for images has parts of tensors where llama.cpp wants whole ones"
_OF_PROJECTORS: Final = ("v.", "mm.", "a.")
_SPM_PRE = ("", "default")


def translation(file: GgufFile) -> Translation | None:
    """What has to be done to ``file`` before llama.cpp loads it; ``None`` if nothing has.

    Raises `NotSupported` for a file of the dialect that cannot be translated, `GgufError` for one that makes no sense.
    ``file`` may have been read without its arrays; what is to be written must come from one read with them.
    """
    source = Source.of(file)
    if source.architecture == "clip":
        return _nameless_projector(source)
    family = next((f for f in FAMILIES if f.architecture == source.architecture and f.is_dialect(source)), None)
    if family is None:
        if found := _in_one_file(source):
            return found
        _refuse_what_is_unknown(source)
        return None
    name = family.name or family.architecture
    if reason := family.refusal(source):
        raise NotSupported(refusal(name, reason))
    projector = projector_view(source, family.vision) if family.vision else None
    lacks = ""
    if projector is None and source.any_tensor("v."):
        lacks = refusal(name, family.lacks or "its part for images is not known", "images")
    return Translation(name, model_view(source, family, keep_vision=projector is not None), projector, lacks)


def refusal(family: str, reason: str, what: str = "") -> str:
    """One sentence: which family, why, and what to pull instead."""
    subject = f"{what} are not supported: the file" if what else "the file"
    return f"{subject} is in Ollama's own form of {family}, and {reason}; try: {ELSEWHERE}"


def _nameless_projector(source: Source) -> Translation | None:
    """LLaVA's first projectors do not say what kind they are."""
    metadata = source.file.metadata
    if metadata.get("clip.has_vision_encoder") is not True:
        return None
    if "clip.projector_type" in metadata or "clip.vision.projector_type" in metadata:
        return None
    everything = Family("clip", _always, values=lambda source: {"clip.projector_type": "mlp"}, embedded=())
    return Translation("llava", model_view(source, everything, keep_vision=True))


def _in_one_file(source: Source) -> Translation | None:
    """A model and its projector, both as llama.cpp has them: nothing gets another name, but it takes two files.

    llama.cpp counts the tensors of a model, and refuses one that has more.
    """
    keys = source.file.metadata
    described = [key for key in keys if key.startswith("clip.")]
    if not described or not source.any_tensor("v.", "a.") or not source.any_tensor("token_embd."):
        return None
    general = [key for key in ("general.alignment", "general.file_type") if key in keys]
    kept = {name: Kept(tensor, name, tensor.shape) for name, tensor in source.tensors.items()}
    model = View(
        {key: key for key in keys if not key.startswith("clip.")},
        {},
        tuple(tensor for name, tensor in kept.items() if not name.startswith(_OF_PROJECTORS)),
    )
    projector = View(
        {key: key for key in (*general, *described)},
        {"general.architecture": "clip", "general.type": "mmproj"},
        tuple(tensor for name, tensor in kept.items() if name.startswith(_OF_PROJECTORS)),
    )
    return Translation(source.architecture, model, projector)


def _refuse_what_is_unknown(source: Source) -> None:
    """A text model of llama.cpp's never has tensors for images, and these architectures it does not have at all."""
    name = source.architecture
    if name in _ONLY_OLLAMA:
        raise NotSupported(refusal(name, _ONLY_OLLAMA[name]))
    if source.any_tensor("v.blk.", "v.patch_emb") and source.any_tensor("token_embd."):
        raise NotSupported(
            refusal(name[:40] or "no family", "it has text and images in one file in a way not known here")
        )


_ONLY_OLLAMA: Mapping[str, str] = {
    "mllama": "llama.cpp has no such architecture",
    "glmocr": "llama.cpp wants tensors in one that this file has in two",
}


# -- values that are worked out ---------------------------------------------------------------------------------------


def _where_missing(source: Source, values: Mapping[str, NewMetadata | None]) -> dict[str, NewMetadata]:
    """Those of ``values``, by whole key, that the file has under no key of its own."""
    return {k: v for k, v in values.items() if v is not None and k not in source.file.metadata}


def _gemma3(source: Source) -> Values:
    long = (source.number("context_length") or 0) >= 131072
    values: dict[str, NewMetadata | None] = {
        "gemma3.attention.layer_norm_rms_epsilon": 1e-6,
        "gemma3.rope.freq_base": None if source.has("rope.global.freq_base") else 1_000_000.0,
        "gemma3.rope.freq_base_swa": None if source.has("rope.local.freq_base") else 10_000.0,
        "gemma3.rope.scaling.type": "linear" if long else None,
        "gemma3.rope.scaling.factor": 8.0 if long else None,
    }
    rows = source.width("token_embd.weight", 1)
    return _where_missing(source, values) | (truncated(source, rows) if rows else {})


def _embedding_gemma(source: Source) -> Values:
    first, second = source.tensors["dense.0.weight"], source.tensors.get("dense.1.weight")
    if second is None or len(first.shape) != 2 or len(second.shape) != 2:
        raise GgufError(f"{source.file.path.name} cannot be used: its dense layers are incomplete")
    values: dict[str, NewMetadata] = {
        "gemma-embedding.dense_2_feat_in": first.shape[0],
        "gemma-embedding.dense_2_feat_out": first.shape[1],
        "gemma-embedding.dense_3_feat_in": second.shape[0],
        "gemma-embedding.dense_3_feat_out": second.shape[1],
    }
    if not source.has("rope.freq_base_swa"):
        values["gemma-embedding.rope.freq_base_swa"] = 10_000.0
    if not source.has("attention.layer_norm_rms_epsilon"):
        values["gemma-embedding.attention.layer_norm_rms_epsilon"] = 1e-6
    return values


def _gemma3n_rows(source: Source) -> int:
    """How many tokens the layers' own embeddings have; fewer than the model's, whose last are for images and sounds."""
    return source.width("per_layer_token_embd.weight", 1) or 0


def _gemma3n_shapes(source: Source) -> Mapping[str, tuple[int, ...]]:
    whole = source.tensors.get("token_embd.weight")
    rows = _gemma3n_rows(source)
    return {whole.name: (whole.shape[0], rows)} if whole and rows and rows < whole.shape[-1] else {}


def _is_gemma3n(source: Source) -> bool:
    rows = source.width("token_embd.weight", 1) or 0
    return 0 < _gemma3n_rows(source) < rows or source.any_tensor("v.", "a.", "mm.")


def _gemma3n(source: Source) -> Values:
    values = truncated(source, _gemma3n_rows(source))
    tokens, types = (source.file.metadata.get(f"tokenizer.ggml.{key}") for key in ("tokens", "token_type"))
    if isinstance(tokens, list) and isinstance(types, list):
        kept = list(zip(tokens, types, strict=False))[: _gemma3n_rows(source)]
        values["tokenizer.ggml.token_type"] = Array(INT32, [_gemma3n_type(str(token), kind) for token, kind in kept])
    return values | {"tokenizer.ggml.model": "llama"}


def _gemma3n_type(token: str, kind: object) -> int:
    """llama.cpp's number for the kind of a token: 6 is a byte, 1 an ordinary one."""
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return 6
    if token.startswith("<unused"):
        return 1
    return kind if isinstance(kind, int) else 1


def _gptoss(source: Source) -> Values:
    values: dict[str, NewMetadata] = {"tokenizer.ggml.pre": "gpt-4o"}
    if not source.has("rope.scaling.type"):
        values["gpt-oss.rope.scaling.type"] = "yarn"
    width = source.width("blk.0.ffn_gate_exps.weight", 1)
    if width and not source.has("expert_feed_forward_length"):
        values["gpt-oss.expert_feed_forward_length"] = width
    return values


def _lfm2(source: Source) -> Values:
    width = source.width("blk.0.ffn_gate.weight", 1)
    length: dict[str, NewMetadata] = {"lfm2.feed_forward_length": width} if width else {}
    return {"tokenizer.ggml.pre": "lfm2", **length}


def _mistral3(source: Source) -> Values:
    return {"tokenizer.ggml.pre": "tekken"} if source.text("tokenizer.ggml.pre") in _SPM_PRE else {}


def _glm4_moe_lite(source: Source) -> Values:
    rank, rope = source.number("attention.kv_lora_rank"), source.number("rope.dimension_count")
    head = source.number("attention.key_length")
    if not rank or not rope or not head:
        raise GgufError(f"{source.file.path.name} cannot be used: it does not say how wide its attention is")
    values: dict[str, NewMetadata] = {
        "deepseek2.attention.head_count_kv": 1,
        "deepseek2.attention.key_length": rank + rope,
        "deepseek2.attention.value_length": rank,
        "deepseek2.attention.key_length_mla": head,
        "deepseek2.attention.value_length_mla": head,
        "tokenizer.ggml.pre": "glm4",
    }
    for key in ("expert_group_count", "expert_group_used_count"):
        if not source.has(key):
            values[f"deepseek2.{key}"] = 1
    ends = source.file.metadata.get("tokenizer.ggml.eos_token_ids")
    if isinstance(ends, list):
        for place, key in ((1, "eot_token_id"), (2, "eom_token_id")):
            if place < len(ends) and isinstance(end := ends[place], int) and end >= 0:
                values |= _where_missing(source, {f"tokenizer.ggml.{key}": end})
    return values


def _sections(source: Source, key: str) -> Array | None:
    """Three sections of a rotation as four, the last of them empty; ``None`` if there are not three."""
    found = source.numbers(key)
    return Array(INT32, [*found, 0]) if len(found) == 3 else None


def _qwen25vl(source: Source) -> Values:
    sections = _sections(source, "rope.mrope_section")
    return {"qwen2vl.rope.dimension_sections": sections} if sections else {}


_QWEN3VL_HEAD = 128  # numbers per head; of the models that there are


def _qwen3vl(source: Source) -> Values:
    values: dict[str, NewMetadata] = {f"{source.architecture}.rope.dimension_sections": Array(INT32, [24, 20, 20, 0])}
    if not source.has("n_deepstack_layers"):
        deep = len(source.numbers("vision.deepstack_visual_indexes"))
        values[f"{source.architecture}.n_deepstack_layers"] = deep
    return values


def _qwen3vl_refusal(source: Source) -> str:
    width, heads = source.number("embedding_length") or 0, source.number("attention.head_count") or 1
    head = source.number("attention.key_length") or width // heads
    return "" if head == _QWEN3VL_HEAD else "it does not say how its positions are rotated"


def _largest_of_heads(source: Source) -> dict[str, NewMetadata]:
    """A list of heads per layer, with none where a layer has another kind of attention, as the one number that the others have."""
    key = "attention.head_count_kv"
    value = source.value(key)
    if not isinstance(value, list | ArraySummary):
        return {}
    if isinstance(value, ArraySummary):  # left out while only facts are asked for; which are as good with the first
        return {}
    return {f"{source.architecture}.{key}": max(source.numbers(key), default=0) or 2}


def _qwen35(source: Source) -> Values:
    sections = _sections(source, "rope.dimension_sections")
    rotation: dict[str, NewMetadata] = {f"{source.architecture}.rope.dimension_sections": sections} if sections else {}
    return _largest_of_heads(source) | rotation


def _is_qwen35(source: Source) -> bool:
    return source.has(
        "vision.block_count", "image_token_id", "ssm.v_head_reordered", "rope.mrope_interleaved"
    ) or source.any_tensor("mtp.", "v.")


def _deepseek_ocr(source: Source) -> Values:
    values: dict[str, NewMetadata] = {}
    if not source.has("attention.layer_norm_rms_epsilon"):
        values["deepseek2-ocr.attention.layer_norm_rms_epsilon"] = 1e-6
    width = source.number("expert_feed_forward_length") or source.width("blk.1.ffn_down_exps.weight", 0)
    shared = source.width("blk.1.ffn_down_shexp.weight", 0)
    if width and not source.has("expert_feed_forward_length"):
        values["deepseek2-ocr.expert_feed_forward_length"] = width
    if width and shared and not source.has("expert_shared_count"):
        values["deepseek2-ocr.expert_shared_count"] = shared // width
    return values


def _nemotron(source: Source) -> Values:
    latent = next((t for name, t in source.tensors.items() if name.endswith(".ffn_latent_in.weight")), None)
    if latent is None or len(latent.shape) < 2 or source.has("moe_latent_size"):
        return {}
    return {f"{_nemotron_text(source)}.moe_latent_size": latent.shape[1]}


def _nemotron_text(source: Source) -> str:
    if source.architecture != "nemotron_h_omni":
        return source.architecture
    experts = source.number("expert_count") or source.number("expert_used_count")
    return "nemotron_h_moe" if experts else "nemotron_h"


_CHARSMAP = "tokenizer.ggml.precompiled_charsmap"


def _is_snowflake(source: Source) -> bool:
    """A table of bytes that was stored as a list of the letters of its base64 text."""
    table = source.file.metadata.get(_CHARSMAP)
    if isinstance(table, ArraySummary):
        return source.text("tokenizer.ggml.model") == "t5" and table.first is None and table.count > 0
    return (
        source.text("tokenizer.ggml.model") == "t5"
        and isinstance(table, list)
        and table[:1] != []
        and isinstance(table[0], str)
    )


def _snowflake(source: Source) -> Values:
    table = source.file.metadata.get(_CHARSMAP)
    if not isinstance(table, list):
        return {}
    try:
        data = binascii.a2b_base64("".join(map(str, table)).encode(), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError) as exc:
        raise GgufError(f"{source.file.path.name} cannot be used: its tokenizer's table is no base64") from exc
    return {_CHARSMAP: Array(UINT8, list(data))}


def _is_gemma3(source: Source) -> bool:
    rows = source.width("token_embd.weight", 1)
    return (
        source.has("mm.tokens_per_image", "rope.global.freq_base", "rope.local.freq_base")
        or source.any_tensor("v.", "mm.")
        or not source.has("attention.layer_norm_rms_epsilon")
        or (rows is not None and vocabulary_size(source) > rows)
    )


def _gptoss_refusal(source: Source) -> str:
    if source.any_named(r"\.attn_qkv\.|\.ffn_gate_up_exps\."):
        return "llama.cpp wants tensors apart that this file has in one"
    return ""


def _always(source: Source) -> bool:
    return True


def _named(name: str) -> Callable[[Source], str]:
    return lambda source: name


_YARN = {
    "rope.scaling.beta_fast": "rope.scaling.yarn_beta_fast",
    "rope.scaling.beta_slow": "rope.scaling.yarn_beta_slow",
    "rope.scaling.mscale_all_dim": "rope.scaling.yarn_log_multiplier",
    "rope.scaling_beta": "attention.temperature_scale",
}
_SSM_BIAS = ((r"\.ssm_dt$", ".ssm_dt.bias"),)
_LATENT = ((r"\.ffn_latent_in\.", ".ffn_latent_down."), (r"\.ffn_latent_out\.", ".ffn_latent_up."))


# The first family of an architecture whose mark a file bears is the one.
FAMILIES: Final = (
    Family(
        "gemma3",
        lambda source: "dense.0.weight" in source.tensors,
        name="embeddinggemma",
        becomes=_named("gemma-embedding"),
        left_out=("attention.causal", "attention.sliding_window_pattern"),
        tensors=(
            (r"^dense\.0\.weight$", "dense_2.weight"),
            (r"^dense\.1\.weight$", "dense_3.weight"),
            (r"^norm\.weight$", "output_norm.weight"),
        ),
        values=_embedding_gemma,
    ),
    Family(
        "gemma3",
        _is_gemma3,
        keys={"rope.global.freq_base": "rope.freq_base", "rope.local.freq_base": "rope.freq_base_swa"},
        left_out=("mm.",),
        values=_gemma3,
        vision=GEMMA3,
    ),
    Family(
        "gemma3n",
        _is_gemma3n,
        values=_gemma3n,
        shapes=_gemma3n_shapes,
        lacks="llama.cpp has no use for its part for images",
    ),
    Family(
        "gemma4",
        lambda source: (
            source.any_tensor("a.", "v.", "mm.", "model.vision_tower.")
            or source.text("tokenizer.ggml.model") == "llama"
        ),
        tensors=((r"\.ffn_gate_inp\.per_expert_scale$", ".ffn_down_exps.scale"),),
        values=lambda source: {"tokenizer.ggml.model": "gemma4"},
        vision=GEMMA4,
    ),
    Family(
        "gptoss",
        _always,
        becomes=_named("gpt-oss"),
        tensors=(
            (r"\.attn_out\.", ".attn_output."),
            (r"\.attn_sinks$", ".attn_sinks.weight"),
            (r"\.ffn_norm\.", ".post_attention_norm."),
        ),
        values=_gptoss,
        refusal=_gptoss_refusal,
    ),
    Family(
        "lfm2",
        lambda source: "output_norm.weight" in source.tensors and "token_embd_norm.weight" not in source.tensors,
        tensors=((r"^output_norm\.", "token_embd_norm."),),
        values=_lfm2,
    ),
    Family("olmo3", _always, becomes=_named("olmo2")),
    Family(
        "mistral3",
        lambda source: source.any_tensor("v.", "mm.") or source.has(*_YARN),
        keys=_YARN,
        values=_mistral3,
        lacks="its part for images has rows in another order than llama.cpp",
    ),
    Family("llama4", lambda source: source.any_tensor("v.", "mm."), vision=LLAMA4),
    Family("qwen25vl", _always, becomes=_named("qwen2vl"), values=_qwen25vl, vision=QWEN25VL),
    Family(
        "qwen3vl",
        lambda source: not source.has("rope.dimension_sections"),
        values=_qwen3vl,
        refusal=_qwen3vl_refusal,
        lacks=_MERGED,
    ),
    Family(
        "qwen3vlmoe",
        lambda source: not source.has("rope.dimension_sections"),
        values=_qwen3vl,
        refusal=_qwen3vl_refusal,
        lacks=_MERGED,
    ),
    Family("qwen35", _is_qwen35, tensors=_SSM_BIAS, values=_qwen35, lacks=_MERGED),
    Family("qwen35moe", _is_qwen35, tensors=_SSM_BIAS, values=_qwen35, lacks=_MERGED),
    Family("qwen3next", lambda source: source.any_named(r"\.ssm_dt$"), tensors=_SSM_BIAS, values=_largest_of_heads),
    Family("deepseekocr", _always, becomes=_named("deepseek2-ocr"), values=_deepseek_ocr, vision=DEEPSEEK_OCR),
    Family("glm4moelite", _always, becomes=_named("deepseek2"), values=_glm4_moe_lite),
    Family(
        "laguna",
        lambda source: (
            source.has("rope.swa.dimension_count", "rope.swa.freq_base") or source.any_named(r"\.attn_g\.weight$")
        ),
        keys={
            "rope.swa.dimension_count": "rope.dimension_count_swa",
            "rope.swa.freq_base": "rope.freq_base_swa",
        },
        tensors=((r"\.attn_g\.weight$", ".attn_gate.weight"),),
    ),
    Family(
        "nemotron_h_moe",
        lambda source: source.any_named(r"\.ffn_latent_in\.") or source.any_tensor("mtp."),
        tensors=_LATENT,
        values=_nemotron,
    ),
    Family(
        "nemotron_h_omni",
        _always,
        becomes=_nemotron_text,
        tensors=_LATENT,
        values=_nemotron,
        lacks="its part for images has numbers that llama.cpp wants worked out anew",
    ),
    Family("bert", _is_snowflake, name="snowflake-arctic-embed2", values=_snowflake),
)
