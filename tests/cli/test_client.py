"""The client: what it makes of answers, and how it lets go of them."""

from __future__ import annotations

import socket
import threading

import pytest

from corral.client import Client
from corral.config import Address
from corral.errors import ServerError, ServerUnreachable
from tests.cli.fake import FakeServer, Reply, lines, recorded


@pytest.fixture
def client(fake: FakeServer) -> Client:
    return Client(Address("127.0.0.1", fake.port))


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_a_recorded_stream_comes_object_by_object_and_ends_with_done(fake: FakeServer, client: Client) -> None:
    fake.say("/api/chat", recorded("chat_think_stream"))
    objects = list(client.chat({"model": "tiny"}))
    assert [o["done"] for o in objects] == [False] * (len(objects) - 1) + [True]
    assert objects[0]["message"]["thinking"] == "I"


def test_what_is_left_open_is_not_sent(fake: FakeServer, client: Client) -> None:
    fake.say("/api/generate", lines({"done": True}))
    list(client.generate({"model": "tiny", "think": None, "prompt": ""}))
    assert fake.bodies("/api/generate") == [{"model": "tiny", "prompt": ""}]


def test_loading_and_unloading_are_generations_without_a_prompt(fake: FakeServer, client: Client) -> None:
    client.load("tiny", "5m")
    client.unload("tiny")
    assert fake.bodies("/api/generate") == [
        {"model": "tiny", "keep_alive": "5m"},
        {"model": "tiny", "keep_alive": 0},
    ]


def test_an_error_has_the_servers_text_and_status(fake: FakeServer, client: Client) -> None:
    fake.say("/api/copy", recorded("copy_unknown"))
    with pytest.raises(ServerError, match=r'^model "nope" not found$') as caught:
        client.copy("nope", "x")
    assert caught.value.status == 404


def test_an_error_in_mid_stream_raises_after_what_came_before(fake: FakeServer, client: Client) -> None:
    fake.say("/api/generate", lines({"response": "Hel", "done": False}, {"error": "engine died"}))
    stream = client.generate({"model": "tiny"})
    assert next(stream)["response"] == "Hel"
    with pytest.raises(ServerError, match=r"^engine died$"):
        next(stream)


@pytest.mark.parametrize("whole", [True, False], ids=["without done", "cut off"])
def test_a_stream_without_its_end_is_an_error(fake: FakeServer, client: Client, whole: bool) -> None:
    fake.say("/api/generate", lines({"response": "Hel", "done": False}, whole=whole))
    stream = client.generate({"model": "tiny"})
    next(stream)
    with pytest.raises(ServerError, match="the answer ended early"):
        next(stream)


def test_an_error_without_a_body_still_says_something(fake: FakeServer, client: Client) -> None:
    fake.say("/api/generate", Reply("", 403))
    with pytest.raises(ServerError, match="status 403"):
        next(client.generate({"model": "tiny"}))


def test_closing_a_stream_hangs_up(fake: FakeServer, client: Client) -> None:
    fake.say("/api/generate", lines({"response": "Hel", "done": False}, hangs=True))
    stream = client.generate({"model": "tiny"})
    next(stream)
    stream.close()
    assert fake.hung_up.wait(10)


def test_a_port_where_nobody_listens_is_not_reachable_and_says_what_to_try(closed_port: int) -> None:
    client = Client(Address("127.0.0.1", closed_port))
    assert not client.reachable()
    with pytest.raises(ServerUnreachable, match="try: corral serve"):
        client.tags()


@pytest.mark.parametrize("reply", [Reply("{}"), Reply("hello"), Reply("no", 404)], ids=["empty", "text", "404"])
def test_another_http_server_is_not_taken_for_ours(fake: FakeServer, client: Client, reply: Reply) -> None:
    fake.say("/api/version", reply)
    with pytest.raises(ServerUnreachable, match="neither Corral nor Ollama"):
        client.reachable()


def test_a_server_that_refuses_us_is_not_called_a_stranger(fake: FakeServer, client: Client) -> None:
    fake.say("/api/version", Reply("", 403))
    with pytest.raises(ServerUnreachable, match="refuses this client"):
        client.reachable()


def test_a_program_that_speaks_no_http_is_not_taken_for_ours() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")
                connection.recv(65536)

        thread = threading.Thread(target=greet)
        thread.start()
        with pytest.raises(ServerUnreachable, match="neither Corral nor Ollama"):
            Client(Address("127.0.0.1", listener.getsockname()[1])).reachable()
        thread.join()


def test_a_program_that_never_answers_is_an_error_and_not_an_absent_server() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(ServerUnreachable, match="nothing came back in time"),
    ):
        Client(Address("127.0.0.1", listener.getsockname()[1])).reachable(timeout_s=0.05)


def test_a_host_that_cannot_be_one_is_a_sentence() -> None:
    with pytest.raises(ServerUnreachable, match="is CORRAL_HOST right"):
        Client(Address("a..b", 1)).reachable()
