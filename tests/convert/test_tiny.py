"""Tiny as it would be published, converted back: the same model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

from corral.convert import convert_model
from corral.engine.base import ChatCall, Conversation, EngineConfig, Finished, Message, Sampling, Text
from corral.engine.llama import LlamaEngine
from corral.engine.process import run_engine
from corral.gguf import read_gguf
from corral.tiny import TINY_FILE
from tests.convert.conftest import converted
from tests.convert.safetensors import bfloat16, write_safetensors

RECIPE = Path(__file__).parents[2] / "recipes" / "tiny"
VISIBLE = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
PROMPTS = ["Who are you?", "What is 7 plus 5?", "What is the capital of France?", "Hello!", "Thank you!"]


def shipped() -> dict[str, NDArray[np.float32]]:
    """Its weights under the names that transformers has for them."""
    weights = {}
    for tensor in gguf.GGUFReader(TINY_FILE).tensors:
        name = tensor.name.removesuffix(".weight")
        if name.startswith("blk."):
            _, number, part = name.split(".")
            name = f"layers.{number}.{NAMES[part]}"
        name = {"token_embd": "embed_tokens", "output_norm": "norm"}.get(name, name)
        weights[f"model.{name}.weight"] = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    return weights


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as it would lie on a hub, in two shards with an index."""
    folder, tiny = tmp_path_factory.mktemp("tiny"), read_gguf(TINY_FILE).metadata
    config = {
        "architectures": ["Qwen3ForCausalLM"],
        "hidden_size": tiny["qwen3.embedding_length"],
        "num_hidden_layers": tiny["qwen3.block_count"],
        "num_attention_heads": tiny["qwen3.attention.head_count"],
        "num_key_value_heads": tiny["qwen3.attention.head_count_kv"],
        "head_dim": tiny["qwen3.attention.key_length"],
        "intermediate_size": tiny["qwen3.feed_forward_length"],
        "max_position_embeddings": tiny["qwen3.context_length"],
        "rms_norm_eps": tiny["qwen3.attention.layer_norm_rms_epsilon"],
        "rope_theta": tiny["qwen3.rope.freq_base"],
        "vocab_size": tiny["qwen3.vocab_size"],
        "tie_word_embeddings": True,
    }
    tokenizer: dict[str, Any] = json.loads((RECIPE / "tokenizer.json").read_text())
    for token in tokenizer["added_tokens"]:
        token["special"] = token["content"] not in VISIBLE
    settings = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "add_bos_token": False}
    for name, value in (("config", config), ("tokenizer", tokenizer), ("tokenizer_config", settings)):
        (folder / f"{name}.json").write_text(json.dumps(value))
    (folder / "chat_template.jinja").write_text((RECIPE / "chat_template.jinja").read_text())
    weights = shipped()
    shards = {
        "model-00001-of-00002.safetensors": list(weights)[::2],
        "model-00002-of-00002.safetensors": list(weights)[1::2],
    }
    for shard, names in shards.items():
        write_safetensors(folder / shard, {name: weights[name] for name in names})
    index = {"metadata": {}, "weight_map": {name: shard for shard, names in shards.items() for name in names}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.anyio
async def test_weights_come_back_bit_by_bit(published: Path, tmp_path: Path) -> None:
    target = await converted(published, tmp_path / "tiny.gguf")
    back = {tensor.name: tensor for tensor in gguf.GGUFReader(target).tensors}
    for tensor in gguf.GGUFReader(TINY_FILE).tensors:
        again = gguf.quants.quantize(back.pop(tensor.name).data, tensor.tensor_type)
        assert np.array_equal(again.view(np.uint8), tensor.data.view(np.uint8)), tensor.name
    assert not back


@pytest.mark.anyio
async def test_metadata_comes_back(published: Path, tmp_path: Path) -> None:
    back = read_gguf(await converted(published, tmp_path / "tiny.gguf")).metadata
    own = ("general.name", "general.description", "general.license", "general.file_type")
    for key, value in read_gguf(TINY_FILE).metadata.items():
        if key not in own:
            assert back.get(key) == value, key


@pytest.mark.anyio
async def test_the_converted_model_answers_as_the_shipped_one(published: Path, tmp_path: Path) -> None:
    target = await converted(published, tmp_path / "tiny.gguf")
    assert await answers(target, tmp_path) == await answers(TINY_FILE, tmp_path)


async def answers(weights: Path, folder: Path) -> list[str]:
    config = EngineConfig(weights=weights, context=512)
    sampling = Sampling(temperature=0, max_tokens=60)
    found = []
    async with run_engine(config, log=folder / "log") as process:
        engine = LlamaEngine(config, process)
        for prompt in PROMPTS:
            text = ""
            async for batch in engine.chat(ChatCall(Conversation((Message("user", prompt),)), sampling)):
                text += "".join(event.text for event in batch if isinstance(event, Text))
                assert not isinstance(batch[-1], Finished) or batch[-1].reason == "stop"
            found.append(text)
    return found


@pytest.mark.anyio
@pytest.mark.parametrize(("kind", "file_type"), [("F16", 1), ("BF16", 32)])
async def test_half_precision_stays_as_it_is(published: Path, tmp_path: Path, kind: str, file_type: int) -> None:
    folder = tmp_path / "half"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_bytes((published / name).read_bytes())
    halves = {k: v.astype(np.float16) if kind == "F16" else bfloat16(v) for k, v in shipped().items()}
    write_safetensors(folder / "model.safetensors", halves)
    target = await converted(folder, tmp_path / "half.gguf")
    assert read_gguf(target).metadata["general.file_type"] == file_type
    for tensor in gguf.GGUFReader(target).tensors:
        assert tensor.tensor_type.name == ("F32" if len(tensor.shape) == 1 else kind)
    embeddings = next(t for t in gguf.GGUFReader(target).tensors if t.name == "token_embd.weight")
    assert embeddings.data.tobytes() == halves["model.embed_tokens.weight"].tobytes()


@pytest.mark.anyio
async def test_a_model_in_a_nested_folder_is_found(published: Path, tmp_path: Path) -> None:
    files = {f"tiny/{path.name}": path for path in published.iterdir()}
    target = tmp_path / "tiny.gguf"
    assert [step async for step in convert_model(files, target)]
    assert read_gguf(target).metadata["general.architecture"] == "qwen3"
