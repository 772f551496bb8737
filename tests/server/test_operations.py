"""What operators see: the numbers after known requests, whether the server is ready, and the id of a request in its log."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx
import psutil
import pytest
import uvicorn
from anyio.lowlevel import checkpoint
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from corral.config import Settings, load_settings
from corral.server.app import create_app
from corral.server.asked import Asked
from corral.server.inflight import Inflight
from corral.server.state import State
from tests.conftest import RunningServer, StartServer
from tests.server.test_entrance import ask
from tests.server.test_faults import ENDLESS, TINY, Stream, engines, until

MOST_MEMORY_BYTES = 120 << 20
DASHBOARD = Path(__file__).parents[2] / "docs" / "grafana.json"


class Numbers:
    """What ``/metrics`` says."""

    def __init__(self, server: RunningServer) -> None:
        status, headers, text = ask(server, "GET", "/metrics")
        assert status == 200
        assert headers["content-type"].startswith("text/plain; version=")
        self.families = list(text_string_to_metric_families(text))

    def __call__(self, sample_name: str, **labels: str) -> float:
        """The sum of the samples that have ``labels``; 0 if there are none."""
        return sum(
            sample.value
            for family in self.families
            for sample in family.samples
            if sample.name == sample_name and labels.items() <= sample.labels.items()
        )

    def labels(self, name: str) -> set[str]:
        return {s.labels[name] for family in self.families for s in family.samples if name in s.labels}


def post(server: RunningServer, path: str, body: object, **headers: str) -> tuple[int, dict[str, str], str]:
    return ask(server, "POST", path, json.dumps(body), **headers)


def test_known_requests_have_known_numbers(server: RunningServer) -> None:
    answers = [json.loads(post(server, "/api/generate", {**TINY, "model": name})[2]) for name in ("tiny", "TINY")]
    assert post(server, "/api/generate", {**TINY, "model": "nosuch"})[0] == 404
    assert post(server, "/api/generate", {**TINY, "options": {"num_ctx": "many"}})[0] == 400
    assert ask(server, "GET", "/nosuch")[0] == 404
    numbers = Numbers(server)
    mine = {"model": "tiny:latest"}
    assert numbers("corral_requests_total", dialect="native", outcome="ok", **mine) == 2
    assert numbers("corral_requests_total", dialect="native", outcome="refused", model="") >= 1
    assert numbers("corral_requests_total", dialect="native", outcome="refused") == 2
    assert numbers("corral_requests_total", dialect="other", outcome="refused") == 1
    assert numbers("corral_generated_tokens_total", **mine) == sum(answer["eval_count"] for answer in answers)
    assert numbers("corral_prompt_tokens_total", **mine) == sum(answer["prompt_eval_count"] for answer in answers)
    assert 0 < numbers("corral_cached_tokens_total", **mine) < numbers("corral_prompt_tokens_total", **mine)
    assert numbers("corral_time_to_first_token_seconds_count", **mine) == 2
    assert numbers("corral_queue_wait_seconds_count") == 2
    assert numbers("corral_model_loads_total", outcome="ok", **mine) == numbers("corral_engines") == 1
    assert numbers("corral_model_load_seconds_sum", **mine) > 0
    assert numbers("corral_engine_memory_bytes", **mine) > 1 << 20
    assert numbers("corral_engine_slots", **mine) >= 1
    assert numbers("corral_engine_requests", **mine) == numbers("corral_queue_depth") == 0
    assert numbers.labels("model") == {"", "tiny:latest"}


def test_a_model_that_is_deleted_leaves_the_numbers(server: RunningServer) -> None:
    post(server, "/api/copy", {"source": "tiny", "destination": "mine"})
    post(server, "/api/generate", {**TINY, "model": "mine", "keep_alive": 0})
    assert Numbers(server)("corral_requests_total", model="mine:latest") == 1
    ask(server, "DELETE", "/api/delete", json.dumps({"model": "mine"}))
    assert "mine:latest" not in Numbers(server).labels("model")


def test_a_killed_engine_and_the_request_it_had_are_counted(serve: StartServer, endless: Path) -> None:
    server = serve(endless)
    stream = Stream(server, ENDLESS)
    stream.line()
    assert Numbers(server)("corral_engine_requests", model="endless:latest") == 1
    (engine,) = engines(server)
    engine.kill()
    stream.rest()
    until(lambda: Numbers(server)("corral_engine_crashes_total", model="endless:latest") == 1)
    until(lambda: Numbers(server)("corral_requests_total", model="endless:latest", outcome="failed") == 1)
    stream.hang_up()


def test_a_hang_up_is_an_outcome_of_its_own(serve: StartServer, endless: Path) -> None:
    server = serve(endless)
    stream = Stream(server, ENDLESS)
    stream.line()
    assert Numbers(server)("corral_requests_in_flight") == 1
    stream.hang_up()
    until(lambda: Numbers(server)("corral_requests_total", model="endless:latest", outcome="hung_up") == 1)
    assert Numbers(server)("corral_requests_total", model="endless:latest") == 1
    assert Numbers(server)("corral_requests_in_flight") == 0


def test_a_model_that_makes_room_is_counted(serve: StartServer, endless: Path) -> None:
    server = serve(endless, CORRAL_MAX_LOADED_MODELS="1")
    for model in ("endless", "twin"):
        post(server, "/api/generate", {"model": model})
    assert Numbers(server)("corral_evictions_total", model="endless:latest") == 1
    assert Numbers(server)("corral_evictions_total") == 1


def test_bytes_of_a_pull_are_counted(serve: StartServer, endless: Path, tmp_path: Path) -> None:
    source, server = serve(endless), serve(tmp_path / "other", CORRAL_OFFLINE="0")
    size = next(m["size"] for m in json.loads(ask(source, "GET", "/api/tags")[2])["models"] if "endless" in m["name"])
    name = f"http://127.0.0.1:{source.address.port}/library/endless"
    assert post(server, "/api/pull", {"model": name, "insecure": True, "stream": False})[0] == 200
    assert Numbers(server)("corral_transfer_bytes_total", direction="pull") == size
    assert Numbers(server)("corral_transfer_bytes_total", direction="push") == 0
    assert Numbers(server)("corral_requests_total", dialect="native", outcome="ok") == 1
    assert Numbers(source)("corral_requests_total", dialect="registry", outcome="ok") >= 2


def test_the_dashboard_shows_all_metrics_and_no_others(shared_server: RunningServer) -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    expressions += [variable["query"] for variable in dashboard["templating"]["list"]]
    shown = {name for text in expressions for name in re.findall(r"\bcorral_\w+", text)}
    suffixes = {"counter": ["_total"], "histogram": ["_bucket"], "gauge": [""], "info": ["_info"]}
    there = {f.name + suffix for f in Numbers(shared_server).families for suffix in suffixes[f.type]}
    assert shown == there


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
def test_the_paths_of_operators_follow_the_rules_of_all_others(shared_server: RunningServer, path: str) -> None:
    assert ask(shared_server, "GET", path)[0] == 200
    status, _, body = ask(shared_server, "HEAD", path)
    assert (status, body) == (200, "")
    status, headers, _ = ask(shared_server, "POST", path, "{}")
    assert (status, headers["allow"]) == (405, "HEAD, GET")
    assert ask(shared_server, "GET", path, Host="evil.example")[0] == 403
    assert ask(shared_server, "GET", path, Origin="https://evil.example")[0] == 403


def test_a_server_without_a_readable_store_is_alive_and_not_ready(server: RunningServer) -> None:
    assert ask(server, "GET", "/ready")[0] == 200
    server.models.mkdir(exist_ok=True)
    (server.models / "manifests").write_text("no folder")
    status, _, body = ask(server, "GET", "/ready")
    assert status == 503
    assert str(server.models) in json.loads(body)["reason"]
    assert ask(server, "GET", "/health")[0] == 200


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[int]:
    """The port of ``app``, served in this process."""
    server = uvicorn.Server(uvicorn.Config(app, log_config=None))
    listener = socket.create_server(("127.0.0.1", 0))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, [listener])
        while not server.started:
            await checkpoint()
        yield listener.getsockname()[1]
        server.should_exit = True


def settings(tmp_path: Path) -> Settings:
    return load_settings({"CORRAL_MODELS": str(tmp_path), "CORRAL_DATA": str(tmp_path), "CORRAL_CONFIG": "none"})


@pytest.mark.anyio
async def test_a_server_that_shuts_down_is_not_ready(tmp_path: Path) -> None:
    inflight = Inflight()
    async with served(create_app(settings(tmp_path), inflight)) as port:
        inflight.close()
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"http://127.0.0.1:{port}/ready")
    assert (answer.status_code, answer.json()["reason"]) == (503, "the server is shutting down")


@pytest.mark.anyio
async def test_a_bug_is_counted_and_has_an_id(tmp_path: Path) -> None:
    async def bug(request: Request) -> Response:
        raise ZeroDivisionError

    app = create_app(settings(tmp_path), Inflight())
    app.router.routes.append(Route("/bug", bug))
    async with served(app) as port, httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"http://127.0.0.1:{port}/bug", headers={"X-Request-Id": "request-9"})
        state: State = app.state.corral
        assert state.requests == {("other", "", "failed"): 1}
    assert (answer.status_code, answer.headers.get_list("x-request-id")) == (500, ["request-9"])


@pytest.mark.parametrize(
    ("status", "asked", "closing", "outcome"),
    [
        (200, {"whole": True}, False, "ok"),
        (200, {"whole": True}, True, "ok"),
        (200, {"whole": True, "broken": True}, False, "failed"),
        (200, {"whole": True, "broken": True}, True, "stopped"),
        (200, {"whole": False}, False, "failed"),
        (404, {"whole": True}, False, "refused"),
        (500, {"whole": True}, False, "failed"),
        (503, {"whole": True}, False, "unavailable"),
        (503, {"whole": True}, True, "stopped"),
        (500, {"hung_up": True}, True, "hung_up"),
    ],
)
def test_how_a_request_ended(status: int, asked: dict[str, bool], closing: bool, outcome: str) -> None:
    assert Asked("id", "native", **asked).outcome(status, closing=closing) == outcome  # type: ignore[arg-type]


def test_every_answer_has_the_id_of_its_request(shared_server: RunningServer) -> None:
    requests = [("GET", "/"), ("GET", "/nosuch"), ("PUT", "/api/tags"), ("GET", "/api//tags"), ("POST", "/api/chat")]
    ids = [ask(shared_server, method, path)[1]["x-request-id"] for method, path in requests]
    ids.append(ask(shared_server, "GET", "/", Host="evil.example")[1]["x-request-id"])
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch("[0-9a-f]{16}", one) for one in ids)


@pytest.mark.parametrize(
    ("given", "kept"),
    [("a1B2-c3.d4_e5", True), ("x" * 128, True), ("x" * 129, False), ("a b", False), ("a\tINFO", False), ("", False)],
)
def test_a_sane_id_is_kept_and_another_replaced(shared_server: RunningServer, given: str, kept: bool) -> None:
    assert (ask(shared_server, "GET", "/", X_Request_Id=given)[1]["x-request-id"] == given) is kept


def test_all_lines_of_a_request_have_its_id_and_none_its_prompt(serve: StartServer) -> None:
    server = serve(CORRAL_LOG_LEVEL="debug")
    body = {**TINY, "prompt": "a secret of mine", "system": "and another secret"}
    assert post(server, "/api/generate", body, X_Request_Id="request-7")[0] == 200
    post(server, "/api/generate", {"model": "tiny", "keep_alive": 0}, X_Request_Id="request-8")
    until(lambda: "unloaded tiny:latest" in server.log() and server.log().count("corral.access") == 2)
    ids = {
        what: next(line for line in server.log().splitlines() if what in line).split()[3]
        for what in ("loaded tiny:latest in", "/api/generate 200", "listening on", "unloaded tiny:latest")
    }
    assert list(ids.values()) == ["request-7", "request-7", "-", "-"]
    assert "secret" not in server.log()


def test_a_watched_server_stays_light(server: RunningServer) -> None:
    assert 0 < Numbers(server)("corral_server_memory_bytes") < MOST_MEMORY_BYTES
    assert psutil.Process(server.process.pid).memory_info().rss < MOST_MEMORY_BYTES


def test_the_library_for_metrics_is_imported_by_the_first_who_asks() -> None:
    code = "import sys, corral.cli.main, corral.server.app; print('prometheus_client' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_who_only_watches_does_not_keep_a_server_alive(serve: StartServer) -> None:
    server = serve(CORRAL_IDLE_EXIT="1s")

    def gone() -> bool:
        try:
            ask(server, "GET", "/metrics")
        except OSError:
            return server.process.poll() == 0
        return False

    until(gone)
