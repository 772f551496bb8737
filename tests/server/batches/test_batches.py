"""Batches of OpenAI's API, from the file of requests to the file of results."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import openai
import pytest

from tests import minilm
from tests.conftest import RunningServer, StartServer
from tests.server.batches.conftest import begin, chat, ended, line, results, until, upload
from tests.server.conftest import Connect

HELLO = "Hello! How can I help you?"


def test_every_request_is_answered_as_if_it_had_been_sent(client: openai.OpenAI) -> None:
    made = begin(client, [chat("a"), chat("b", "What is 2 + 3?")], metadata={"who": "me"})
    assert (made.status, made.endpoint, made.metadata) == ("validating", "/v1/chat/completions", {"who": "me"})
    batch = ended(client, made.id)
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert batch.request_counts.model_dump() == {"total": 2, "completed": 2, "failed": 0}
    assert batch.error_file_id is None
    assert batch.model == "tiny"
    times = [batch.created_at, batch.in_progress_at, batch.finalizing_at, batch.completed_at]
    assert times == sorted(times, key=lambda moment: moment or 0)
    answers = results(client, batch.output_file_id)
    assert [answer["custom_id"] for answer in answers] == ["a", "b"]
    texts = [answer["response"]["body"]["choices"][0]["message"]["content"] for answer in answers]
    assert texts == [HELLO, "2 + 3 = 5"]
    assert all(answer["response"]["status_code"] == 200 and answer["error"] is None for answer in answers)
    assert all(answer["response"]["request_id"] == answer["id"] for answer in answers)
    counted = sum(answer["response"]["body"]["usage"]["total_tokens"] for answer in answers)
    assert batch.usage is not None
    assert batch.usage.total_tokens == counted
    file = client.files.retrieve(batch.output_file_id or "")
    assert (file.purpose, file.filename) == ("batch_output", f"{batch.id}_output.jsonl")


@pytest.mark.parametrize(
    ("endpoint", "body", "text"),
    [
        ("/v1/responses", {"input": "Hello"}, lambda body: body["output"][-1]["content"][0]["text"]),
        ("/v1/completions", {"prompt": "Hello"}, lambda body: body["choices"][0]["text"]),
    ],
)
def test_other_endpoints_work_too(client: openai.OpenAI, endpoint: str, body: dict[str, Any], text: Any) -> None:
    batch = ended(client, begin(client, [line("a", endpoint, **body)], endpoint).id)
    (answer,) = results(client, batch.output_file_id)
    assert text(answer["response"]["body"]).strip() == HELLO
    if endpoint == "/v1/responses":  # it is in the file; it takes no place among those that are kept
        assert answer["response"]["body"]["store"] is False


def test_what_cannot_be_answered_is_in_the_file_of_errors(client: openai.OpenAI) -> None:
    batch = ended(client, begin(client, [chat("good"), chat("bad", model="nope")]).id)
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert batch.request_counts.model_dump() == {"total": 2, "completed": 1, "failed": 1}
    (error,) = results(client, batch.error_file_id)
    assert (error["custom_id"], error["response"]["status_code"]) == ("bad", 404)
    assert error["response"]["body"]["error"]["code"] == "model_not_found"
    assert [answer["custom_id"] for answer in results(client, batch.output_file_id)] == ["good"]


def test_a_file_with_wrong_lines_fails_and_names_each(client: openai.OpenAI) -> None:
    lines = [
        chat("a"),
        "not json",
        chat("a"),
        "",
        {**chat("c"), "method": "GET"},
        line("d", "/v1/embeddings", input="x"),
        {**chat("e"), "body": None},
        chat("f", stream=True),
        {"method": "POST"},
    ]
    batch = ended(client, begin(client, lines).id)
    assert (batch.status, batch.output_file_id) == ("failed", None)
    assert batch.errors is not None
    assert [(error.line, error.code, error.param) for error in batch.errors.data or ()] == [
        (2, "invalid_json_line", None),
        (3, "duplicate_custom_id", "custom_id"),
        (5, "invalid_method", "method"),
        (6, "invalid_url", "url"),
        (7, "missing_required_parameter", "body"),
        (8, "invalid_parameter", "body.stream"),
        (9, "missing_required_parameter", "custom_id"),
    ]


def test_an_empty_file_and_too_many_requests_fail(serve: StartServer, connect: Connect) -> None:
    client = connect(serve(CORRAL_BATCH_REQUESTS="2"))
    for lines, code in (([""], "empty_file"), ([chat("a"), chat("b"), chat("c")], "too_many_requests")):
        batch = ended(client, begin(client, lines).id)
        assert batch.status == "failed"
        assert batch.errors is not None
        assert [error.code for error in batch.errors.data or ()] == [code]


@pytest.mark.parametrize(
    ("asked", "says", "param"),
    [
        ({"endpoint": "/v1/moderations"}, "expected one of /v1/chat/completions", "endpoint"),
        ({"completion_window": "1h"}, 'must be "24h"', "completion_window"),
        ({"metadata": {"a": 1}}, "must be a string", "metadata.a"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, "between 3600", "output_expires_after.seconds"),
    ],
)  # fmt: skip
def test_what_a_batch_cannot_be_is_refused_by_name(
    client: openai.OpenAI, asked: dict[str, Any], says: str, param: str
) -> None:
    usual: dict[str, Any] = {"input_file_id": upload(client, [chat("a")]), "endpoint": "/v1/chat/completions"}
    with pytest.raises(openai.BadRequestError, match=says) as caught:
        client.batches.create(**{"completion_window": "24h", **usual, **asked})
    assert caught.value.param == param


def test_a_batch_or_file_that_is_not_there_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="No such File object"):
        client.batches.create(input_file_id="file-x", endpoint="/v1/responses", completion_window="24h")
    for act in (client.batches.retrieve, client.batches.cancel):
        with pytest.raises(openai.NotFoundError, match="No batch found"):
            act("batch_x")


def test_batches_are_listed_page_by_page(server: RunningServer, connect: Connect) -> None:
    client = connect(server)
    assert client.batches.list().data == []
    made = [begin(client, [chat("a", max_tokens=1)]).id for _ in range(3)]
    assert sorted(batch.id for batch in client.batches.list(limit=2)) == sorted(made)
    for batch_id in made:
        ended(client, batch_id)


def endless(custom_id: str, tokens: int | None = None) -> dict[str, Any]:
    """A request that takes its time."""
    return chat(custom_id, "[7]", model="endless", **({"max_tokens": tokens} if tokens else {}))


def test_a_cancelled_batch_gives_out_what_it_has(serve: StartServer, connect: Connect, endless_store: Path) -> None:
    client = connect(serve(endless_store, CORRAL_BATCH_PARALLEL="1"))
    made = begin(client, [endless("short", 3), endless("long"), endless("never")])
    until(client, made.id, lambda batch: bool(batch.request_counts and batch.request_counts.completed == 1))
    with pytest.raises(openai.ConflictError, match="cancel that batch first"):
        client.files.delete(made.input_file_id)
    assert client.batches.cancel(made.id).status == "cancelling"
    batch = ended(client, made.id)
    assert batch.status == "cancelled"
    assert batch.cancelled_at is not None
    assert [answer["custom_id"] for answer in results(client, batch.output_file_id)] == ["short"]
    unanswered = results(client, batch.error_file_id)
    assert [answer["custom_id"] for answer in unanswered] == ["long", "never"]
    assert {answer["error"]["code"] for answer in unanswered} == {"batch_cancelled"}
    with pytest.raises(openai.BadRequestError, match="it is cancelled"):
        client.batches.cancel(made.id)
    client.files.delete(made.input_file_id)


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_server_that_ends_in_the_middle_goes_on_where_it_was(
    serve: StartServer, connect: Connect, endless_store: Path, tmp_path: Path, how: str
) -> None:
    settings = {"CORRAL_DATA": str(tmp_path / "data"), "CORRAL_BATCH_PARALLEL": "2"}
    server = serve(endless_store, **settings)
    client = connect(server)
    made = begin(client, [endless(str(number), 200) for number in range(8)])
    until(client, made.id, lambda batch: bool(batch.request_counts and batch.request_counts.completed >= 3))
    if how == "kill":
        server.process.kill()
        server.process.wait()
    else:
        server.stop()
    (kept,) = (tmp_path / "data" / "batches").glob("*/results.jsonl")
    before = [json.loads(entry) for entry in kept.read_text().splitlines() if entry.endswith("}")]
    assert 3 <= len(before) < 8
    with kept.open("a") as file:
        file.write('{"line": 99, "good"')  # what a kill in the middle of a write leaves
    client = connect(serve(endless_store, **settings))
    batch = ended(client, made.id)
    assert batch.status == "completed"
    answers = {answer["custom_id"]: answer for answer in results(client, batch.output_file_id)}
    assert len(answers) == 8
    for entry in before:  # not asked again: the very same answers
        assert answers[entry["result"]["custom_id"]] == entry["result"]
    assert not kept.exists()


def test_a_batch_whose_time_has_passed_is_expired(
    serve: StartServer, connect: Connect, endless_store: Path, tmp_path: Path
) -> None:
    settings = {"CORRAL_DATA": str(tmp_path / "data"), "CORRAL_BATCH_PARALLEL": "1"}
    server = serve(endless_store, **settings)
    client = connect(server)
    made = begin(client, [endless("short", 3), endless("long")])
    until(client, made.id, lambda batch: bool(batch.request_counts and batch.request_counts.completed == 1))
    server.process.kill()
    server.process.wait()
    path = tmp_path / "data" / "batches" / made.id / "batch.json"
    kept = json.loads(path.read_text())
    kept["batch"]["expires_at"] = int(time.time()) - 1
    path.write_text(json.dumps(kept))
    client = connect(serve(endless_store, **settings))
    batch = ended(client, made.id)
    assert batch.status == "expired"
    assert [answer["custom_id"] for answer in results(client, batch.output_file_id)] == ["short"]
    (unanswered,) = results(client, batch.error_file_id)
    assert unanswered["error"]["code"] == "batch_expired"


def test_two_batches_share_the_server_and_live_requests_pass(
    serve: StartServer, connect: Connect, endless_store: Path
) -> None:
    client = connect(serve(endless_store))
    made = [begin(client, [endless(f"{name}{n}", 8) for n in range(3)]).id for name in "ab"]
    live = client.responses.create(model="endless", input="a", max_output_tokens=3, temperature=0)
    assert live.status == "incomplete"
    batches = [ended(client, batch_id) for batch_id in made]
    assert Counter(batch.status for batch in batches) == {"completed": 2}


def test_embeddings_are_made_in_batches(serve: StartServer, connect: Connect, tmp_path: Path) -> None:
    if (folder := minilm.published()) is None:
        pytest.skip(minilm.MISSING)
    from corral.store import Store
    from tests.convert.conftest import converted_here
    from tests.wire.test_replay import put

    store = Store(tmp_path / "models")
    put(store, "minilm", converted_here(folder, tmp_path / "minilm.gguf"), "bert", "22.57M", "F16")
    client = connect(serve(store.root))
    lines = [
        {
            "custom_id": str(n),
            "method": "POST",
            "url": "/v1/embeddings",
            "body": {"model": "minilm", "input": f"text {n}"},
        }
        for n in range(3)
    ]
    batch = ended(client, begin(client, lines, "/v1/embeddings").id)
    vectors = [answer["response"]["body"]["data"][0]["embedding"] for answer in results(client, batch.output_file_id)]
    assert [len(vector) for vector in vectors] == [384] * 3
