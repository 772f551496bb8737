"""Responses that are kept, listed, built upon and forgotten."""

from __future__ import annotations

import stat
import threading
import time
from pathlib import Path
from typing import Any

import openai
import pytest

from corral.errors import StoreError
from corral.server.remembered import Bounds, Remembered
from tests.conftest import StartServer
from tests.server.conftest import Connect

GREEDY: Any = {"model": "tiny", "temperature": 0}
ROOMY = Bounds(max_count=100, max_bytes=1 << 20, ttl_s=3600)


def message(text: str) -> dict[str, Any]:
    return {"id": f"msg_{text}", "type": "message", "role": "user", "content": text}


def response(name: str, *, previous: str | None = None, created: float | None = None, text: str = "") -> dict[str, Any]:
    made = time.time() if created is None else created
    output = [message(f"{name} says {text}")]
    return {"id": name, "created_at": made, "previous_response_id": previous, "status": "completed", "output": output}


def test_a_conversation_goes_on_from_the_response_before(client: openai.OpenAI) -> None:
    first = client.responses.create(input="My name is Ada.", **GREEDY)
    second = client.responses.create(input="What is my name?", previous_response_id=first.id, **GREEDY)
    assert second.output_text == "Your name is Ada."
    assert client.responses.retrieve(second.id) == second


def test_input_items_come_page_by_page(client: openai.OpenAI) -> None:
    turns: Any = [{"role": "user", "content": f"turn {number}"} for number in range(5)]
    made = client.responses.create(input=turns, max_output_tokens=1, **GREEDY)

    def texts(**query: Any) -> list[str]:
        return [item.content[0].text for item in client.responses.input_items.list(made.id, **query).data]  # type: ignore

    assert texts() == [f"turn {number}" for number in (4, 3, 2, 1, 0)]
    assert texts(order="asc", limit=2) == ["turn 0", "turn 1"]
    page = client.responses.input_items.list(made.id, order="asc", limit=2)
    assert page.has_next_page()
    assert [item.id for item in page.get_next_page().data] != [item.id for item in page.data]
    everything = list(client.responses.input_items.list(made.id, order="asc", limit=2))
    assert len({item.id for item in everything}) == 5
    with pytest.raises(openai.BadRequestError, match="between 1 and 100"):
        texts(limit=101)


def test_an_item_of_an_earlier_response_can_be_named(client: openai.OpenAI) -> None:
    first = client.responses.create(input="My name is Ada.", **GREEDY)
    (item,) = client.responses.input_items.list(first.id).data
    named: Any = [{"type": "item_reference", "id": item.id}, {"role": "user", "content": "What is my name?"}]
    assert client.responses.create(input=named, **GREEDY).output_text == "Your name is Ada."
    gone: Any = [{"type": "item_reference", "id": "msg_gone"}]
    with pytest.raises(openai.NotFoundError, match="Item with id 'msg_gone' not found"):
        client.responses.create(input=gone, **GREEDY)


def test_what_is_deleted_or_was_not_to_be_kept_is_not_there(client: openai.OpenAI) -> None:
    made = client.responses.create(input="Hello", **GREEDY)
    client.responses.delete(made.id)
    unkept = client.responses.create(input="Hello", store=False, **GREEDY)
    for name in (made.id, unkept.id):
        with pytest.raises(openai.NotFoundError, match=f"Response with id '{name}' not found"):
            client.responses.retrieve(name)
        with pytest.raises(openai.BadRequestError) as caught:
            client.responses.create(input="Hello", previous_response_id=name, **GREEDY)
        assert (caught.value.code, caught.value.param) == ("previous_response_not_found", "previous_response_id")


def test_nothing_is_on_the_disk_unless_it_was_asked_for(serve: StartServer, connect: Connect) -> None:
    server = serve()
    connect(server).responses.create(input="My name is Ada.", **GREEDY)
    server.stop()
    written = [path for path in server.data.rglob("*") if path.is_file()]
    assert not [path for path in written if b"My name is Ada" in path.read_bytes()]


