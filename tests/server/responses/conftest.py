"""Genuine clients of OpenAI's."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import openai
import pytest

from corral.store import Store
from tests.conftest import RunningServer, start_server
from tests.wire.tinygo import put_tinygo

Connect = Callable[[RunningServer], openai.OpenAI]


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


@pytest.fixture(scope="module")
def both_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with Tiny, and with Tiny behind a Go template."""
    home = tmp_path_factory.mktemp("home")
    put_tinygo(Store(home / "models"))
    running = start_server(home, home / "models")
    yield running
    running.stop()


@pytest.fixture
def client(both_server: RunningServer, connect: Connect) -> openai.OpenAI:
    return connect(both_server)
