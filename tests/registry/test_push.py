"""Pushing to a real registry: all that it lacks, nothing that it has, and on from where it was."""

from __future__ import annotations

import random
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import aclosing, contextmanager, suppress
from pathlib import Path

import ollama
import pytest

from corral.errors import ModelNotFound, RegistryError
from corral.library import Library
from corral.names import ModelName
from corral.registry import Outside, Progress, Transfers, Wish
from corral.store import Manifest, MediaType, Store
from corral.store.manifest import CONFIG_TYPE
from tests.conftest import StartServer
from tests.registry.conftest import RealRegistry

pytestmark = pytest.mark.anyio

BIG = random.Random(2).randbytes(40 << 20)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


def add(store: Store, name: ModelName, *layers: bytes, origin: str = "") -> Manifest:
    entries = [store.add_bytes(layer, MediaType.MODEL) for layer in layers]
    if origin:
        entries = [type(entry)(entry.media_type, entry.digest, entry.size, origin) for entry in entries]
    manifest = Manifest(store.add_bytes(b"{}", CONFIG_TYPE), tuple(entries))
    store.write(name, manifest)
    return manifest


async def push(store: Store, name: ModelName) -> list[Progress]:
    async with (
        Transfers(store, Outside(stall_s=3)) as transfers,
        aclosing(transfers.push(name, Wish(insecure=True))) as steps,
    ):
        return [step async for step in steps]


async def pull(store: Store, name: ModelName) -> None:
    async with Transfers(store) as transfers, aclosing(transfers.pull(name, Wish(insecure=True))) as steps:
        async for _ in steps:
            pass


class Wire:
    """What went to the registry; after ``cut_after`` bytes the line goes dead, once."""

    def __init__(self) -> None:
        self.sent, self.cut_after, self.requests = 0, 0, list[bytes]()


@contextmanager
def proxy(target: str) -> Iterator[tuple[str, Wire]]:
    """A line to ``target`` that counts, and can be cut."""
    wire, host, port = Wire(), *target.split(":")
    listener = socket.create_server(("127.0.0.1", 0))

    def forward(source: socket.socket, sink: socket.socket, up: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if up:
                    wire.sent += len(data)
                    if data[:4] in (b"HEAD", b"POST", b"PATC", b"PUT ", b"GET "):
                        wire.requests.append(data.partition(b" HTTP")[0])
                    if wire.cut_after and wire.sent > wire.cut_after:
                        wire.cut_after = 0
                        break
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection((host, int(port)))
                for arguments in ((near, far, True), (far, near, False)):
                    threading.Thread(target=forward, args=arguments, daemon=True).start()
                open_ends.extend((near, far))

    open_ends: list[socket.socket] = []
    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}", wire
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for end in (listener, *open_ends):
            end.close()


async def test_what_is_pushed_can_be_pulled_byte_for_byte(
    store: Store, real_registry: RealRegistry, tmp_path: Path
) -> None:
    name = ModelName.parse(f"{real_registry.host}/me/mine:v1")
    manifest = add(store, name, BIG, b"small")
    steps = await push(store, name)
    statuses = [step.status for step in steps if step.digest is None]
    assert statuses == ["retrieving manifest", "pushing manifest", "success"]
    completed = [step.completed for step in steps if step.digest == manifest.layers[0].digest]
    assert completed == sorted(completed)
    assert completed[-1] == len(BIG)
    other = Store(tmp_path / "other")
    await pull(other, name)
    assert other.read(name).data == store.read(name).data
    assert other.read_blob(manifest.layers[0].digest) == BIG


async def test_what_is_there_is_not_sent_again(store: Store, real_registry: RealRegistry) -> None:
    with proxy(real_registry.host) as (host, wire):
        name = ModelName.parse(f"{host}/me/mine")
        manifest = add(store, name, BIG)
        await push(store, name)
        assert wire.sent > len(BIG)
        before, wire.requests = wire.sent, []
        steps = await push(store, name)
        assert wire.sent - before < 10_000
        assert {request.split()[0] for request in wire.requests} == {b"HEAD", b"PUT"}
    assert [step.completed for step in steps if step.digest == manifest.layers[0].digest] == [len(BIG)]