def test_responses_on_disk_survive_a_restart_and_are_their_owners_alone(
    serve: StartServer, connect: Connect, tmp_path: Path
) -> None:
    data = str(tmp_path / "data")
    first = serve(CORRAL_RESPONSES="disk", CORRAL_DATA=data)
    made = connect(first).responses.create(input="My name is Ada.", **GREEDY)
    first.process.kill()
    first.process.wait()
    folder = tmp_path / "data" / "responses"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    client = connect(serve(CORRAL_RESPONSES="disk", CORRAL_DATA=data))
    answer = client.responses.create(input="What is my name?", previous_response_id=made.id, **GREEDY)
    assert answer.output_text == "Your name is Ada."


def test_a_server_that_keeps_nothing_says_so(serve: StartServer, connect: Connect) -> None:
    client = connect(serve(CORRAL_RESPONSES="off"))
    made = client.responses.create(input="Hello", **GREEDY)
    assert made.model_dump()["store"] is False
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)
    for wish in ({"store": True}, {"background": True}, {"previous_response_id": made.id}):
        with pytest.raises(openai.BadRequestError, match="CORRAL_RESPONSES=off") as caught:
            client.responses.create(input="Hello", **GREEDY, **wish)  # type: ignore[call-overload]
        assert caught.value.param == next(iter(wish))


def test_the_longest_unused_go_when_there_are_too_many() -> None:
    kept = Remembered(None, Bounds(max_count=2, max_bytes=1 << 20, ttl_s=3600))
    kept.put(response("a"), [message("a")], finished=True)
    kept.put(response("b"), [], finished=True)
    kept.conversation("a")  # used, so younger than b now
    kept.put(response("c"), [], finished=True)
    assert [bool(kept.get(name)) for name in "abc"] == [True, False, True]
    assert kept.item("msg_b says ") is None
    kept.close()


def test_the_longest_unused_go_when_they_are_too_large() -> None:
    kept = Remembered(None, Bounds(max_count=100, max_bytes=5000, ttl_s=3600))
    for name in "abc":
        kept.put(response(name, text="x" * 1000), [], finished=True)
    assert [bool(kept.get(name)) for name in "abc"] == [False, True, True]
    kept.close()


def test_one_that_is_at_work_is_never_forgotten() -> None:
    kept = Remembered(None, Bounds(max_count=1, max_bytes=1 << 20, ttl_s=3600))
    kept.put(response("work"), [], finished=False)
    kept.put(response("b"), [], finished=True)
    kept.put(response("c"), [], finished=True)
    assert kept.get("work")
    assert kept.unfinished() == ["work"]
    kept.close()


def test_what_is_too_old_is_not_there() -> None:
    kept = Remembered(None, Bounds(max_count=100, max_bytes=1 << 20, ttl_s=60))
    kept.put(response("old", created=0.0), [message("x")], finished=True)
    assert kept.get("old") is None
    assert kept.conversation("old") is None
    kept.put(response("new"), [], finished=True)
    assert kept.item("msg_x") is None  # and gone
    kept.close()


def test_a_conversation_is_read_in_order_and_not_at_all_where_a_part_is_gone() -> None:
    kept = Remembered(None, ROOMY)
    kept.put(response("a"), [message("1")], finished=True)
    kept.put(response("b", previous="a"), [message("2"), message("3")], finished=True)
    told = kept.conversation("b")
    assert told is not None
    assert [item["content"] for item in told] == ["1", "a says ", "2", "3", "b says "]
    assert kept.delete("a")
    assert not kept.delete("a")
    assert kept.conversation("b") is None
    kept.close()


def test_a_file_that_is_no_database_is_an_error_with_advice(tmp_path: Path) -> None:
    path = tmp_path / "responses.db"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(StoreError, match=r"responses cannot be kept in .*CORRAL_RESPONSES=off"):
        Remembered(path, ROOMY)


def test_many_at_a_time_are_all_kept(client: openai.OpenAI) -> None:
    made: list[str] = []

    def ask() -> None:
        made.append(client.responses.create(input="Hello", **GREEDY).id)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({client.responses.retrieve(name).id for name in made}) == 8
