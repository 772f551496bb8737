"""What the real Ollama answered for a model with a Go template, asked again of Corral: see `test_replay`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corral.store import Store
from corral.tiny import TINY_FILE
from tests.conftest import RunningServer, start_server
from tests.wire.test_replay import ask, comparable_headers, embedding_model, normal, put
from tests.wire.tinygo import DIFFERENCES, frozen, only_tinygo, put_tinygo, replayed


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    running = replay_server(tmp_path_factory.mktemp("replay"))
    yield running
    running.stop()


def replay_server(home: Path) -> RunningServer:
    """A fresh server whose store has what the recorded one had, as far as the requests need it."""
    store = Store(home / "models")
    put(store, "minilm", embedding_model(home / "minilm.gguf"), "bert", "22.57M", "F16")
    put(store, "tiny", TINY_FILE, "qwen3", "4.46M", "Q8_0")
    put_tinygo(store)
    return start_server(home, home / "models")


def answered(server: RunningServer, record: dict[str, Any]) -> tuple[list[Any], dict[str, str]]:
    """Status and body to compare, and the headers."""
    status, headers, text = ask(server, record["request"])
    return [status, comparable(record, text)], headers


_LISTS = ("tags", "oai_models")


def comparable(record: dict[str, Any], text: str) -> Any:
    others = {**record, "request": {**record["request"], "path": ""}} if record["name"] in _LISTS else record
    return normal(others, only_tinygo(record, text))


@pytest.mark.parametrize("record", replayed(), ids=lambda record: record["name"])
def test_the_answer_is_ollamas_or_a_difference_with_a_reason(record: dict[str, Any], server: RunningServer) -> None:
    name, expected = record["name"], record["response"]
    answer, headers = answered(server, record)
    recorded = [expected["status"], comparable(record, expected["body"])]
    if name in DIFFERENCES:
        assert answer != recorded, f"{name} does not differ any more: take it out of the table"
        assert answer == frozen()[name]
        return
    assert answer == recorded
    assert comparable_headers(record, headers) == comparable_headers(record, expected["headers"])


def test_every_difference_names_a_recording_and_has_its_answer() -> None:
    assert set(DIFFERENCES) == set(frozen())
    assert set(DIFFERENCES) <= {record["name"] for record in replayed()}
