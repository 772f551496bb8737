"""Pulling as users do it: a real registry, a real server, the genuine client and the command line."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from pathlib import Path

import ollama
import pytest

from corral.library import Library
from corral.names import ModelName
from corral.store import Store
from tests.conftest import RunningServer, StartServer
from tests.registry.conftest import RealRegistry
from tests.registry.fake import FakeRegistry

TINY = ModelName.parse("tiny")


@pytest.fixture
def source(tmp_path: Path) -> Store:
    store = Store(tmp_path / "source")
    Library(store).install_tiny()
    return store


def corral(server: RunningServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "corral", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=server.environment, stdin=subprocess.DEVNULL)


def test_a_model_from_a_real_registry_is_the_same_byte_for_byte_and_answers(
    serve: StartServer, source: Store, real_registry: RealRegistry
) -> None:
    manifest = source.read(TINY).manifest
    data = real_registry.push(source, manifest, "library/mine")
    server = serve(CORRAL_OFFLINE="0")
    client = ollama.Client(server.url)
    name = f"{real_registry.host}/library/mine"
    steps = list(client.pull(name, insecure=True, stream=True))
    assert [steps[0].status, steps[-1].status] == ["pulling manifest", "success"]
    weights = manifest.layers[0]
    last = [step for step in steps if step.digest == str(weights.digest)][-1]
    assert (last.completed, last.total) == (weights.size, weights.size)
    store = Store(server.models)
    assert (store.root / "manifests" / ModelName.parse(name).path).read_bytes() == data
    for layer in manifest.blobs:
        assert store.read_blob(layer.digest) == source.read_blob(layer.digest)
    answer = client.chat(name, [{"role": "user", "content": "Hello"}], options={"temperature": 0})
    assert answer.message.content == "Hello! How can I help you?"
    assert client.pull(name, insecure=True).status == "success"
    client._client.close()


def test_the_command_says_what_it_does_on_stderr_and_run_pulls_by_itself(
    serve: StartServer, source: Store, real_registry: RealRegistry
) -> None:
    real_registry.push(source, source.read(TINY).manifest, "library/mine", "v2")
    server = serve(CORRAL_OFFLINE="0")
    done = corral(server, "pull", "--insecure", f"{real_registry.host}/library/mine:v2")
    assert (done.returncode, done.stdout) == (0, "")
    lines = done.stderr.splitlines()
    assert lines[0] == "pulling manifest"
    assert lines[-1] == "success"
    assert any(line.endswith(": 100 % of 4.8 MB") for line in lines)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("{host}/library/nosuch", 'the registry has no model "{host}/library/nosuch"'),
        ("a b", "invalid model name"),
        ("127.0.0.1:9/me/mine", 'Get "http://127.0.0.1:9/v2/me/mine/manifests/latest"'),
    ],
)
def test_what_cannot_be_pulled_is_one_clear_line(
    serve: StartServer, real_registry: RealRegistry, name: str, said: str
) -> None:
    server = serve(CORRAL_OFFLINE="0")
    done = corral(server, "pull", "--insecure", name.format(host=real_registry.host))
    assert done.returncode == 1
    assert done.stdout == ""
    assert said.format(host=real_registry.host) in done.stderr.splitlines()[-1]
    assert corral(server, "list").stdout.count("\n") == 1


def test_offline_a_model_that_is_not_here_is_not_looked_for(server: RunningServer) -> None:
    done = corral(server, "run", "nosuch", "Hello")
    assert done.returncode == 1
    assert "CORRAL_OFFLINE" in done.stderr


def test_without_a_stream_there_is_one_object_and_an_error_has_a_status(serve: StartServer) -> None:
    registry = FakeRegistry()
    registry.add("me/mine:latest", b"weights")
    with registry.running():
        server = serve(CORRAL_OFFLINE="0")
        for model, status, said in (
            ("me/mine", 200, {"status": "success"}),
            ("me/nosuch", 500, {"error": "pull model manifest: file does not exist"}),
        ):
            connection = http.client.HTTPConnection(server.address.host, server.address.port)
            body = {"model": f"{registry.host}/{model}", "insecure": True, "stream": False}
            connection.request("POST", "/api/pull", json.dumps(body))
            response = connection.getresponse()
            assert response.status == status
            assert response.getheader("Content-Type") == "application/json"  # as Ollama collects a stream
            assert json.loads(response.read()) == said
            connection.close()


def test_who_hangs_up_leaves_the_pull_and_what_came_stays(serve: StartServer) -> None:
    registry = FakeRegistry()
    registry.add("me/mine:latest", bytes(20 << 20))
    registry.faults.chunk_s = 0.005
    with registry.running():
        server = serve(CORRAL_OFFLINE="0")
        steps = server.client.pull(f"{registry.host}/me/mine", insecure=True)
        for step in steps:
            if step.get("completed", 0) > 10 << 20:
                break
        steps.close()
        registry.faults.chunk_s = 0.002  # what nobody reads any more is sent for a moment, and is counted too
        sent = registry.sent.total()
        assert list(server.client.pull(f"{registry.host}/me/mine", insecure=True))[-1] == {"status": "success"}
        assert registry.sent.total() - sent < 20 << 20
