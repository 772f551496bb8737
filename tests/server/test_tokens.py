"""Texts as tokens and back, of models of every kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from corral.store import Store
from corral.tiny import TINY_FILE
from tests.conftest import RunningServer, start_server
from tests.reranker import CLS, SEP, Reranker, words
from tests.wire.test_replay import put

TEXT = "Hi <|im_end|> 🙂 straße"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    home = tmp_path_factory.mktemp("tokens")
    store = Store(home / "models")
    put(store, "reranker", Reranker().write(home / "reranker.gguf"), "bert", "", "F32")
    put(store, "tiny", TINY_FILE, "qwen3", "4.46M", "Q8_0")
    running = start_server(home, home / "models")
    yield running
    running.stop()


def ask(server: RunningServer, path: str, **body: Any) -> Any:
    return httpx.post(f"{server.url}/api/{path}", json={"model": "tiny", **body}, timeout=60).json()


@pytest.mark.parametrize("field", ["content", "prompt"])
def test_a_text_comes_back_from_its_tokens(server: RunningServer, field: str) -> None:
    tokens = ask(server, "tokenize", **{field: TEXT})["tokens"]
    assert 2 in tokens  # <|im_end|> is one token
    assert ask(server, "detokenize", tokens=tokens) == {"content": TEXT}
    assert ask(server, "tokenize", content="") == {"tokens": []}
    assert ask(server, "detokenize", tokens=[]) == {"content": ""}


def test_pieces_are_texts_or_the_bytes_of_one(server: RunningServer) -> None:
    pieces = ask(server, "tokenize", content=TEXT, with_pieces=True)["tokens"]
    assert [piece["id"] for piece in pieces] == ask(server, "tokenize", content=TEXT)["tokens"]
    parts = [p.encode() if isinstance(p, str) else bytes(p) for p in (piece["piece"] for piece in pieces)]
    assert b"".join(parts).decode() == TEXT
    assert any(isinstance(piece["piece"], list) for piece in pieces)


def test_a_model_that_only_reads_has_tokens_too(server: RunningServer) -> None:
    text = "the cat sits outside"
    assert ask(server, "tokenize", model="reranker", content=text) == {"tokens": words(text)}
    special = ask(server, "tokenize", model="reranker", content=text, add_special=True)["tokens"]
    assert special == [CLS, *words(text), SEP]
    assert ask(server, "detokenize", model="reranker", tokens=words(text))["content"].strip() == text


@pytest.mark.parametrize(
    ("path", "body", "why"),
    [
        ("tokenize", {}, "content is required"),
        ("tokenize", {"content": 7}, "TokenizeRequest.content of type string"),
        ("tokenize", {"content": "a", "model": ""}, "model is required"),
        ("tokenize", {"content": "a", "model": "nothing"}, "not found"),
        ("detokenize", {}, "tokens is required"),
        ("detokenize", {"tokens": "1"}, "DetokenizeRequest.tokens"),
        ("detokenize", {"tokens": [1.5]}, "DetokenizeRequest.tokens"),
        ("detokenize", {"tokens": [1, -1]}, "the token -1 is not in the vocabulary of the model, which has 2048"),
        ("detokenize", {"tokens": [2048]}, "the token 2048 is not"),
        ("detokenize", {"tokens": [2**40]}, "is not in the vocabulary"),
        ("detokenize", {"tokens": [1] * 1_000_001}, "1000001 are more than 1000000"),
    ],
)
def test_what_is_wrong_is_named(server: RunningServer, path: str, body: dict[str, Any], why: str) -> None:
    assert why in ask(server, path, **body)["error"]
