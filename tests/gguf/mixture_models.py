"""Models as the rules of mixtures see them: names and shapes, no weights."""

from __future__ import annotations

from collections.abc import Iterator

from corral.gguf.mixtures import Hyperparameters
from corral.gguf.reader import TensorInfo

Model = tuple[Hyperparameters, tuple[TensorInfo, ...]]


def tensor(name: str, *shape: int, type_name: str = "F16") -> TensorInfo:
    return TensorInfo(name, type_name, shape, 0, 0)


def transformer(
    architecture: str,
    layers: int,
    *,
    heads: int = 8,
    kv_heads: int = 8,
    experts: int = 0,
    tied: bool = False,
    fused: bool = False,
    width: int = 1024,
    hidden: int = 2048,
) -> Model:
    model = Hyperparameters(architecture, layers, experts, heads, kv_heads)

    def found() -> Iterator[TensorInfo]:
        yield tensor("token_embd.weight", width, 5000)
        yield tensor("output_norm.weight", width, type_name="F32")
        if not tied:
            yield tensor("output.weight", width, 5000)
        for layer in range(layers):
            prefix = f"blk.{layer}."
            yield tensor(f"{prefix}attn_norm.weight", width, type_name="F32")
            if fused:
                yield tensor(f"{prefix}attn_qkv.weight", width, 3 * width)
            else:
                yield tensor(f"{prefix}attn_q.weight", width, width)
                yield tensor(f"{prefix}attn_k.weight", width, width * kv_heads // heads)
                yield tensor(f"{prefix}attn_v.weight", width, width * kv_heads // heads)
                yield tensor(f"{prefix}attn_q.bias", width, type_name="F32")
            yield tensor(f"{prefix}attn_output.weight", width, width)
            if experts:
                yield tensor(f"{prefix}ffn_gate_inp.weight", width, experts, type_name="F32")
                yield tensor(f"{prefix}ffn_gate_exps.weight", width, hidden, experts)
                yield tensor(f"{prefix}ffn_up_exps.weight", width, hidden, experts)
                yield tensor(f"{prefix}ffn_down_exps.weight", hidden, width, experts)
                yield tensor(f"{prefix}ffn_down_shexp.weight", hidden, width)
            else:
                yield tensor(f"{prefix}ffn_gate.weight", width, hidden)
                yield tensor(f"{prefix}ffn_up.weight", width, hidden)
                yield tensor(f"{prefix}ffn_down.weight", hidden, width)

    return model, tuple(found())


def odds() -> Model:
    """Tensors of rarer kinds, among them those that stay as they are."""
    names = (
        "position_embd.weight", "token_types.weight", "per_layer_token_embd.weight", "per_layer_model_proj.weight",
        "blk.0.altup_proj.weight", "blk.0.laurel_l.weight", "blk.0.ssm_conv1d.weight", "blk.0.shortconv.conv.weight",
        "blk.0.ssm_in.weight", "blk.0.time_mix_w1.weight", "blk.0.time_mix_key.weight", "blk.0.attn_rel_b.weight",
        "blk.0.attn_kv_b.weight", "blk.0.attn_kv_a_mqa.weight", "blk.0.attn_q_a.weight", "blk.0.attn_sinks.weight",
        "blk.0.ffn_gate_tid2eid.weight", "blk.0.indexer.k_proj.weight", "v.patch_embd.weight", "v.position_embd.weight",
        "v.blk.0.attn_q.weight", "v.blk.0.ffn_down.weight", "mm.0.weight", "a.rvq.codebook.weight", "rope_freqs",
    )  # fmt: skip
    found = [tensor(name, 512, 64) for name in names]
    flat = tensor("blk.1.attn_output.weight", 512, 1, 1)
    experts = tensor("blk.1.ffn_down_exps.weight", 512, 1, 4)
    return Hyperparameters("gemma3n", 2, 0, 8, 2), (*found, flat, experts)


MODELS: dict[str, Model] = {
    "plain": transformer("llama", 9),
    "shared values": transformer("llama", 17, kv_heads=2),
    "tied": transformer("qwen3", 16, kv_heads=4, tied=True),
    "8 experts": transformer("llama", 32, kv_heads=2, experts=8),
    "128 experts": transformer("qwen3moe", 12, kv_heads=2, experts=128),
    "fused": transformer("phi3", 10, fused=True),
    "falcon": transformer("falcon", 32, kv_heads=1, fused=True, tied=True),
    "70B": transformer("llama", 80, kv_heads=1),
    "65B": transformer("llama", 80),
    "odd rows": transformer("llama", 4, width=1056, hidden=2080),
    "odder rows": transformer("llama", 4, width=1000, hidden=2000),
    "odder rows, tied": transformer("llama", 4, width=1000, hidden=2048, tied=True),
    "odds": odds(),
    "one layer": transformer("llama", 1),
}
