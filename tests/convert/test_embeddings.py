"""A real model for embeddings, published as safetensors: converted, it gives the vectors it should."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from corral.convert import convert_model
from corral.convert.files import Folder
from corral.convert.pooling import read_pooling
from corral.engine.base import EngineConfig
from corral.errors import ConversionError
from corral.gguf import read_gguf
from tests import minilm
from tests.convert.bert import Bert
from tests.convert.conftest import converted, files_in, running

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
    folder = minilm.published()
    if folder is None:
        pytest.skip(minilm.MISSING)
    return folder


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


@pytest.mark.anyio
async def test_a_vocabulary_with_capitals_keeps_them(published: Path, tmp_path: Path) -> None:
    tokenizer = json.loads((published / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary |= {"UPPER": vocabulary.pop("upper"), "Où": vocabulary.pop("ou")}
    tokenizer["normalizer"] |= {"lowercase": False, "strip_accents": False}
    tokenizer |= {"truncation": None, "padding": None}
    changed, target = tmp_path / "tokenizer.json", tmp_path / "cased.gguf"
    changed.write_text(json.dumps(tokenizer))
    assert [step async for step in convert_model(files_in(published) | {"tokenizer.json": changed}, target)]
    cased = Tokenizer.from_file(str(changed))
    async with running(EngineConfig(weights=target, context=512, embedding=True), tmp_path / "log") as engine:
        for text in (text for text in SENTENCES if "Å" not in text):
            tokens = (await engine.post("/tokenize", json={"content": text, "add_special": True})).json()["tokens"]
            assert tokens == cased.encode(text).ids, text


def folder_of(place: Path, **contents: object) -> Folder:
    """A folder with ``name`` for ``name.json`` and its contents."""
    files = {}
    for name, content in contents.items():
        path = place / f"{name}.json"
        path.write_text(json.dumps(content))
        files[{"pooling": "1_Pooling/config.json", "other": "9_Other/config.json"}.get(name, path.name)] = path
    return Folder(files)


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, 2),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, 1),
        ({"pooling_mode_lasttoken": True, "include_prompt": True}, 3),
        ({"pooling_mode": "cls"}, 2),
    ],
)
def test_the_way_of_pooling_is_found(tmp_path: Path, pooling: dict[str, Any], expected: int) -> None:
    assert read_pooling(folder_of(tmp_path, pooling=pooling)) == expected
    modules = [{"path": "", "type": "a.Transformer"}, {"path": "9_Other", "type": "a.Pooling"}, {"type": "a.Normalize"}]
    assert read_pooling(folder_of(tmp_path, modules=modules, other=pooling)) == expected


def test_what_the_engine_cannot_pool_is_refused(tmp_path: Path) -> None:
    assert read_pooling(Folder({})) is None
    for pooling in (
        {"pooling_mode_max_tokens": True},
        {"pooling_mode_max_tokens": True, "pooling_mode_cls_token": True},
        {},
    ):
        with pytest.raises(ConversionError, match="supported are mean, cls and lasttoken"):
            read_pooling(folder_of(tmp_path, pooling=pooling))
    with pytest.raises(ConversionError, match='"Dense"; supported are Transformer, Pooling and Normalize'):
        read_pooling(folder_of(tmp_path, modules=[{"path": "2_Dense", "type": "sentence_transformers.models.Dense"}]))
