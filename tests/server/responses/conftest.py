"""Genuine clients of OpenAI's."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from corral.store import Store
from tests.conftest import RunningServer, start_server
from tests.server.conftest import Connect
from tests.wire.tinygo import put_tinygo


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
