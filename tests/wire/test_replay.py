"""What the real Ollama answered, asked again of Corral, in the same order, to a fresh server.

Status, content type, order of keys, shapes and texts are equal, with what varies masked; every answer that differs on purpose is
in `differences.py` with its reason, and in `answers.json` with what Corral answers instead, which is held just as exactly.
``python -m tests.wire.freeze`` writes that file and the page for users anew.
"""

from __future__ import annotations

import http.client
import json
import re
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from corral.names import ModelName
from corral.store import Manifest, MediaType, Store
from corral.store.manifest import CONFIG_TYPE
from corral.tiny import TINY_FILE
from tests import minilm
from tests.conftest import RunningServer, start_server
from tests.convert.conftest import converted_here
from tests.wire.differences import DIFFERENCES, DOCUMENT, LATER_PATHS, LATER_RECORDINGS, document, frozen

RECORDS = [
    json.loads(line)
    for name in ("tiny.jsonl", "probes.jsonl")
    for line in Path(__file__).with_name(name).read_text().splitlines()
]
VECTOR = re.compile(r"\[-?[0-9][0-9.e-]*(?:,-?[0-9][0-9.e-]*)+\]")
NETWORK_ERROR = re.compile(r'((?:Get|Head) \\"[^"]*": )[^"]*')
PACKED = re.compile(r'(?<="embedding":)"([A-Za-z0-9+/=]+)"')
HEADERS = ("content-type", "allow", "access-control-allow-origin", "access-control-allow-methods",
           "access-control-allow-headers", "access-control-max-age")  # fmt: skip
MASKED = ("created", "created_at", "modified_at", "expires_at", "digest", "id", "size", "logprob", "total_duration",
          "load_duration", "prompt_eval_duration", "eval_duration", "modelfile", "engine")  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    running = replay_server(tmp_path_factory.mktemp("replay"))
    yield running
    running.stop()


def replay_server(home: Path) -> RunningServer:
    """A fresh server whose store has what the recorded one had, as far as the requests need it."""
    store = Store(home / "models")
    if folder := minilm.published():
        put(store, "minilm", converted_here(folder, home / "minilm.gguf"), "bert", "22.57M", "F16")
    else:
        put(store, "minilm", embedding_model(home / "minilm.gguf"), "bert", "22.57M", "F16")
    put(store, "tiny", TINY_FILE, "qwen3", "4.46M", "Q8_0")
    store.add_bytes(b"hello", MediaType.MODEL)
    return start_server(home, home / "models", CORRAL_OFFLINE="0")  # the registries in the recordings are not there


def put(store: Store, name: str, weights: Path, family: str, size: str, quantization: str) -> None:
    """A model as Ollama makes it from a file, without anything besides."""
    config = {"model_format": "gguf", "model_family": family, "model_families": [family], "model_type": size,
              "file_type": quantization, "architecture": "amd64", "os": "linux"}  # fmt: skip
    layer = store.add_file(weights, MediaType.MODEL)
    store.write(ModelName.parse(name), Manifest(store.add_bytes(json.dumps(config).encode(), CONFIG_TYPE), (layer,)))


