"""One server for the genuine clients: Tiny, an embedding model, and a model whose answers do not end by themselves."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from corral.names import ModelName
from corral.store import Manifest, MediaType, Store
from corral.store.manifest import CONFIG_TYPE
from tests import minilm
from tests.conftest import RunningServer, start_server
from tests.convert.conftest import converted_here


def put(store: Store, name: str, weights: Path, family: str) -> None:
    """A model that is a file of weights and nothing besides."""
    config = {"model_format": "gguf", "model_family": family, "architecture": "amd64", "os": "linux"}
    layer = store.add_file(weights, MediaType.MODEL)
    store.write(ModelName.parse(name), Manifest(store.add_bytes(json.dumps(config).encode(), CONFIG_TYPE), (layer,)))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, endless_weights: Path) -> Iterator[RunningServer]:
    """A server with ``endless`` and, where it is installed, ``minilm``."""
    home = tmp_path_factory.mktemp("clients")
    store = Store(home / "models")
    put(store, "endless", endless_weights, "qwen3")
    if published := minilm.published():
        put(store, "minilm", converted_here(published, home / "minilm.gguf"), "bert")
    running = start_server(home, home / "models")
    httpx.post(
        running.url + "/api/show", json={"model": "tiny"}
    ).raise_for_status()  # some clients look for it in the list
    yield running
    running.stop()


@pytest.fixture(scope="session")
def minilm_name() -> str:
    """The embedding model of the server."""
    if minilm.published() is None:
        pytest.skip(minilm.MISSING)
    return "minilm"


def loaded(server: RunningServer) -> set[str]:
    """The models in memory."""
    return {model["model"] for model in httpx.get(server.url + "/api/ps").json()["models"]}


def await_idle(server: RunningServer, model: str) -> None:
    """Return when no slot of the model's engine is held; the answers of ``endless`` would hold theirs for half a minute."""
    deadline = time.monotonic() + 10
    held = re.compile(rf'^corral_engine_requests{{model="{model}:latest"}} (\S+)$', re.MULTILINE)
    while True:
        found = held.search(httpx.get(server.url + "/metrics").text)
        assert found, f"no engine of {model}"
        if float(found[1]) == 0:
            return
        assert time.monotonic() < deadline, f"the slot of {model} is still held"


def pytest_configure(config: pytest.Config) -> None:
    for mark in ("benchmark", "vcr"):
        config.addinivalue_line("markers", f"{mark}: of LangChain's standard tests, whose plugins are not installed")
