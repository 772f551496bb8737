"""A reranker of random weights, whose scores an independent sum in numpy gives too."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from corral.names import ModelName
from corral.store import Manifest, MediaType, Store
from corral.store.manifest import CONFIG_TYPE
from corral.tiny import TINY_FILE
from tests.conftest import RunningServer, start_server
from tests.reranker import CONTEXT, WORDS, Reranker, tokens
from tests.wire.test_replay import put

QUERY = "what is paris"
DOCUMENTS = ["the cat sits outside", "paris is city of lights", "rain", "the weather is blue"]


@pytest.fixture(scope="module")
def reranker() -> Reranker:
    return Reranker()


@pytest.fixture(scope="module")
def server(reranker: Reranker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    home = tmp_path_factory.mktemp("rerank")
    store = Store(home / "models")
    put(store, "reranker", reranker.write(home / "reranker.gguf"), "bert", "", "F32")
    put(store, "tiny", TINY_FILE, "qwen3", "4.46M", "Q8_0")
    put_claiming(store, home / "reranker.gguf")
    running = start_server(home, home / "models")
    yield running
    running.stop()


def put_claiming(store: Store, weights: Path) -> None:
    """The same file as Ollama lists it."""
    config = json.dumps({"model_format": "gguf", "model_family": "bert", "capabilities": ["embedding"]}).encode()
    manifest = Manifest(store.add_bytes(config, CONFIG_TYPE), (store.add_file(weights, MediaType.MODEL),))
    store.write(ModelName.parse("claims"), manifest)


def ask(server: RunningServer, path: str = "/v1/rerank", **body: Any) -> httpx.Response:
    asked = {"model": "reranker", "query": QUERY, "documents": DOCUMENTS, **body}
    return httpx.post(server.url + path, json=asked, timeout=60)


def expected(reranker: Reranker, query: str, document: str) -> float:
    return 1 / (1 + math.exp(-reranker.score(query, document)))


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank", "/v1/reranking"])
def test_documents_are_scored_as_numpy_scores_them_and_sorted(
    server: RunningServer, reranker: Reranker, path: str
) -> None:
    answer = ask(server, path).json()
    scores = {document: expected(reranker, QUERY, document) for document in DOCUMENTS}
    results = answer["results"]
    assert [DOCUMENTS[result["index"]] for result in results] == sorted(DOCUMENTS, key=lambda d: -scores[d])
    for result in results:
        assert result["relevance_score"] == pytest.approx(scores[DOCUMENTS[result["index"]]], abs=1e-3)
    read = sum(len(tokens(QUERY, document)) for document in DOCUMENTS)
    assert answer["usage"] == {"prompt_tokens": read, "total_tokens": read}
    assert (answer["model"], answer["object"]) == ("reranker", "list")


def test_many_documents_keep_their_places(server: RunningServer, reranker: Reranker) -> None:
    chosen = np.random.default_rng(3)
    documents = [" ".join(chosen.choice(WORDS, chosen.integers(1, 12))) for _ in range(600)]
    results = ask(server, documents=documents).json()["results"]
    assert sorted(result["index"] for result in results) == list(range(600))
    scores = [result["relevance_score"] for result in results]
    assert scores == sorted(scores, reverse=True)
    for result in results[::25]:
        assert result["relevance_score"] == pytest.approx(
            expected(reranker, QUERY, documents[result["index"]]), abs=2e-3
        )


def test_the_best_come_with_their_documents_where_that_is_asked_for(server: RunningServer) -> None:
    results = ask(server, documents=[{"text": text} for text in DOCUMENTS], top_n=2, return_documents=True).json()[
        "results"
    ]
    assert len(results) == 2
    assert [result["document"] for result in results] == [{"text": DOCUMENTS[result["index"]]} for result in results]
    assert "document" not in ask(server, top_n=99).json()["results"][3]


def test_what_is_too_long_is_refused_or_cut_and_told(server: RunningServer, reranker: Reranker) -> None:
    long = "the weather in london is rain " * 20
    refused = ask(server, documents=["rain", long])
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "context_length_exceeded"
    assert "input 1 has" in refused.json()["error"]["message"]
    room = CONTEXT - len(tokens(QUERY, ""))
    cut = ask(server, documents=["rain", long], truncate=True)
    scores = {result["index"]: result["relevance_score"] for result in cut.json()["results"]}
    assert (cut.json()["truncated_documents"], cut.headers["x-corral-truncated-inputs"]) == ([1], "1")
    assert scores[1] == pytest.approx(expected(reranker, QUERY, " ".join(long.split()[:room])), abs=1e-3)
    few = ask(server, documents=["rain", long], max_tokens_per_doc=5).json()
    scores = {result["index"]: result["relevance_score"] for result in few["results"]}
    assert few["truncated_documents"] == [1]
    assert scores[1] == pytest.approx(expected(reranker, QUERY, "the weather in london is"), abs=1e-3)
    assert ask(server, query="rain " * 100, truncate=True).json()["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"model": "tiny"}, '"tiny" does not support rerank'),
        ({"model": ""}, "model is required"),
        ({"query": ""}, "query is required"),
        ({"query": 7}, "query of type string"),
        ({"documents": []}, "documents is required"),
        ({"documents": ["a", 7]}, "documents.1: expected a text"),
        ({"documents": ["a"] * 10_001}, "10001 are more than 10000"),
        ({"top_n": 0}, "top_n: 0"),
    ],
)
def test_what_is_wrong_is_named(server: RunningServer, body: dict[str, Any], why: str) -> None:
    answer = ask(server, **body)
    assert answer.status_code == 400
    assert why in answer.json()["error"]["message"]


def test_a_model_that_is_not_here_is_not_found(server: RunningServer) -> None:
    assert ask(server, model="nothing").status_code == 404


@pytest.mark.parametrize("model", ["reranker", "claims"])
def test_a_reranker_says_what_it_is_and_does_nothing_else(server: RunningServer, model: str) -> None:
    shown = httpx.post(f"{server.url}/api/show", json={"model": model}).json()
    assert shown["capabilities"] == ["rerank"]
    listed = httpx.get(f"{server.url}/api/tags").json()["models"]
    assert {"rerank"} in [set(model["capabilities"]) for model in listed]
    for path, field in (("/api/embed", "input"), ("/api/generate", "prompt")):
        answer = httpx.post(server.url + path, json={"model": model, field: "Hello"})
        assert answer.status_code == 400
        assert "does not support" in answer.json()["error"]