async def test_a_blob_of_another_repository_is_mounted_and_not_sent(store: Store, real_registry: RealRegistry) -> None:
    with proxy(real_registry.host) as (host, wire):
        first, second = (ModelName.parse(f"{host}/me/{model}") for model in ("mine", "yours"))
        add(store, first, BIG)
        await push(store, first)
        add(store, second, BIG, origin=first.short)
        before = wire.sent
        await push(store, second)
        assert wire.sent - before < 10_000


async def test_a_cut_line_is_no_failure(store: Store, real_registry: RealRegistry, tmp_path: Path) -> None:
    """This registry throws an upload away that was cut in the middle of a chunk, so the blob begins anew."""
    with proxy(real_registry.host) as (host, wire):
        name = ModelName.parse(f"{host}/me/mine")
        add(store, name, BIG)
        wire.cut_after = 25 << 20
        await push(store, name)
        assert wire.sent < len(BIG) + (26 << 20)
        other = Store(tmp_path / "other")
        await pull(other, name)
        assert other.read(name).data == store.read(name).data


async def test_an_interrupted_push_goes_on_in_another_process(
    store: Store, real_registry: RealRegistry, tmp_path: Path
) -> None:
    with proxy(real_registry.host) as (host, wire):
        name = ModelName.parse(f"{host}/me/mine")
        manifest = add(store, name, BIG)
        async with Transfers(store) as transfers, aclosing(transfers.push(name, Wish(insecure=True))) as steps:
            async for step in steps:
                if step.completed > 20 << 20:
                    break
        before = wire.sent
        await push(store, name)
        assert wire.sent - before < 20 << 20
    other = Store(tmp_path / "other")
    await pull(other, ModelName.parse(f"{real_registry.host}/me/mine"))
    assert other.read_blob(manifest.layers[0].digest) == BIG
    assert not [path for path in (store.root / "blobs").iterdir() if "partial" in path.name]


async def test_what_cannot_be_pushed_says_why(store: Store, real_registry: RealRegistry) -> None:
    with pytest.raises(ModelNotFound):
        await push(store, ModelName.parse(f"{real_registry.host}/me/nosuch"))
    nowhere = ModelName.parse("127.0.0.1:9/me/mine")
    add(store, nowhere, b"x")
    with pytest.raises(RegistryError, match=r'Head "http://127.0.0.1:9/v2/me/mine/blobs/sha256:'):
        await push(store, nowhere)
    upper = ModelName.parse(f"{real_registry.host}/Me/Mine")  # a name that this registry does not take
    add(store, upper, b"x")
    with pytest.raises(RegistryError, match=re.escape(real_registry.host)):
        await push(store, upper)


def test_the_genuine_client_and_the_command_push(serve: StartServer, real_registry: RealRegistry) -> None:
    server = serve(CORRAL_OFFLINE="0")
    name = f"{real_registry.host}/me/tiny"
    Library(Store(server.models)).install_tiny()
    server.client.copy("tiny", name)
    client = ollama.Client(server.url)
    steps = list(client.push(name, insecure=True, stream=True))
    client._client.close()
    assert [steps[0].status, steps[-1].status] == ["retrieving manifest", "success"]
    command = [sys.executable, "-m", "corral", "push", "--insecure"]
    for model, status, said in ((name, 0, "success"), ("nosuch", 1, "Error: model 'nosuch' not found")):
        done = subprocess.run([*command, model], capture_output=True, text=True, env=server.environment)
        assert (done.returncode, done.stdout) == (status, "")
        assert done.stderr.splitlines()[-1] == said


async def test_bytes_that_were_sent_are_counted(store: Store, real_registry: RealRegistry) -> None:
    name = ModelName.parse(f"{real_registry.host}/me/counted")
    size = sum(layer.size for layer in add(store, name, b"weights" * 1000).blobs)
    async with Transfers(store) as transfers:
        for _ in range(2):  # the second time there is nothing to send
            async with aclosing(transfers.push(name, Wish(insecure=True))) as steps:
                assert [step async for step in steps]
            assert transfers.traffic.pushed_bytes == size
        assert transfers.traffic.pulled_bytes == 0
