"""What goes wrong while a server works: engines, clients and servers that end in the middle of something."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import RunningServer, StartServer

TINY = {"model": "tiny", "prompt": "Hello", "options": {"temperature": 0}, "stream": False}
ENDLESS = {"model": "endless", "prompt": "a", "raw": True, "options": {"temperature": 0, "num_ctx": 16384}}


def short(num_predict: int, model: str = "endless") -> dict[str, object]:
    """A request that ends after so many tokens and no fewer: only a sampled token could be one that ends the answer."""
    options = {"temperature": 0, "num_predict": num_predict}
    return ENDLESS | {"model": model, "stream": False, "options": options}


def engines(server: RunningServer) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(server.process.pid).children():
        with suppress(psutil.NoSuchProcess):  # dead, and not yet reaped or just so
            if "corral.engine.worker" in child.cmdline():
                found.append(child)
    return found


def until(what: Callable[[], Any], seconds: float = 20) -> Any:
    """The first true value of ``what``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := what():
            return value
        time.sleep(0.01)
    raise AssertionError("it did not happen in time")


def ask(server: RunningServer, body: object, path: str = "/api/generate", method: str = "POST") -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.address.port, timeout=60)
    try:
        connection.request(method, path, json.dumps(body))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"{}")
    finally:
        connection.close()


def names(server: RunningServer, path: str) -> list[str]:
    return sorted(model["name"] for model in ask(server, {}, path, "GET")[1]["models"])


def loaded(server: RunningServer) -> list[str]:
    return names(server, "/api/ps")


class Stream:
    """An answer that is being read line by line."""

    def __init__(self, server: RunningServer, body: object) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.address.port, timeout=60)
        self._connection.request("POST", "/api/generate", json.dumps(body))
        self._answer = self._connection.getresponse()

    def line(self) -> dict[str, Any]:
        return dict(json.loads(self._answer.readline()))

    def rest(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._answer]

    def hang_up(self) -> None:
        self._answer.close()
        self._connection.close()


def test_an_engine_that_dies_in_mid_answer_ends_the_stream_with_an_error(serve: StartServer, endless: Path) -> None:
    server = serve(endless)
    stream = Stream(server, ENDLESS)
    assert not stream.line()["done"]
    (engine,) = engines(server)
    engine.kill()
    *_, last = stream.rest()
    assert last == {"error": "the engine ended unexpectedly (signal 9) while it worked on this request"}
    stream.hang_up()
    assert ask(server, short(3))[1]["eval_count"] == 3
    assert engines(server) != [engine]
    assert "ended unexpectedly with status -9" in server.log()


def test_an_engine_that_dies_before_it_says_anything_is_replaced_unnoticed(server: RunningServer) -> None:
    ask(server, TINY)
    (engine,) = engines(server)
    engine.suspend()
    with ThreadPoolExecutor() as threads:
        answer = threads.submit(ask, server, TINY)
        until(lambda: engine.net_connections("tcp"))
        time.sleep(0.2)  # the request is on its way
        engine.kill()
        status, body = answer.result()
    assert (status, body["response"]) == (200, "Hello! How can I help you?")
    assert "trying once more on a fresh engine" in server.log()


def test_an_engine_that_dies_twice_is_an_error_and_not_a_loop(server: RunningServer) -> None:
    ask(server, TINY)
    killed = set()
    with ThreadPoolExecutor() as threads:
        for process in engines(server):
            process.suspend()
        answer = threads.submit(ask, server, TINY)
        while not answer.done():
            for process in engines(server):
                if process.pid not in killed:
                    killed.add(process.pid)
                    time.sleep(0.1 if len(killed) == 1 else 0)
                    process.kill()
            time.sleep(0.005)
    assert len(killed) in {2, 3}
    assert answer.result()[0] == 500
    assert ask(server, TINY)[0] == 200


def test_an_idle_engine_that_dies_is_no_longer_listed(server: RunningServer) -> None:
    ask(server, TINY)
    assert loaded(server) == ["tiny:latest"]
    engines(server)[0].kill()
    until(lambda: loaded(server) == [])
    assert ask(server, TINY)[1]["done"]


def test_a_client_that_hangs_up_gives_its_slot_to_the_next(serve: StartServer, endless: Path) -> None:
    server = serve(endless, CORRAL_NUM_PARALLEL="1")
    stream = Stream(server, ENDLESS)
    stream.line()
    stream.hang_up()
    # The only slot would be taken for minutes otherwise.
    assert ask(server, short(2))[1]["eval_count"] == 2


def test_a_client_that_hangs_up_while_it_waits_is_forgotten(serve: StartServer, endless: Path) -> None:
    server = serve(endless, CORRAL_NUM_PARALLEL="1")
    first = Stream(server, ENDLESS)
    first.line()
    waiting = http.client.HTTPConnection("127.0.0.1", server.address.port)
    waiting.request("POST", "/api/generate", json.dumps(ENDLESS))
    waiting.close()
    first.hang_up()
    assert ask(server, short(2))[1]["eval_count"] == 2


