"""What the real Ollama answered on Anthropic's API, asked again of Corral: see `test_replay`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corral.store import Store
from corral.tiny import TINY_FILE
from tests.conftest import RunningServer, start_server
from tests.wire.anthropic import DIFFERENCES, comparable, frozen, records, tinytool
from tests.wire.test_replay import ask, put
from tests.wire.tinygo import put_tinygo


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    running = replay_server(tmp_path_factory.mktemp("replay"))
    yield running
    running.stop()


def replay_server(home: Path) -> RunningServer:
    """A fresh server with the models of the recordings."""
    store = Store(home / "models")
    put(store, "tiny", TINY_FILE, "qwen3", "4.46M", "Q8_0")
    put_tinygo(store)
    put_tinygo(store, "tinytool", tinytool())
    return start_server(home, home / "models")


def answered(server: RunningServer, record: dict[str, Any]) -> list[Any]:
    status, headers, text = ask(server, record["request"])
    kind = record["response"]["headers"]["content-type"].partition(";")[0]
    assert headers["content-type"].partition(";")[0] == (kind if kind != "text/plain" else "application/json")
    return [status, comparable(text)]


@pytest.mark.parametrize("record", records(), ids=lambda record: record["name"])
def test_the_answer_is_ollamas_or_a_difference_with_a_reason(record: dict[str, Any], server: RunningServer) -> None:
    name, expected = record["name"], record["response"]
    answer, recorded = answered(server, record), [expected["status"], comparable(expected["body"])]
    if name in DIFFERENCES:
        assert answer != recorded, f"{name} does not differ any more: take it out of the table"
        assert answer == frozen()[name]
        return
    assert answer == recorded


def test_every_difference_names_a_recording_and_has_its_answer() -> None:
    assert set(DIFFERENCES) == set(frozen())
    assert set(DIFFERENCES) <= {record["name"] for record in records()}
