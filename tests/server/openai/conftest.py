"""One server with both kinds of models, and the genuine ``openai`` client for it."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from corral.store import Store
from tests import minilm
from tests.conftest import RunningServer, start_server
from tests.convert.conftest import converted_here
from tests.wire.test_replay import put
from tests.wire.tinygo import put_tinygo


@pytest.fixture(scope="package")
def openai_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Tiny by its Jinja template and, as ``tinygo``, by a Go template; MiniLM where it is installed."""
    home = tmp_path_factory.mktemp("openai")
    store = Store(home / "models")
    put_tinygo(store)
    if folder := minilm.published():
        put(store, "minilm", converted_here(folder, home / "minilm.gguf"), "bert", "22.57M", "F16")
    running = start_server(home, home / "models")
    yield running
    running.stop()


@pytest.fixture
def client(openai_server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{openai_server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(params=["tiny", "tinygo"])
def model(request: pytest.FixtureRequest) -> str:
    """A model of each path: rendered by its engine, and rendered here."""
    name: str = request.param
    return name
