"""Pulling: whole or not at all, from registries that misbehave in every way that was ever seen."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import anyio
import pytest

from corral.errors import CorralError, InvalidRequest, RegistryError, StoreError
from corral.names import Digest, ModelName
from corral.registry import Outside, Progress, Transfers, Wish
from corral.store import Store
from tests.registry.fake import FakeRegistry, Faults, digest_of

pytestmark = pytest.mark.anyio

BIG = random.Random(1).randbytes(
    20 * (1 << 20) + 12345
)  # more than one connection's worth, and no whole number of pieces
SMALL = b"a template"


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    registry = FakeRegistry()
    registry.add("me/mine:latest", BIG, SMALL)
    with registry.running():
        yield registry


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


def name_at(registry: FakeRegistry, path: str = "me/mine") -> ModelName:
    return ModelName.parse(f"{registry.host}/{path}")


async def pull(store: Store, registry: FakeRegistry, path: str = "me/mine", stall_s: float = 30) -> list[Progress]:
    return await pull_name(store, name_at(registry, path), stall_s=stall_s)


async def pull_name(
    store: Store, name: ModelName, *, insecure: bool = True, offline: bool = False, stall_s: float = 30
) -> list[Progress]:
    async with (
        Transfers(store, Outside(offline=offline, stall_s=stall_s)) as transfers,
        aclosing(transfers.pull(name, Wish(insecure))) as steps,
    ):
        return [step async for step in steps]


def assert_whole(store: Store, registry: FakeRegistry) -> None:
    stored = store.read(name_at(registry))
    assert stored.digest == digest_of(registry.manifests["me/mine:latest"]).removeprefix("sha256:")
    for layer in stored.manifest.blobs:
        assert digest_of(store.read_blob(layer.digest)) == str(layer.digest)
    assert not [path for path in (store.root / "blobs").iterdir() if "partial" in path.name]


async def test_a_pull_brings_the_model_and_says_how_far_it_is(store: Store, registry: FakeRegistry) -> None:
    steps = await pull(store, registry)
    assert_whole(store, registry)
    statuses = [step.status for step in steps if step.digest is None]
    assert statuses == ["pulling manifest", "verifying sha256 digest", "writing manifest", "success"]
    for layer in store.read(name_at(registry)).manifest.blobs:
        completed = [step.completed for step in steps if step.digest == layer.digest]
        assert completed == sorted(completed)
        assert completed[-1] == layer.size
    assert sum(registry.sent.values()) == sum(map(len, registry.blobs.values()))


async def test_what_is_up_to_date_costs_one_request(store: Store, registry: FakeRegistry) -> None:
    await pull(store, registry)
    registry.requests.clear()
    steps = await pull(store, registry)
    assert registry.requests == [("GET", "/v2/me/mine/manifests/latest")]
    assert all(step.completed == step.total for step in steps)


@pytest.mark.parametrize(
    "faults",
    [
        Faults(cut_after=1 << 19),
        Faults(cut_after=3 << 20),
        Faults(no_ranges=True),
        Faults(no_ranges=True, redirect=True),
        Faults(redirect=True),
        Faults(redirect=True, link_uses=1),
        Faults(redirect=True, link_uses=1, cut_after=1 << 20),
        Faults(statuses=[(429, {"Retry-After": "1"}), (503, {}), (500, {})]),
        Faults(corrupt={5}),
        Faults(corrupt={len(BIG) - 1, 12_000_000}),
        Faults(token="secret"),
        Faults(token="secret", redirect=True),
    ],
    ids=lambda faults: ",".join(f for f in vars(faults) if getattr(faults, f)),
)
async def test_a_pull_gets_through(store: Store, registry: FakeRegistry, faults: Faults) -> None:
    registry.faults = faults
    await pull(store, registry)
    assert_whole(store, registry)
    assert not [sent for host, sent in registry.authorizations if sent and host.startswith("localhost")]


async def test_a_stalled_connection_is_noticed_and_the_rest_comes_by_another(
    store: Store, registry: FakeRegistry
) -> None:
    registry.faults = Faults(stall_once=True)
    await pull(store, registry, stall_s=0.5)
    assert_whole(store, registry)


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (307, {"Location": "http://[here"}),
        (307, {"Location": "http://here:99999/"}),
        (307, {"Location": f"http://{'a' * 70}.example/"}),
        (206, {"Content-Range": f"bytes 0-{'9' * 5000}/1"}),
        (401, {"WWW-Authenticate": 'Bearer realm="http://[here"'}),
        (401, {"WWW-Authenticate": 'Bearer realm="http://here:99999/"'}),
    ],
    ids=["bracket", "port", "label", "range", "realm", "realm's port"],
)
async def test_an_answer_that_leads_nowhere_fails_its_pull_and_no_other(
    store: Store, registry: FakeRegistry, status: int, headers: dict[str, str]
) -> None:
    registry.faults = Faults(statuses=[(status, headers)] * 8)
    name = name_at(registry)
    async with Transfers(store) as transfers:
        with pytest.raises(RegistryError, match=r"here|a{70}|9{70}"):
            async with aclosing(transfers.pull(name, Wish(insecure=True))) as steps:
                assert [step async for step in steps] == []
        registry.faults = Faults()
        async with aclosing(transfers.pull(name, Wish(insecure=True))) as steps:
            assert [step.status async for step in steps][-1] == "success"


@pytest.mark.parametrize("token", [{"a": 1}, 'one"\r\nX-More: 1', "", None])
async def test_what_is_no_token_is_not_sent_as_one(store: Store, registry: FakeRegistry, token: object) -> None:
    challenge = {"WWW-Authenticate": f'Bearer realm="http://{registry.host}/other"'}
    registry.faults = Faults(statuses=[(401, challenge)] * 8)
    registry.documents["/other"] = lambda: (json.dumps({"token": token, "more": "secret"}).encode(), {})
    with pytest.raises(RegistryError, match="sends no token") as failed:
        await pull(store, registry)
    assert "secret" not in str(failed.value)


async def test_a_token_server_that_stumbles_is_asked_again(store: Store, registry: FakeRegistry) -> None:
    answers = [(503, b"not now"), (200, b'{"token": "secret"}')]
    challenge = {"WWW-Authenticate": f'Bearer realm="http://{registry.host}/other"'}
    registry.faults = Faults(statuses=[(401, challenge)] * 3)
    registry.answers["/other"] = lambda: answers.pop(0) if len(answers) > 1 else answers[0]
    await pull(store, registry)
    assert_whole(store, registry)
    assert len(answers) == 1


def index(registry: FakeRegistry) -> bytes:
    inner = registry.add("inner", b"x" * 10)
    registry.manifests[digest_of(inner)] = inner
    entries = [
        {"digest": "sha256:" + "0" * 64, "platform": {"os": "windows", "architecture": "arm64"}},
        {"digest": digest_of(inner), "platform": {"os": "linux", "architecture": "amd64"}},
    ]
    return json.dumps({"schemaVersion": 2, "manifests": entries}).encode()


async def test_an_index_is_resolved(store: Store, registry: FakeRegistry) -> None:
    registry.manifests["me/mine:latest"] = index(registry)
    await pull(store, registry)
    (layer,) = store.read(name_at(registry)).manifest.layers
    assert store.read_blob(layer.digest) == b"x" * 10


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (b"{}", "pull model manifest: it has no list of layers"),
        (b"<html>", "is not JSON"),
        (b"[]", "is not a JSON object"),
        (b'{"layers": []}', '"config" is not what it should be'),
        (b'{"manifests": []}', "it is an index that names no manifest"),
        (None, "pull model manifest: file does not exist"),
        (b'{"config": {"digest": "sha256:x", "size": 1, "mediaType": "a"}, "layers": []}', "has the digest"),
    ],
)
async def test_a_manifest_that_is_none_changes_nothing(
    store: Store, registry: FakeRegistry, manifest: bytes | None, said: str
) -> None:
    await pull(store, registry)
    before = store.read(name_at(registry))
    if manifest is None:
        del registry.manifests["me/mine:latest"]
    else:
        registry.manifests["me/mine:latest"] = manifest
    with pytest.raises(RegistryError, match=said):
        await pull(store, registry)
    assert store.read(name_at(registry)) == before
    assert all(store.has_blob(layer.digest, layer.size) for layer in before.manifest.blobs)


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        (Faults(statuses=[(404, {})]), "does not have sha256:"),
        (Faults(statuses=[(403, {})]), "refuses sha256:.* 403"),
        (Faults(wrong_range=True), "were asked for"),
        (
            Faults(corrupt={7}, corrupt_always=True),
            "digest mismatch, file must be downloaded again: want sha256:.* got sha256:",
        ),
        (Faults(redirect=True, statuses=[(307, {})]), "redirects to no address"),
    ],
    ids=["404", "403", "wrong range", "corrupt", "no address"],
)
async def test_a_pull_that_cannot_be_says_why_and_leaves_no_model(
    store: Store, registry: FakeRegistry, faults: Faults, said: str
) -> None:
    registry.faults = faults
    with pytest.raises(RegistryError, match=said):
        await pull(store, registry)
    assert store.find(name_at(registry)) is None


async def test_a_registry_that_is_not_there_is_named(store: Store) -> None:
    with pytest.raises(RegistryError, match=r'Get "http://127.0.0.1:9/v2/me/mine/manifests/latest": .*onnect'):
        await pull_name(store, ModelName.parse("127.0.0.1:9/me/mine"))


async def test_offline_nothing_is_asked(store: Store, registry: FakeRegistry) -> None:
    with pytest.raises(RegistryError, match="CORRAL_OFFLINE"):
        await pull_name(store, name_at(registry), offline=True)
    assert not registry.requests


async def test_plain_http_has_to_be_asked_for(store: Store, registry: FakeRegistry) -> None:
    with pytest.raises(InvalidRequest, match="insecure protocol http"):
        await pull_name(store, ModelName.parse(f"http://{registry.host}/me/mine"), insecure=False)


async def test_a_new_version_replaces_the_old_one_and_its_files(store: Store, registry: FakeRegistry) -> None:
    await pull(store, registry)
    registry.add("me/mine:latest", b"new", SMALL)
    steps = await pull(store, registry)
    assert steps[-2].status == "removing unused layers"
    assert_whole(store, registry)
    assert not store.has_blob(Digest.parse(digest_of(BIG)))


async def test_two_that_want_one_blob_share_the_work(store: Store, registry: FakeRegistry) -> None:
    registry.add("me/other:latest", BIG)
    registry.faults = Faults(chunk_s=0.002)
    async with Transfers(store) as transfers:

        async def one(path: str) -> None:
            async with aclosing(transfers.pull(name_at(registry, path), Wish(insecure=True))) as steps:
                assert [step async for step in steps][-1].status == "success"

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one, "me/mine")
            tasks.start_soon(one, "me/other")
    assert_whole(store, registry)
    assert registry.sent[digest_of(BIG)] == len(BIG)


async def test_who_leaves_does_not_end_it_for_who_stays(store: Store, registry: FakeRegistry) -> None:
    registry.faults = Faults(chunk_s=0.005)
    async with Transfers(store) as transfers, aclosing(transfers.pull(name_at(registry), Wish(insecure=True))) as first:
        async for step in first:
            if step.digest is not None:
                break
        async with anyio.create_task_group() as tasks:

            async def second() -> None:
                async with aclosing(transfers.pull(name_at(registry), Wish(insecure=True))) as steps:
                    assert [step async for step in steps][-1].status == "success"

            tasks.start_soon(second)
            await anyio.sleep(0.2)
            await first.aclose()
    assert_whole(store, registry)
    assert registry.sent[digest_of(BIG)] == len(BIG)


PULL = textwrap.dedent("""
    import sys, anyio
    from pathlib import Path
    from corral.errors import CorralError
    from corral.names import ModelName
    from corral.registry import Transfers, Wish
    from corral.store import Store
    async def main():
        async with Transfers(Store(Path(sys.argv[1]))) as transfers:
            async for step in transfers.pull(ModelName.parse(sys.argv[2]), Wish(insecure=True)):
                print(step.status, step.completed, flush=True)
    if len(sys.argv) > 3:
        import resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
    try:
        anyio.run(main)
    except CorralError as exc:
        print("error:", exc)
