"""What takes room and what is damaged: ``corral prune`` and ``corral verify`` against a real server and a registry."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.names import Digest, ModelName
from corral.store import MediaType, Store
from tests.conftest import RunningServer, StartServer
from tests.registry.fake import FakeRegistry, digest_of

WEIGHTS = bytes(range(256)) * 10_000


@pytest.fixture
def server(serve: StartServer) -> RunningServer:
    return serve(CORRAL_OFFLINE="0")


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    registry = FakeRegistry()
    registry.add("me/mine:latest", WEIGHTS, b"template")
    with registry.running():
        yield registry


def corral(server: RunningServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "corral", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=server.environment, stdin=subprocess.DEVNULL)


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_prune_says_what_goes_and_how_much(server: RunningServer) -> None:
    store = Store(server.models)
    blob = store.add_bytes(WEIGHTS, MediaType.MODEL)
    nothing = corral(server, "prune")
    assert (nothing.returncode, nothing.stdout) == (0, "freed 0 B in 0 files\n")
    dry = corral(server, "prune", "--older-than", "0s", "--dry-run")
    assert dry.stdout.splitlines()[1].split()[:3] == [blob.digest.file_name[:25], "unused", "blob"]
    assert dry.stdout.splitlines()[-1] == "would free 2.5 MB in 1 files"
    assert store.has_blob(blob.digest)
    answer = json.loads(corral(server, "prune", "--older-than", "0s", "--json").stdout)
    assert answer["files"] == [{"name": blob.digest.file_name, "kind": "unused blob", "size": len(WEIGHTS)}]
    assert not store.has_blob(blob.digest)
    wrong = corral(server, "prune", "--older-than", "soon")
    assert (wrong.returncode, "try: 30d" in wrong.stderr) == (2, True)


def test_prune_touches_no_blob_while_a_manifest_cannot_be_read(server: RunningServer) -> None:
    server.client.show("tiny")
    store = Store(server.models)
    (server.models / "manifests" / ModelName.parse("tiny").path).write_bytes(b"{")
    done = corral(server, "prune", "--older-than", "0s")
    assert (done.returncode, "corral verify" in done.stderr) == (0, True)
    assert len(list((store.root / "blobs").iterdir())) == 3


def test_verify_names_what_is_damaged_and_repair_fetches_that_alone(
    server: RunningServer, registry: FakeRegistry
) -> None:
    name = f"{registry.host}/me/mine"
    assert list(server.client.pull(name, insecure=True))[-1] == {"status": "success"}
    server.client.copy(name, "other")
    whole = corral(server, "verify")
    assert (whole.returncode, whole.stdout, whole.stderr.splitlines()[-1]) == (0, "", "success")
    store = Store(server.models)
    weights, template = (Digest.of(data) for data in (WEIGHTS, b"template"))
    damage(store.blob_path(weights))
    store.blob_path(template).unlink()
    for arguments in (("verify",), ("verify", name), ("verify", "other")):
        found = corral(server, *arguments)
        assert found.returncode == 1
        assert f"{weights} of " in found.stderr
        assert "holds other bytes than it should" in found.stderr
        assert f"{template} of " in found.stderr
        assert "corral verify --repair" in found.stderr.splitlines()[-1]
    registry.sent.clear()
    done = corral(server, "verify", "--repair", "--insecure")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, "success"), done.stderr
    assert set(registry.sent) == {str(weights), str(template)}
    assert store.read_blob(weights) == WEIGHTS
    assert corral(server, "verify").returncode == 0
    assert not [path for path in (store.root / "blobs").iterdir() if "damaged" in path.name]


@pytest.mark.parametrize("lost", ["manifest", "blob"])
def test_what_cannot_be_repaired_stays_as_it_is(server: RunningServer, registry: FakeRegistry, lost: str) -> None:
    name = f"{registry.host}/me/mine"
    assert list(server.client.pull(name, insecure=True))[-1] == {"status": "success"}
    path = Store(server.models).blob_path(Digest.parse(digest_of(WEIGHTS)))
    damage(path)
    damaged = path.read_bytes()
    if lost == "manifest":
        del registry.manifests["me/mine:latest"]
    else:
        del registry.blobs[digest_of(WEIGHTS)]
    done = corral(server, "verify", "--repair", "--insecure")
    assert (done.returncode, "could not be repaired" in done.stderr) == (1, True)
    assert path.read_bytes() == damaged


def test_tiny_is_repaired_from_the_package(server: RunningServer) -> None:
    server.client.show("tiny")
    store = Store(server.models)
    weights = store.read(ModelName.parse("tiny")).manifest.layers[0].digest
    damage(store.blob_path(weights))
    assert corral(server, "verify", "--repair").returncode == 0
    assert Digest.of(store.read_blob(weights)) == weights


def test_a_manifest_that_cannot_be_read_is_named_and_pulled_again(
    server: RunningServer, registry: FakeRegistry
) -> None:
    name = ModelName.parse(f"{registry.host}/me/mine")
    assert list(server.client.pull(str(name), insecure=True))[-1] == {"status": "success"}
    (server.models / "manifests" / name.path).write_bytes(b"{")
    found = corral(server, "verify")
    assert (found.returncode, f'the manifest of "{name.short}" is damaged' in found.stderr) == (1, True)
    assert corral(server, "verify", "--repair", "--insecure").returncode == 0
    assert Store(server.models).read(name).data == registry.manifests["me/mine:latest"]


def test_an_unknown_model_is_an_error(server: RunningServer) -> None:
    done = corral(server, "verify", "nosuch")
    assert (done.returncode, done.stderr) == (1, "Error: model 'nosuch' not found\n")