def test_a_server_that_is_stopped_ends_streams_engines_and_its_port(serve: StartServer, endless: Path) -> None:
    server = serve(endless)
    stream = Stream(server, ENDLESS)
    stream.line()
    ask(server, TINY)
    children = engines(server)
    assert len(children) == 2
    server.process.send_signal(signal.SIGTERM)
    assert stream.rest()[-1] == {"error": "the server is shutting down"}
    stream.hang_up()
    assert server.process.wait(20) == 0
    assert not any(child.is_running() for child in children)
    with socket.create_server(("127.0.0.1", server.address.port)):
        pass  # the port is free
    assert list((server.data / "logs").iterdir()) == []


def test_a_server_that_is_killed_leaves_no_engine_behind(server: RunningServer) -> None:
    ask(server, TINY)
    (engine,) = engines(server)
    server.process.kill()
    engine.wait(10)


def test_what_engines_of_a_killed_server_kept_is_removed_by_the_next(serve: StartServer, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    killed, living = (serve(TMPDIR=str(temporary)) for _ in range(2))
    folders = []
    for server in (killed, living):
        ask(server, TINY)
        folders += set(temporary.glob("corral-states-*")) - set(folders)
    (folders[0] / "states" / "prefix-0").write_bytes(b"state")
    killed.process.kill()
    killed.process.wait()
    assert all(folder.exists() for folder in folders)
    ask(serve(TMPDIR=str(temporary)), TINY | {"prompt": ""})
    assert not folders[0].exists()
    assert folders[1].exists()
    living.stop()
    assert not folders[1].exists()


def test_a_server_that_is_stopped_during_a_load_ends_at_once(serve: StartServer, endless: Path) -> None:
    server = serve(endless)
    with ThreadPoolExecutor() as threads:
        answer = threads.submit(ask, server, ENDLESS | {"stream": False})
        (engine,) = until(lambda: engines(server))
        assert server.stop() == 0
        assert answer.result() == (503, {"error": "the server is shutting down"})
    assert not engine.is_running()


def test_two_models_over_one_file_never_share_an_engine(serve: StartServer, endless: Path) -> None:
    server = serve(endless)
    for model in ("endless", "twin"):
        ask(server, short(1, model))
    assert loaded(server) == ["endless:latest", "twin:latest"]
    assert len(engines(server)) == 2
    ask(server, {"model": "twin", "keep_alive": 0})
    until(lambda: loaded(server) == ["endless:latest"])


def test_two_servers_on_one_store_see_each_others_changes(serve: StartServer) -> None:
    first, second = serve(), serve()
    with ThreadPoolExecutor() as threads:
        answers = list(threads.map(lambda server: ask(server, TINY), [first, second] * 4))
    assert {status for status, _ in answers} == {200}
    assert ask(first, {"source": "tiny", "destination": "mine"}, "/api/copy")[0] == 200
    assert ask(second, TINY | {"model": "mine"})[0] == 200
    assert ask(second, {"model": "tiny"}, "/api/delete", "DELETE")[0] == 200
    assert names(first, "/api/tags") == ["mine:latest"]
    assert ask(first, TINY | {"model": "mine"})[0] == 200  # the files of a copy stay
    assert ask(first, {"model": "mine"}, "/api/delete", "DELETE")[0] == 200
    assert ask(second, TINY | {"model": "mine"})[0] == 404


def test_a_damaged_manifest_hides_only_itself(serve: StartServer, endless: Path) -> None:
    (endless / "manifests/registry.ollama.ai/library/twin/latest").write_bytes(b'{"schemaVersion": 2, "layers": [')
    server = serve(endless)
    assert names(server, "/api/tags") == ["endless:latest"]
    status, body = ask(server, ENDLESS | {"model": "twin"})
    assert status == 500
    assert body["error"].startswith('the manifest of "twin:latest" is damaged')


@pytest.mark.parametrize("keep", [0, 3, 100, 100_000])
def test_a_damaged_model_is_an_error_that_names_it(serve: StartServer, endless: Path, keep: int) -> None:
    (weights,) = (path for path in (endless / "blobs").iterdir() if path.stat().st_size > 100_000)
    os.truncate(weights, keep)
    server = serve(endless)
    status, body = ask(server, ENDLESS)
    assert status == 500
    assert weights.name in body["error"] or "endless" in body["error"]
    assert engines(server) == []
    assert ask(server, TINY)[0] == 200


def test_a_store_that_cannot_be_written_still_serves_what_it_holds(serve: StartServer, endless: Path) -> None:
    """A folder in the way stands for a store of another owner, which does not keep the super-user out."""
    (endless / ".corral.lock").unlink(missing_ok=True)
    (endless / ".corral.lock").mkdir()
    server = serve(endless)
    assert ask(server, short(1))[0] == 200
    status, body = ask(server, {"source": "endless", "destination": "mine"}, "/api/copy")
    assert status == 500
    assert body["error"].startswith(f"cannot write to the model store {endless}: ")
    assert ask(server, TINY) == (500, body)  # it ships with Corral, but there is no place for it


def test_requests_that_come_while_a_model_loads_share_the_load(server: RunningServer) -> None:
    barrier = threading.Barrier(6)

    def one(_: int) -> int:
        barrier.wait()
        return ask(server, TINY)[0]

    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(one, range(6))) == [200] * 6
    assert server.log().count("loaded tiny") == 1