def embedding_model(path: Path) -> Path:
    """A file that says it is an embedding model; it cannot be loaded."""
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_uint32("bert.pooling_type", 1)
    writer.add_tensor("token_embd.weight", np.zeros((2, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def ask(server: RunningServer, request: dict[str, Any]) -> tuple[int, dict[str, str], str]:
    body = request["body"]
    if body is not None and not isinstance(body, str):
        body = json.dumps(body)
    connection = http.client.HTTPConnection("127.0.0.1", server.address.port, timeout=30)
    connection.request(request["method"], request["path"], body, request["headers"])
    response = connection.getresponse()
    text = response.read().decode()
    headers = {name: value for name in HEADERS if (value := response.headers.get(name)) is not None}
    connection.close()
    return response.status, headers, text


# What answers of OpenAI's API have besides: Ollama has none of it.
ADDED = ("reasoning_content", "prompt_tokens_details", "completion_tokens_details")


def mask(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: "<masked>" if k in MASKED else mask(v) for k, v in value.items() if k not in ADDED}
    return [mask(item) for item in value] if isinstance(value, list) else value


def read(text: str) -> Any:
    """Bodies as lists of lines of JSON, or the text. Order of keys counts: objects become lists of pairs."""
    try:
        return [pairs(mask(json.loads(line))) for line in text.splitlines()]
    except ValueError:
        return text


def pairs(value: Any) -> Any:
    if isinstance(value, dict):
        return [[key, pairs(item)] for key, item in value.items()]
    return [pairs(item) for item in value] if isinstance(value, list) else value


def replayed() -> list[dict[str, Any]]:
    """The recordings for the paths that exist so far."""
    return [
        record
        for record in RECORDS
        if not record["request"]["path"].startswith(LATER_PATHS) and record["name"] not in LATER_RECORDINGS
    ]


def embeds(path: str) -> bool:
    return path.startswith(("/api/embed", "/v1/embeddings"))


def has_vectors(record: dict[str, Any]) -> bool:
    body = record["response"]["body"]
    if record["name"] == "p_oai_embed_long":
        return False  # refused here
    return embeds(record["request"]["path"]) and (VECTOR.search(body) or PACKED.search(body)) is not None


def vectors(text: str) -> Any:
    """The vectors of an answer, one to a row, whatever the API."""
    body = json.loads(text)
    if "data" not in body:
        return np.atleast_2d(body["embedding"] if "embedding" in body else body["embeddings"])
    rows = (row["embedding"] for row in body["data"])
    return np.array([np.frombuffer(b64decode(row), "<f4") if isinstance(row, str) else row for row in rows])


def comparable_headers(record: dict[str, Any], headers: dict[str, str]) -> dict[str, str]:
    """The headers that count. JSON of OpenAI's API comes with a character set here, or without."""
    found = {name: value for name, value in headers.items() if name in HEADERS}
    if record["request"]["path"].startswith("/v1/") and found.get("content-type", "").startswith("application/json;"):
        found["content-type"] = "application/json"
    return found


def normal(record: dict[str, Any], text: str) -> Any:
    """A body to compare: without the other models of the recorded store, tensors in one order whatever the file's is."""
    path = record["request"]["path"]
    if path == "/api/tags" and text:
        document = json.loads(text)
        document["models"] = [model for model in document["models"] if model["name"] == "tiny:latest"]
        text = json.dumps(document)
    if path == "/v1/models":
        document = json.loads(text)
        document["data"] = [model for model in document["data"] if model["id"] == "tiny:latest"]
        text = json.dumps(document)
    if text.startswith("data: "):
        text = "\n".join(line[6:] for line in text.replace("[DONE]", '"[DONE]"').split("\n\n"))
    if path in ("/api/pull", "/api/push"):
        text = NETWORK_ERROR.sub(r"\1<network error>", text)
    if embeds(path) and '"embedding' in text:
        text = PACKED.sub(lambda found: f'["{len(b64decode(found[1])) // 4} numbers"]', text)
        text = VECTOR.sub(lambda found: f'["{found[0].count(",") + 1} numbers"]', text)
    if path == "/api/show" and "tensors" in text:
        document = json.loads(text)
        document["tensors"].sort(key=lambda tensor: tensor["name"])
        text = json.dumps(document)
    return read(text)


@pytest.mark.parametrize("record", replayed(), ids=lambda record: record["name"])
def test_the_answer_is_ollamas_or_a_difference_with_a_reason(record: dict[str, Any], server: RunningServer) -> None:
    name, expected = record["name"], record["response"]
    if has_vectors(record) and minilm.published() is None:
        pytest.skip(minilm.MISSING)
    status, headers, text = ask(server, record["request"])
    answered, recorded = [status, normal(record, text)], [expected["status"], normal(record, expected["body"])]
    if name in DIFFERENCES:
        assert answered != recorded, f"{name} does not differ any more: take it out of the table"
        assert answered == frozen()[name]
        return
    assert answered == recorded
    assert comparable_headers(record, headers) == comparable_headers(record, expected["headers"])


@pytest.mark.parametrize("record", [r for r in replayed() if has_vectors(r)], ids=lambda record: record["name"])
def test_vectors_are_those_that_ollama_gave(record: dict[str, Any], server: RunningServer) -> None:
    if minilm.published() is None:
        pytest.skip(minilm.MISSING)
    _, _, text = ask(server, record["request"])
    ours, theirs = vectors(text), vectors(record["response"]["body"])
    assert np.allclose((ours * ours).sum(axis=1), 1, atol=1e-4)
    assert ((ours * theirs).sum(axis=1) > 0.9995).all()


def test_every_difference_names_a_recording_and_has_its_answer() -> None:
    assert set(DIFFERENCES) == set(frozen())
    assert set(DIFFERENCES) <= {record["name"] for record in replayed()}


def test_the_page_for_users_is_made_from_the_table() -> None:
    assert DOCUMENT.read_text() == document()
