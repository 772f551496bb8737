"""Small models of each family, converted: the engine computes with them what transformers does.

The folders in ``published/`` are made by `tests.convert.freeze`; random numbers in them are large enough to make everything count.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer

from corral.convert import convert_adapter, convert_model
from corral.engine.base import EngineConfig
from corral.gguf import read_gguf
from tests.convert.conftest import converted_here, files_in, running
from tests.convert.texts import TEXTS

PUBLISHED = Path(__file__).parent / "published"
LENGTHS = (1, 2, 7, 40, 300)
PLAIN_TOKEN = 350
BYTE_PAIRS = {"llama": "llama-bpe", "mistral": "tekken", "qwen2": "qwen2", "qwen3": "qwen2"}
PIECES = ("llama2", "phi3", "gemma2", "gemma3")


def exact(weights: Path, context: int = 512, adapters: tuple[Path, ...] = ()) -> EngineConfig:
    """An engine that keeps all digits it has."""
    return EngineConfig(
        weights=weights, adapters=adapters, context=context, flash_attention="off", kv_cache_type="f32", threads=2
    )


async def log_probabilities(engine: httpx.AsyncClient, prompt: list[int], count: int) -> NDArray[np.float64]:
    body = {"prompt": prompt, "n_predict": 1, "n_probs": count, "temperature": 0, "cache_prompt": False}
    # What is told are the probabilities before this bias, but not for a token that is an end or a part of a character.
    body["logit_bias"] = [[PLAIN_TOKEN, 1000]]
    answer = (await engine.post("/completion", json=body)).raise_for_status().json()
    found = np.full(count, np.nan)
    for rival in answer["completion_probabilities"][0]["top_logprobs"]:
        found[rival["id"]] = rival["logprob"]
    return found


async def check_logits(engine: httpx.AsyncClient, name: str, lengths: tuple[int, ...] = LENGTHS) -> None:
    frozen = np.load(PUBLISHED / name / "frozen.npz")
    # The engine looks up Gemma's activation in a table of 16-bit numbers.
    bound = 1e-2 if name.startswith("gemma") else 1e-4
    for length in lengths:
        logits = frozen[f"logits{length}"].astype(np.float64)
        expected = logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()
        found = await log_probabilities(engine, frozen[f"prompt{length}"].tolist(), len(logits))
        assert found.argmax() == expected.argmax(), f"{length} tokens"
        assert np.abs(found - expected).max() < bound, f"{length} tokens"
        assert expected.max() - expected.min() > 5  # else anything would pass


@pytest.mark.anyio
@pytest.mark.parametrize("name", [*BYTE_PAIRS, *PIECES])
async def test_a_converted_model_has_the_logits_of_transformers(name: str, tmp_path: Path) -> None:
    weights = converted_here(PUBLISHED / name, tmp_path / "model.gguf")
    # Phi-3's factors are those for long texts as soon as the context is larger than it was trained for.
    for context, lengths in ((256, (1, 2, 7, 40)), (512, (300,))) if name == "phi3" else ((512, LENGTHS),):
        async with running(exact(weights, context), tmp_path / "log") as engine:
            await check_logits(engine, name, lengths)


@pytest.mark.anyio
@pytest.mark.parametrize("name", [*BYTE_PAIRS, *PIECES])
async def test_a_converted_vocabulary_cuts_texts_as_the_published_one(name: str, tmp_path: Path) -> None:
    weights = converted_here(PUBLISHED / name, tmp_path / "model.gguf")
    async with running(exact(weights), tmp_path / "log") as engine:
        for text, expected in zip(TEXTS, expected_tokens(name), strict=True):
            body = {"content": text, "add_special": True, "parse_special": True}
            assert (await engine.post("/tokenize", json=body)).json()["tokens"] == expected, text


def expected_tokens(name: str) -> list[list[int]]:
    if name in PIECES:
        return [[0, *tokens] for tokens in json.loads((PUBLISHED / name / "frozen.json").read_text())]
    tokenizer = Tokenizer.from_file(str(PUBLISHED / name / "tokenizer.json"))
    return [tokenizer.encode(text).ids for text in TEXTS]


@pytest.mark.anyio
async def test_pieces_without_a_tokenizer_model_are_found_in_the_merges(tmp_path: Path) -> None:
    files = files_in(PUBLISHED / "llama2")
    del files["tokenizer.model"]
    weights = tmp_path / "model.gguf"
    assert [step async for step in convert_model(files, weights)]
    async with running(exact(weights), tmp_path / "log") as engine:
        for text, expected in zip(TEXTS, expected_tokens("llama2"), strict=True):
            body = {"content": text, "add_special": True, "parse_special": True}
            assert (await engine.post("/tokenize", json=body)).json()["tokens"] == expected, text


@pytest.mark.parametrize("name", ["llama", "gemma3", "phi3", "qwen3"])
def test_older_configurations_say_the_same_of_positions(name: str, tmp_path: Path) -> None:
    """Until transformers 5 what is in "rope_parameters" was in other places."""
    folder = tmp_path / name
    shutil.copytree(PUBLISHED / name, folder)
    config = json.loads((folder / "config.json").read_text())
    parameters = config.pop("rope_parameters")
    if "sliding_attention" in parameters:
        config["rope_local_base_freq"] = parameters["sliding_attention"]["rope_theta"]
        config["sliding_window_pattern"] = 3
        del config["layer_types"]
        parameters = parameters["full_attention"]
    config["rope_theta"] = parameters.pop("rope_theta")
    config["rope_scaling"] = parameters | {"type": parameters.pop("rope_type")}
    (folder / "config.json").write_text(json.dumps(config))
    old = converted_here(folder, tmp_path / "old.gguf")
    new = converted_here(PUBLISHED / name, tmp_path / "new.gguf")
    assert old.read_bytes() == new.read_bytes()


@pytest.mark.anyio
async def test_a_converted_adapter_does_to_its_model_what_peft_does(tmp_path: Path) -> None:
    base = converted_here(PUBLISHED / "llama", tmp_path / "base.gguf")
    adapter = tmp_path / "adapter.gguf"
    assert [step async for step in convert_adapter(files_in(PUBLISHED / "llama-lora"), base, adapter)]
    assert read_gguf(adapter).metadata["general.type"] == "adapter"
    async with running(exact(base, adapters=(adapter,)), tmp_path / "log") as engine:
        await check_logits(engine, "llama-lora")


@pytest.mark.parametrize(("name", "pre"), BYTE_PAIRS.items())
def test_special_tokens_and_padding_are_known(name: str, pre: str, tmp_path: Path) -> None:
    metadata = read_gguf(converted_here(PUBLISHED / name, tmp_path / "model.gguf")).metadata
    assert metadata["tokenizer.ggml.pre"] == pre
    assert metadata["tokenizer.ggml.bos_token_id"] == 0
    assert metadata["tokenizer.ggml.eos_token_id"] == 1
    assert metadata["tokenizer.ggml.padding_token_id"] == 2
    assert metadata["tokenizer.ggml.add_bos_token"] is (name in ("llama", "mistral"))
    tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    assert isinstance(tokens, list)
    assert isinstance(types, list)
    assert tokens[:3] == ["<|begin|>", "<|end|>", "<|pad|>"]
    assert types[:4] == [3, 3, 3, 1]
    assert (tokens[383], types[383]) == ("<think>", 4)
    assert (tokens[384], types[384], len(tokens)) == ("[PAD384]", 5, 392)
    assert metadata["tokenizer.chat_template"] == "{{ messages }}"


@pytest.mark.anyio
async def test_an_answer_ends_at_every_token_that_the_publisher_says_ends_it(tmp_path: Path) -> None:
    folder = tmp_path / "llama"
    shutil.copytree(PUBLISHED / "llama", folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, PLAIN_TOKEN]}))
    ends = {}
    for name, place in (("one", PUBLISHED / "llama"), ("both", folder)):
        async with running(exact(converted_here(place, tmp_path / "model.gguf")), tmp_path / "log") as engine:
            body = {"prompt": [5], "n_predict": 3, "temperature": 0, "logit_bias": [[PLAIN_TOKEN, 1000]]}
            ends[name] = (await engine.post("/completion", json=body)).raise_for_status().json()["stop_type"]
    assert ends == {"one": "limit", "both": "eos"}
