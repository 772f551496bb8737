"""What a model keeps in memory, against what llama.cpp allocates for it by its own account."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from corral.engine.base import EngineConfig
from corral.engine.process import run_engine
from corral.gguf import model_facts, read_gguf
from corral.tiny import TINY_FILE
from tests.gguf.dialect_models import GEMMA3, GLM4_FLASH, GPT_OSS, LFM2, LLAMA4, OLMO3, TOKENS, Twins, tokenizer, write

pytestmark = pytest.mark.anyio
MIB = 1 << 20


def twin(model: Twins, folder: Path) -> Path:
    return model.write(folder)[1]


def mamba(folder: Path) -> Path:
    """Two recurrent layers, whose states are large enough to be seen in the engine's rounded figures."""
    width, inner, state, taps, rank = 256, 512, 256, 4, 16
    random = np.random.default_rng(3)

    def numbers(*shape: int) -> np.ndarray:
        return random.standard_normal(shape, np.float32) * np.float32(0.05)

    values = tokenizer() | {
        "mamba.context_length": 512,
        "mamba.embedding_length": width,
        "mamba.block_count": 2,
        "mamba.feed_forward_length": 0,
        "mamba.attention.head_count": 0,
        "mamba.attention.layer_norm_rms_epsilon": 1e-5,
        "mamba.ssm.conv_kernel": taps,
        "mamba.ssm.inner_size": inner,
        "mamba.ssm.state_size": state,
        "mamba.ssm.time_step_rank": rank,
    }
    tensors = {"token_embd.weight": numbers(TOKENS, width), "output_norm.weight": numbers(width)}
    for n in range(2):
        tensors |= {
            f"blk.{n}.attn_norm.weight": numbers(width),
            f"blk.{n}.ssm_in.weight": numbers(2 * inner, width),
            f"blk.{n}.ssm_conv1d.weight": numbers(inner, taps),
            f"blk.{n}.ssm_conv1d.bias": numbers(inner),
            f"blk.{n}.ssm_x.weight": numbers(rank + 2 * state, inner),
            f"blk.{n}.ssm_dt.weight": numbers(inner, rank),
            f"blk.{n}.ssm_dt.bias": numbers(inner),
            f"blk.{n}.ssm_a": -np.abs(numbers(inner, state)),
            f"blk.{n}.ssm_d": numbers(inner),
            f"blk.{n}.ssm_out.weight": numbers(width, inner),
        }
    return write(folder / "mamba.gguf", "mamba", values, tensors)


MODELS = {
    "attends to everything": lambda folder: TINY_FILE,
    "a window every other layer": lambda folder: twin(GPT_OSS, folder),
    "a window with a pattern": lambda folder: twin(OLMO3, folder),
    "windows only": lambda folder: twin(GEMMA3, folder),
    "chunks": lambda folder: twin(LLAMA4, folder),
    "compressed": lambda folder: twin(GLM4_FLASH, folder),
    "hybrid": lambda folder: twin(LFM2, folder),
    "recurrent": mamba,
}


@pytest.mark.parametrize(
    ("name", "cache_type"), [*((name, "f16") for name in MODELS), ("attends to everything", "q8_0")]
)
async def test_the_caches_of_a_model_are_as_large_as_the_engine_makes_them(
    tmp_path: Path, name: str, cache_type: str
) -> None:
    weights = MODELS[name](tmp_path)
    shape = model_facts(read_gguf(weights, arrays=False)).memory
    config = EngineConfig(weights=weights, context=2048, slots=3, pool_tokens=5000, kv_cache_type=cache_type)
    async with run_engine(config, log=tmp_path / "log") as process:
        log = process.log.read_text()
        account = process.account()
    kinds = ("KV", "RS")
    allocated = sum(float(line.split("=")[1].split()[0]) for line in log.splitlines() if _is_buffer(line, kinds)) * MIB
    expected = shape.cache_bytes(cache_type, pool_tokens=5000, slots=3, batch=512)
    assert expected == pytest.approx(allocated, abs=0.011 * MIB * 3), log
    assert account.mapped_bytes == pytest.approx(shape.tensor_bytes, rel=0.01)
    assert account.buffers["CPU"] >= allocated + account.mapped_bytes


def _is_buffer(line: str, kinds: tuple[str, ...]) -> bool:
    return any(f"{kind} buffer size" in line for kind in kinds)


def test_an_unknown_architecture_with_a_window_counts_as_if_it_had_none(tmp_path: Path) -> None:
    values = tokenizer() | {
        "new.block_count": 2,
        "new.embedding_length": 64,
        "new.attention.head_count": 4,
        "new.attention.sliding_window": 32,
    }
    shape = model_facts(read_gguf(write(tmp_path / "new.gguf", "new", values, {"x": np.ones(4, np.float32)}))).memory
    assert (shape.full_values, shape.window_values) == (2 * 4 * 2 * 16, 0)
    hostile = values | {"new.block_count": 2**31 - 1, "new.attention.head_count": 1}
    assert model_facts(read_gguf(write(tmp_path / "big.gguf", "new", hostile, {"x": np.ones(4, np.float32)}))).memory