""")


def process(store: Store, registry: FakeRegistry, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PULL, str(store.root), str(name_at(registry)), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_killed_anywhere_it_goes_on_from_there(store: Store, registry: FakeRegistry) -> None:
    dice = random.Random(3)
    large = dice.randbytes(64 << 20)
    registry.add("me/mine:latest", large, SMALL)
    registry.faults = Faults(chunk_s=0.02)
    for _ in range(20):
        with process(store, registry) as pulling:
            assert pulling.stdout is not None
            assert pulling.stdout.readline() == "pulling manifest 0\n"
            pulling.stdout.readline()
            time.sleep(dice.uniform(0, 0.45))
            pulling.send_signal(signal.SIGKILL)
        assert store.find(name_at(registry)) is None
    registry.faults = Faults()
    before = registry.sent[digest_of(large)]
    with process(store, registry) as pulling:
        assert "success" in pulling.communicate()[0]
    assert_whole(store, registry)
    assert registry.sent[digest_of(large)] - before < len(large) * 0.9


def test_two_processes_fetch_a_blob_once(store: Store, registry: FakeRegistry) -> None:
    registry.faults = Faults(chunk_s=0.002)
    both = [process(store, registry) for _ in range(2)]
    assert all("success" in one.communicate()[0] for one in both)
    assert_whole(store, registry)
    assert registry.sent[digest_of(BIG)] == len(BIG)


def test_a_process_takes_over_from_one_that_was_killed(store: Store, registry: FakeRegistry) -> None:
    registry.faults = Faults(chunk_s=0.02)
    first = process(store, registry)
    assert first.stdout is not None
    while "pulling " not in (line := first.stdout.readline()) or line.endswith(" 0\n") or "manifest" in line:
        pass
    second = process(store, registry)
    assert second.stdout is not None
    second.stdout.readline()
    first.send_signal(signal.SIGKILL)
    first.communicate()
    registry.faults.chunk_s = 0
    assert "success" in second.communicate()[0]
    assert_whole(store, registry)
    assert registry.sent[digest_of(BIG)] < 2 * len(BIG)


def test_a_disk_that_fills_up_is_said_and_harms_no_model(store: Store, registry: FakeRegistry) -> None:
    registry.add("me/mine:latest", b"before")
    with process(store, registry) as pulling:
        assert "success" in pulling.communicate()[0]
    before = store.read(name_at(registry))
    registry.add("me/mine:latest", BIG)
    with process(store, registry, str(8 << 20)) as pulling:
        said = pulling.communicate()[0]
    assert "error: cannot write to the model store" in said
    assert store.read(name_at(registry)) == before
    with process(store, registry) as pulling:
        assert "success" in pulling.communicate()[0]
    assert_whole(store, registry)


async def test_too_little_space_is_said_before_anything_is_fetched(
    store: Store, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "free_bytes", lambda self: 70 << 20)
    registry.add("me/mine:latest", BIG)
    with pytest.raises(StoreError, match=r"needs 20,983,889 more bytes in .*, and 73,400,320 are free there"):
        await pull(store, registry)
    assert not registry.asked_for_blobs()


@pytest.mark.parametrize("damage", ["data", "log", "both gone"])
async def test_what_was_damaged_meanwhile_is_fetched_again(store: Store, registry: FakeRegistry, damage: str) -> None:
    registry.faults = Faults(chunk_s=0.01)
    with anyio.move_on_after(0.6):
        await pull(store, registry)
    (data,) = (store.root / "blobs").glob("*-partial.corral")
    (log,) = (store.root / "blobs").glob("*-partial.corral-pieces")
    assert log.stat().st_size > 24
    if damage == "data":
        with data.open("r+b") as file:
            file.write(b"\0" * (1 << 20))
    elif damage == "log":
        with log.open("ab") as file:
            file.write(b"\1\2\3")
    else:
        os.truncate(log, 3)
    registry.faults = Faults()
    await pull(store, registry)
    assert_whole(store, registry)


def test_errors_are_for_users() -> None:
    assert issubclass(RegistryError, CorralError)
