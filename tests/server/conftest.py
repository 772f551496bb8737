"""A model whose answers do not end by themselves, for what is done to answers in flight; clients that end with the test."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import openai
import pytest

from corral.names import ModelName
from corral.store import Manifest, MediaType, Store
from corral.store.manifest import CONFIG_TYPE
from tests.conftest import RunningServer

Connect = Callable[[RunningServer], openai.OpenAI]


@pytest.fixture
def endless(tmp_path: Path, endless_weights: Path) -> Path:
    """A store with the model ``endless``, and the same file again as ``twin``."""
    store = Store(tmp_path / "models")
    config = {"model_format": "gguf", "model_family": "qwen3", "architecture": "amd64", "os": "linux"}
    weights = store.add_file(endless_weights, MediaType.MODEL)
    manifest = Manifest(store.add_bytes(json.dumps(config).encode(), CONFIG_TYPE), (weights,))
    for name in ("endless", "twin"):
        store.write(ModelName.parse(name), manifest)
    return store.root


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Clients that end with the test."""
    clients: list[openai.OpenAI] = []

    def connected(server: RunningServer) -> openai.OpenAI:
        clients.append(openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60))
        return clients[-1]

    yield connected
    for client in clients:
        client.close()
