"""Responses that nobody waits for, and streams that break."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest
from openai.types.responses import Response

from tests.conftest import RunningServer, StartServer
from tests.server.conftest import Connect

TINY: Any = {"model": "tiny", "input": "Hello", "temperature": 0}
ENDLESS: Any = {"model": "endless", "input": "a", "temperature": 0}
HELLO = "Hello! How can I help you?"


def ended(client: openai.OpenAI, name: str) -> Response:
    """The response when it has ended."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = client.responses.retrieve(name)
        if found.status not in ("queued", "in_progress"):
            return found
    raise AssertionError("it does not end")


def engine_of(server: RunningServer) -> psutil.Process:
    for child in psutil.Process(server.process.pid).children():
        with suppress(psutil.NoSuchProcess):
            if "corral.engine.worker" in child.cmdline():
                return child
    raise AssertionError("no engine")


def test_a_response_in_the_background_is_fetched_when_it_has_ended(client: openai.OpenAI) -> None:
    made = client.responses.create(background=True, **TINY)
    assert (made.status, made.background, made.output) == ("queued", True, [])
    found = ended(client, made.id)
    assert (found.status, found.output_text) == ("completed", HELLO)
    answer = client.responses.create(model="tiny", input="Hello", previous_response_id=made.id)
    assert answer.status == "completed"


def test_its_events_can_be_read_from_any_number_on_while_and_after(client: openai.OpenAI) -> None:
    with client.responses.create(background=True, stream=True, **TINY) as stream:
        first = next(iter(stream))
        assert first.type == "response.created"
        name = first.response.id
    rest = list(client.responses.retrieve(name, stream=True, starting_after=1))
    assert [event.sequence_number for event in rest] == list(range(2, len(rest) + 2))
    assert rest[0].type == "response.in_progress"
    assert rest[-1].type == "response.completed"
    ended(client, name)
    again = list(client.responses.retrieve(name, stream=True, starting_after=1))
    assert again == rest
    assert [event.type for event in client.responses.retrieve(name, stream=True)][:2] == [
        "response.created",
        "response.queued",
    ]


def test_events_that_were_not_kept_are_refused(client: openai.OpenAI) -> None:
    made = client.responses.create(**TINY)
    with pytest.raises(openai.BadRequestError, match=r"events of .* are not kept"):
        list(client.responses.retrieve(made.id, stream=True))
    with pytest.raises(openai.BadRequestError, match="only a response made with background=true"):
        client.responses.cancel(made.id)


def test_one_that_is_cancelled_ends_and_its_slot_is_free(serve: StartServer, connect: Connect, endless: Path) -> None:
    client = connect(serve(endless))
    with client.responses.create(background=True, stream=True, **ENDLESS) as stream:
        events = iter(stream)
        name = next(events).response.id  # type: ignore[union-attr]
        next(event for event in events if event.type == "response.output_text.delta")
    cancelled = client.responses.cancel(name)
    assert cancelled.status == "cancelled"
    assert cancelled.output_text
    assert client.responses.cancel(name).status == "cancelled"
    short = client.responses.create(max_output_tokens=3, **ENDLESS)
    assert short.status == "incomplete"


def test_one_that_is_deleted_ends(serve: StartServer, connect: Connect, endless: Path) -> None:
    client = connect(serve(endless))
    made = client.responses.create(background=True, **ENDLESS)
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


def test_one_that_cannot_be_answered_has_failed_with_the_reason(client: openai.OpenAI) -> None:
    made = client.responses.create(model="tiny", input="word " * 5000, background=True)
    found = ended(client, made.id)
    assert found.status == "failed"
    assert found.error is not None
    assert found.error.code == "invalid_prompt"
    assert "longer than the context length" in found.error.message


def test_a_stream_whose_engine_dies_ends_with_the_failed_response(
    serve: StartServer, connect: Connect, endless: Path
) -> None:
    server = serve(endless)
    client = connect(server)
    events = []
    for event in client.responses.create(stream=True, **ENDLESS):
        if event.type == "response.output_text.delta" and not any(e.type == event.type for e in events):
            engine_of(server).kill()
        events.append(event)
    last = events[-1]
    assert last.type == "response.failed"
    assert last.response.status == "failed"
    assert last.response.error is not None
    assert last.response.error.code == "server_error"
    assert "ended unexpectedly" in last.response.error.message
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert last.response.output_text == said
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert client.responses.retrieve(last.response.id).status == "failed"


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_one_that_was_at_work_when_the_server_ended_has_failed(
    serve: StartServer, connect: Connect, endless: Path, tmp_path: Path, how: str
) -> None:
    settings = {"CORRAL_RESPONSES": "disk", "CORRAL_DATA": str(tmp_path / "data")}
    server = serve(endless, **settings)
    name = connect(server).responses.create(background=True, **ENDLESS).id
    if how == "stop":
        server.stop()
    else:
        server.process.kill()
        server.process.wait()
    found = connect(serve(endless, **settings)).responses.retrieve(name)
    assert found.status == "failed"
    assert found.error is not None
    assert ("shutting down" if how == "stop" else "the server ended") in found.error.message
