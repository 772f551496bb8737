"""What the real Ollama answered on ``/v1/responses`` and ``/v1/audio``, asked again of Corral."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import RunningServer
from tests.wire.responses import DIFFERENCES, RECORDS, comparable, frozen, name_of
from tests.wire.test_replay import ask
from tests.wire.test_tinygo import replay_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    running = replay_server(tmp_path_factory.mktemp("replay"))
    yield running
    running.stop()


def answered(server: RunningServer, record: dict[str, Any]) -> tuple[list[Any], str]:
    """Status and body to compare, and the type without its character set."""
    status, headers, text = ask(server, record["request"])
    return [status, comparable(text)], headers["content-type"].partition(";")[0]


@pytest.mark.parametrize("record", RECORDS, ids=name_of)
def test_the_answer_is_ollamas_or_a_difference_with_a_reason(record: dict[str, Any], server: RunningServer) -> None:
    name, expected = name_of(record), record["response"]
    answer, kind = answered(server, record)
    recorded = [expected["status"], comparable(expected["body"])]
    if name in DIFFERENCES:
        assert answer != recorded, f"{name} does not differ any more: take it out of the table"
        assert answer == frozen()[name]
        return
    assert answer == recorded
    assert kind == expected["headers"]["content-type"].partition(";")[0]


def test_every_difference_names_a_recording_and_has_its_answer() -> None:
    assert set(DIFFERENCES) == set(frozen())
    assert set(DIFFERENCES) <= {name_of(record) for record in RECORDS}
