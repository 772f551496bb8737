"""The life of a server: what is loaded before anybody asks, what `ps` tells, and how it ends."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.conftest import RunningServer, StartServer
from tests.server.test_faults import ENDLESS, TINY, Stream, ask, engines, loaded, short, until


def ps(server: RunningServer) -> list[dict[str, object]]:
    models = ask(server, {}, "/api/ps", "GET")[1]["models"]
    assert isinstance(models, list)
    return models


def test_models_are_loaded_at_the_start_and_ready_says_when(serve: StartServer, endless: Path) -> None:
    server = serve(endless, CORRAL_PRELOAD="missing, twin", CORRAL_PIN="endless")
    until(lambda: ask(server, {}, "/ready", "GET")[0] == 200)
    assert loaded(server) == ["endless:latest", "twin:latest"]
    assert 'preloading missing:latest failed: model "missing:latest" not found' in server.log()


def test_a_pinned_model_stays_whatever_is_asked(serve: StartServer) -> None:
    server = serve(CORRAL_PIN="tiny")
    until(lambda: loaded(server) == ["tiny:latest"])
    status, body = ask(server, {"model": "tiny", "keep_alive": 0})
    assert (status, "pinned" in body["error"]) == (400, True)
    assert ask(server, TINY | {"keep_alive": 0})[0] == 200
    assert loaded(server) == ["tiny:latest"]
    (engine,) = engines(server)
    engine.kill()
    until(lambda: loaded(server) == [])
    assert ask(server, TINY)[0] == 200
    assert ps(server)[0]["engine"]["pinned"] is True  # type: ignore[index]


def test_ps_tells_how_busy_an_engine_is(serve: StartServer, endless: Path) -> None:
    server = serve(endless, CORRAL_NUM_PARALLEL="2")
    streams = [Stream(server, ENDLESS) for _ in range(2)]
    for stream in streams:
        stream.line()
    (model,) = ps(server)
    engine = model["engine"]
    assert isinstance(engine, dict)
    assert (engine["slots"], engine["slots_in_use"], engine["state"]) == (2, 2, "ready")
    assert engine["pool_tokens"] == 2 * 16384
    assert engine["memory"]["CPU"] > 100_000_000
    assert (engine["cache_type"], engine["gpu_layers"], engine["lowered"], engine["pinned"]) == ("f16", 0, [], False)
    for stream in streams:
        stream.hang_up()
    until(lambda: ps(server)[0]["engine"]["slots_in_use"] == 0)  # type: ignore[index]


def test_the_number_of_slots_is_a_parameter_of_a_model(serve: StartServer, endless: Path) -> None:
    server = serve(endless)
    parameters = {"num_parallel": 3}
    assert (
        ask(server, {"model": "mine", "from": "endless", "parameters": parameters, "stream": False}, "/api/create")[0]
        == 200
    )
    assert ask(server, short(1, "mine"))[0] == 200
    assert ps(server)[0]["engine"]["slots"] == 3  # type: ignore[index]
    assert "num_parallel" in ask(server, {"model": "mine"}, "/api/show")[1]["parameters"]


def test_answers_may_end_while_the_server_does_and_nothing_new_begins(serve: StartServer, endless: Path) -> None:
    server = serve(endless, CORRAL_DRAIN_TIMEOUT="60s")
    stream = Stream(server, short(400) | {"stream": True})
    stream.line()
    server.process.send_signal(signal.SIGTERM)
    until(lambda: "have 60 s to end" in server.log())
    assert ask(server, TINY) == (503, {"error": "the server is shutting down"})
    assert ask(server, {}, "/ready", "GET")[0] == 503
    assert ask(server, {}, "/health", "GET")[0] == 200
    assert stream.rest()[-1]["eval_count"] == 400
    stream.hang_up()
    assert server.process.wait(20) == 0


def test_answers_that_do_not_end_in_time_are_told(serve: StartServer, endless: Path) -> None:
    server = serve(endless, CORRAL_DRAIN_TIMEOUT="200ms")
    stream = Stream(server, ENDLESS)
    stream.line()
    server.process.send_signal(signal.SIGTERM)
    assert stream.rest()[-1] == {"error": "the server is shutting down"}
    stream.hang_up()
    assert server.process.wait(20) == 0


def test_a_second_signal_ends_at_once(serve: StartServer, endless: Path) -> None:
    server = serve(endless, CORRAL_DRAIN_TIMEOUT="-1")
    stream = Stream(server, ENDLESS)
    stream.line()
    children = engines(server)
    for number in (signal.SIGTERM, signal.SIGINT):
        server.process.send_signal(number)
        until(lambda: "a second signal ends them now" in server.log())
    assert stream.rest()[-1] == {"error": "the server is shutting down"}
    stream.hang_up()
    assert server.process.wait(20) == 0
    assert not any(child.is_running() for child in children)


def test_an_engine_that_is_killed_while_it_loads_is_started_again(serve: StartServer, endless: Path) -> None:
    server = serve(endless)
    with ThreadPoolExecutor() as threads:
        answer = threads.submit(ask, server, short(2))
        (engine,) = until(lambda: engines(server))
        engine.kill()
        assert answer.result()[0] == 200
    assert len(engines(server)) == 1


def test_weights_that_went_away_are_an_error_that_names_them(serve: StartServer, endless: Path) -> None:
    server = serve(endless)
    assert ask(server, short(1))[0] == 200
    ask(server, {"model": "endless", "keep_alive": 0})
    until(lambda: loaded(server) == [])
    for blob in (endless / "blobs").glob("sha256-*"):
        if blob.stat().st_size > 1_000_000:
            blob.unlink()
    status, body = ask(server, short(1))
    assert status in (404, 500)
    assert "endless" in body["error"]
    assert loaded(server) == []
    assert ask(server, TINY)[0] == 200
