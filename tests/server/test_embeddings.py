"""A published embedding model, converted, through the native API: by the genuine client and byte by byte."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import ollama
import psutil
import pytest

from corral.config import Settings
from corral.library import Library
from corral.names import ModelName
from corral.runtime.embedding import packed
from corral.runtime.options import EngineWishes
from corral.runtime.plans import planned_config
from corral.store import Store
from tests import minilm
from tests.conftest import RunningServer, start_server
from tests.convert.bert import Bert
from tests.convert.conftest import converted_here
from tests.convert.test_embeddings import SENTENCES
from tests.wire.test_replay import put

WORDS = [
    "the",
    "cat",
    "sits",
    "outside",
    "while",
    "a",
    "man",
    "is",
    "playing",
    "guitar",
    "and",
    "I",
    "love",
    "pasta",
    "in",
    "rome",
]
LONG = "word " * 2000


@pytest.fixture(scope="module")
def published() -> Path:
    folder = minilm.published()
    if folder is None:
        pytest.skip(minilm.MISSING)
    return folder


@pytest.fixture(scope="module")
def reference(published: Path) -> Bert:
    return Bert(published)


@pytest.fixture(scope="module")
def server(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    home = tmp_path_factory.mktemp("embeddings")
    put(Store(home / "models"), "minilm", converted_here(published, home / "m.gguf"), "bert", "22.57M", "F32")
    running = start_server(home, home / "models")
    yield running
    running.stop()


@pytest.fixture
def client(server: RunningServer) -> Iterator[ollama.Client]:
    client = ollama.Client(server.url)
    yield client
    client._client.close()


def post(server: RunningServer, path: str, **body: Any) -> httpx.Response:
    return httpx.post(server.url + path, json={"model": "minilm", **body}, timeout=60)


def error(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]


def test_the_client_gets_the_vectors_of_an_independent_implementation(client: ollama.Client, reference: Bert) -> None:
    answer = client.embed("minilm", SENTENCES)
    for text, vector in zip(SENTENCES, answer.embeddings, strict=True):
        assert abs(np.linalg.norm(vector) - 1) < 1e-5
        assert float(np.dot(vector, reference.embed(text))) > 0.999, text
    assert answer.prompt_eval_count == sum(len(reference.tokens(text)) for text in SENTENCES)
    assert answer.total_duration
    assert answer.load_duration
    (one,) = client.embed("minilm", SENTENCES[0]).embeddings
    older = client.embeddings("minilm", SENTENCES[0]).embedding
    assert np.allclose(one, older, atol=1e-6)


def test_many_texts_in_one_call_keep_their_order_and_are_what_they_are_alone(client: ollama.Client) -> None:
    chosen = np.random.default_rng(7)
    texts = [" ".join(chosen.choice(WORDS, chosen.integers(1, 12))) + f" {number}" for number in range(128)]
    together = np.array(client.embed("minilm", texts).embeddings)
    for number in range(0, 128, 16):
        alone = np.array(client.embed("minilm", texts[number]).embeddings[0])
        similar = together @ alone
        assert similar.argmax() == number
        assert similar[number] > 0.99999


def test_a_list_longer_than_a_parcel_gives_what_its_parts_give(server: RunningServer, reference: Bert) -> None:
    chosen = np.random.default_rng(9)
    texts = [" ".join(chosen.choice(WORDS, chosen.integers(1, 6))) for _ in range(300)]
    texts[280] = LONG
    assert len(packed(texts)) == 2
    answer = post(server, "/api/embed", input=texts).json()
    together = np.array(answer["embeddings"])
    assert answer["truncated_inputs"] == [280]
    assert answer["prompt_eval_count"] == 512 - len(reference.tokens(LONG)) + sum(
        map(len, map(reference.tokens, texts))
    )
    for size in (1, 7):
        for start in (0, 250, 256, 290):
            alone = np.array(post(server, "/api/embed", input=texts[start : start + size]).json()["embeddings"])
            assert np.abs(alone - together[start : start + size]).max() < 1e-3


def test_a_text_that_is_too_long_is_cut_and_the_answer_says_which(server: RunningServer, reference: Bert) -> None:
    response = post(server, "/api/embed", input=["short", LONG, "also short", LONG])
    answer = response.json()
    assert answer["truncated_inputs"] == [1, 3]
    assert response.headers["x-corral-truncated-inputs"] == "2"
    assert answer["prompt_eval_count"] == 3 + 512 + 4 + 512
    assert float(np.dot(answer["embeddings"][1], reference.embed("word " * 510))) > 0.999
    assert float(np.dot(answer["embeddings"][2], reference.embed("also short"))) > 0.999
    whole = post(server, "/api/embed", input=["word " * 510])
    assert "truncated_inputs" not in whole.json()
    assert "x-corral-truncated-inputs" not in whole.headers


def test_a_shorter_context_is_kept_to(server: RunningServer, reference: Bert) -> None:
    answer = post(server, "/api/embed", input="word " * 100, options={"num_ctx": 20}).json()
    assert (answer["prompt_eval_count"], answer["truncated_inputs"]) == (20, [0])
    assert float(np.dot(answer["embeddings"][0], reference.embed("word " * 18))) > 0.999
    status, _ = error(post(server, "/api/embed", input="é" * 100, options={"num_ctx": 20}, truncate=False))
    assert status == 400


def test_what_may_not_be_cut_is_refused_with_the_numbers(server: RunningServer) -> None:
    status, text = error(post(server, "/api/embed", input=["short", LONG], truncate=False))
    assert status == 400
    assert text.startswith(
        "the input length exceeds the context length: input 1 has 2002 tokens, which is more than 512"
    )
    assert error(post(server, "/api/embeddings", prompt=LONG))[0] == 400


def test_a_batch_smaller_than_the_context_cuts_as_well(server: RunningServer) -> None:
    answer = post(server, "/api/embed", input=LONG, options={"num_batch": 128}).json()
    assert (answer["prompt_eval_count"], answer["truncated_inputs"]) == (128, [0])
    status, text = error(post(server, "/api/embed", input=LONG, options={"num_batch": 128}, truncate=False))
    assert status == 400
    assert "more than" in text


def test_dimensions_cut_the_vector_which_has_unit_length_again(server: RunningServer) -> None:
    (whole,) = post(server, "/api/embed", input="hello").json()["embeddings"]
    (first,) = post(server, "/api/embed", input="hello", dimensions=8).json()["embeddings"]
    assert np.allclose(first, np.array(whole[:8]) / np.linalg.norm(whole[:8]), atol=1e-6)
    for ignored in (0, -1, 384, 5000):
        assert post(server, "/api/embed", input="hello", dimensions=ignored).json()["embeddings"] == [whole]


def test_numbers_of_the_older_endpoint_have_all_their_digits(server: RunningServer) -> None:
    numbers = post(server, "/api/embeddings", prompt="hello").json()["embedding"]
    assert all(float(np.float32(number)) == number for number in numbers)
    (newer,) = post(server, "/api/embed", input="hello").json()["embeddings"]
    assert [np.float32(number) for number in newer] == [np.float32(number) for number in numbers]


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/api/embed", {"input": ["a", 1]}, (400, "invalid input type")),
        ("/api/embed", {"input": 5, "model": "nope"}, (400, "invalid input type")),
        ("/api/embed", {"model": ""}, (404, "model '' not found")),
        ("/api/embed", {"model": "a b"}, (400, "invalid model name")),
        ("/api/embed", {"model": "tiny", "input": "x"}, (400, '"tiny" does not support embeddings')),
        ("/api/embeddings", {"model": "tiny", "prompt": "x"}, (400, '"tiny" does not support embeddings')),
        (
            "/api/embed",
            {"input": "x", "dimensions": "8"},
            (400, "json: cannot unmarshal string into Go struct field EmbedRequest.dimensions of type int"),
        ),
    ],
)
def test_what_cannot_be_embedded_is_refused(
    server: RunningServer, path: str, body: dict[str, Any], expected: tuple[int, str]
) -> None:
    assert error(post(server, path, **body)) == expected


def test_no_text_loads_the_model_and_an_empty_one_in_a_list_is_a_text(server: RunningServer) -> None:
    assert post(server, "/api/embed", keep_alive=0).json() == {"model": "minilm", "embeddings": []}
    assert post(server, "/api/embeddings", prompt="").json() == {"embedding": []}
    assert [model["name"] for model in httpx.get(server.url + "/api/ps").json()["models"]] == ["minilm:latest"]
    answer = post(server, "/api/embed", input=["", "a"]).json()
    assert (len(answer["embeddings"]), answer["prompt_eval_count"]) == (2, 5)


def test_options_that_mean_nothing_here_are_named(server: RunningServer) -> None:
    response = post(server, "/api/embed", input="a", options={"nonsense": 1})
    assert response.headers["x-corral-ignored-options"] == "nonsense"


def test_an_engine_that_died_is_replaced(server: RunningServer) -> None:
    assert post(server, "/api/embed", input="a").status_code == 200
    (process,) = (child for child in server_children(server) if "corral.engine.worker" in " ".join(child.cmdline()))
    process.kill()
    assert len(post(server, "/api/embed", input="a").json()["embeddings"]) == 1


def server_children(server: RunningServer) -> list[Any]:
    return psutil.Process(server.process.pid).children(recursive=True)


def test_a_model_that_embeds_reads_several_texts_at_once(server: RunningServer) -> None:
    spec = Library(Store(server.models)).resolve(ModelName.parse("minilm"))
    config, _ = planned_config(spec, Settings(), EngineWishes(), free_bytes=8 << 30)
    assert (config.slots, config.context, config.batch) == (8, 512, 512)
    small, _ = planned_config(spec, Settings(), EngineWishes(num_ctx=4), free_bytes=8 << 30)
    assert (small.context, small.batch) == (4, 512)


def run(server: RunningServer, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "corral", "run", "minilm", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, env=server.environment, timeout=60)


def test_the_program_prints_the_vector_of_a_text(server: RunningServer) -> None:
    (vector,) = post(server, "/api/embed", input="hello").json()["embeddings"]
    for done in (run(server, "hello", "--verbose", "--think"), run(server, stdin="hello\n")):
        assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
        assert json.loads(done.stdout) == vector
    assert len(json.loads(run(server, "--dimensions", "8", "--truncate", "hello").stdout)) == 8


def test_the_program_says_what_it_cut_and_what_it_needs(server: RunningServer) -> None:
    done = run(server, stdin=LONG)
    assert len(json.loads(done.stdout)) == 384
    assert done.stderr == "(the text is longer than the context of the model: its end was left out)\n"
    done = run(server, "--truncate=false", stdin=LONG)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: the input length exceeds the context length")
    done = run(server)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == 'Error: embedding models require input text. Usage: corral run minilm "your text here"\n'


def test_the_answer_is_json_that_any_reader_takes(server: RunningServer) -> None:
    text = post(server, "/api/embed", input='quote " & <tag>').text
    assert json.loads(text)["model"] == "minilm"
    assert text.startswith('{"model":"minilm","embeddings":[[')
