"""What the real Ollama answered about making models, asked again of Corral in the same order.

``creates.jsonl`` has the recordings: ``go_`` those of a server whose model has a Go template, ``p_`` single probes. Where
Corral answers otherwise on purpose, `ELSE` says what.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import httpx
import numpy as np
import pytest

from corral.names import ModelName
from corral.store import Store
from corral.tiny import TINY_FILE
from tests.conftest import RunningServer, start_server
from tests.wire.test_replay import ask, put

RECORDS = [json.loads(line) for line in Path(__file__).with_name("creates.jsonl").read_text().splitlines()]
TINY = "tiny"
SMALL = "sha256:0084e1a0f50b0172d1f6de591c0d9b1c444a01f538710e8d6aa60c7f78db1a88"

# What Corral answers, and why.
ELSE: dict[str, tuple[int, str]] = {
    # refused when the model is made, not at every request to it
    "p_create_param_type": (400, 'option "temperature" must be of type float32'),
    "p_create_param_list": (400, 'option "stop" must be of type array'),
    "p_create_unknown_renderer": (400, 'unknown renderer "nope"'),
    "p_create_requires": (400, "the model requires Ollama 99.0.0"),
    # a model is no adapter, and what would be passed over is refused
    "p_create_adapter_bad": (400, '"a.gguf" is not an adapter'),
    "p_create_adapter_is_model": (200, '"a.gguf" is not an adapter'),
    "p_create_both": (400, "'from' and 'files' were both specified"),
    # there are more types
    "go_create_quantize_unknown": (500, "unsupported quantization type Q99 - supported types are F32, F16, BF16, Q8_0"),
    # models that run elsewhere do not exist here
    "p_create_remote_bad": (400, "models on other servers are not supported"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with the models that the recorded one had, made over its API."""
    home = tmp_path_factory.mktemp("creates")
    store = Store(home / "models")
    put(store, TINY, TINY_FILE, "qwen3", "4.46M", "Q8_0")
    put(store, "minilm", sixteen_bits(home / "minilm.gguf"), "bert", "22.57M", "F16")
    running = start_server(home, home / "models")
    small = with_a_note(home / "small.gguf").read_bytes()
    store.add_bytes(b"hello", "")
    running.environment["SMALL"] = str(store.add_bytes(small, "").digest)
    parameters = {"stop": ["<|im_start|>", "<|im_end|>"]}
    template = shown("go_show")["template"]
    for body in (
        {"model": "tinygo", "files": {"x.gguf": digest_of(store, TINY)}, "template": template, "license": "MIT"}
        | {"parameters": parameters},
        {"model": "m2", "from": "tinygo", "system": "S", "parameters": {"top_k": 3, "seed": 5}},
    ):
        httpx.post(f"{running.url}/api/create", json=body).raise_for_status()
    yield running
    running.stop()


def shown(name: str) -> dict[str, Any]:
    (body,) = (record["response"]["body"] for record in RECORDS if record["name"] == name)
    document: dict[str, Any] = json.loads(body)
    return document


def digest_of(store: Store, name: str) -> str:
    return str(store.read(ModelName.parse(name)).manifest.layers[0].digest)


def with_a_note(path: Path) -> Path:
    """Tiny's own file with other metadata: a model that no other one shares its file with."""
    data = TINY_FILE.read_bytes()
    path.write_bytes(data + bytes(32))
    return path


def sixteen_bits(path: Path) -> Path:
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_uint32("bert.pooling_type", 1)
    writer.add_uint32("bert.block_count", 1)
    writer.add_tensor("token_embd.weight", np.zeros((8, 256), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def lines(text: str) -> list[Any]:
    """The objects of an answer, without the progress that Ollama does not show. Digests differ, as files are stored as they are."""
    said = [json.loads(line) for line in re.sub("sha256:[0-9a-f]{64}", "<digest>", text).splitlines()]
    return [item for item in said if not item.get("status", "").startswith("quantizing ")]


@pytest.mark.parametrize(
    "record",
    [r for r in RECORDS if r["request"]["path"] == "/api/create"],
    ids=lambda record: record["name"],
)
def test_the_answer_is_ollamas_or_another_one_with_a_reason(record: dict[str, Any], server: RunningServer) -> None:
    request, expected = record["request"], record["response"]
    request = json.loads(json.dumps(request).replace(SMALL, server.environment["SMALL"]))
    status, headers, text = ask(server, request)
    if other := ELSE.get(record["name"]):
        assert (status, text) != (expected["status"], expected["body"])
        assert status == other[0]
        assert other[1] in json.loads(text.splitlines()[-1])["error"]
        return
    assert (status, lines(text)) == (expected["status"], lines(expected["body"]))
    assert headers["content-type"] == expected["headers"]["content-type"]


def test_the_modelfile_of_what_was_made_is_ollamas(server: RunningServer) -> None:
    recorded = shown("go_show_made")
    body = next(record["request"]["body"] for record in RECORDS if record["name"] == "go_create_system")
    httpx.post(f"{server.url}/api/create", json=body).raise_for_status()
    answered = httpx.post(f"{server.url}/api/show", json={"model": "made"}).json()
    weights = re.compile("^FROM .*$", re.MULTILINE)
    assert weights.sub("FROM <blob>", answered["modelfile"]) == weights.sub("FROM <blob>", recorded["modelfile"])
    for part in ("license", "parameters", "template", "system", "details", "messages"):
        assert answered.get(part) == recorded.get(part), part


def test_a_template_that_a_user_writes_is_shown_as_ollama_writes_it(server: RunningServer) -> None:
    recorded = shown("p_show_template_ignored")["modelfile"]
    answered = httpx.post(f"{server.url}/api/show", json={"model": "m6"}).json()["modelfile"]
    assert answered.split("TEMPLATE", 1)[1] == recorded.split("TEMPLATE", 1)[1]


def test_every_answer_that_differs_is_a_recorded_one() -> None:
    assert set(ELSE) <= {record["name"] for record in RECORDS}
