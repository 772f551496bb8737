"""Pulling and pushing to the end, over a line to a real registry on which everything goes wrong."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from corral.errors import RegistryError
from corral.names import ModelName
from corral.registry import Outside, Transfers, Wish
from corral.registry.patience import Patience
from corral.store import Manifest, MediaType, Store
from corral.store.manifest import CONFIG_TYPE
from tests.registry.conftest import RealRegistry, Storage
from tests.registry.fake import FakeRegistry, Faults
from tests.registry.proxy import Fault, in_one_second, proxy

pytestmark = pytest.mark.anyio

BIG = random.Random(5).randbytes((20 << 20) + 4321)


@pytest.fixture
def source(tmp_path: Path) -> Store:
    return Store(tmp_path / "source")


def add(store: Store, name: ModelName) -> Manifest:
    layers = (store.add_bytes(BIG, MediaType.MODEL), store.add_bytes(b"a template", MediaType.TEMPLATE))
    manifest = Manifest(store.add_bytes(b"{}", CONFIG_TYPE), layers)
    store.write(name, manifest)
    return manifest


async def pull(store: Store, name: ModelName, patience_s: float = 60) -> list[int]:
    """How far the large blob was, by and by."""
    async with (
        Transfers(store, Outside(stall_s=3, patience_s=patience_s, backoff_s=0.1)) as transfers,
        aclosing(transfers.pull(name, Wish(insecure=True))) as steps,
    ):
        return [step.completed async for step in steps if step.total == len(BIG)]


async def push(store: Store, name: ModelName, patience_s: float = 60) -> None:
    async with (
        Transfers(store, Outside(stall_s=3, patience_s=patience_s, backoff_s=0.1)) as transfers,
        aclosing(transfers.push(name, Wish(insecure=True))) as steps,
    ):
        async for _ in steps:
            pass


def assert_same(one: Store, other: Store, name: ModelName) -> None:
    stored = other.read(name)
    for layer in stored.manifest.blobs:
        assert other.read_blob(layer.digest) == one.read_blob(layer.digest)
    assert not [path for path in (other.root / "blobs").iterdir() if "partial" in path.name]


PULL_FAULTS: dict[str, Callable[[], Fault]] = {
    "cut": lambda: Fault("GET", times=3, cut_after=1_500_000),
    "cut before the answer": lambda: Fault("GET", times=2, lose_answer=True),
    "empty body": lambda: Fault("GET", times=2, cut_after=0),
    "delayed": lambda: Fault("GET", times=2, delay_s=1),
    "longer than a stall": lambda: Fault("GET", times=1, delay_s=4),
    "whole for a range": lambda: Fault("GET", times=-1, whole=True),
    "whole once": lambda: Fault("GET", times=1, whole=True),
    "whole, and cut": lambda: Fault("GET", times=1, whole=True, cut_after=9_000_000),
    "one byte wrong": lambda: Fault("GET", times=1, corrupt=True),
    "429": lambda: Fault("GET", times=2, status=429, retry_after="1"),
    "429 until a date": lambda: Fault("GET", times=1, status=429, retry_after=in_one_second()),
    "500": lambda: Fault("GET", times=2, status=500),
    "502": lambda: Fault("GET", times=2, status=502),
    "503": lambda: Fault("GET", times=2, status=503),
}


@pytest.mark.parametrize("fault", PULL_FAULTS)
async def test_a_pull_comes_through(source: Store, tmp_path: Path, real_registry: RealRegistry, fault: str) -> None:
    real_registry.push(source, add(source, ModelName.parse("mine")), "me/mine")
    with proxy(real_registry.host, PULL_FAULTS[fault]()) as line:
        name = ModelName.parse(f"{line.host}/me/mine")
        there = Store(tmp_path / "there")
        completed = await pull(there, name)
        assert line.met
    assert completed == sorted(completed)
    assert completed[-1] == len(BIG)
    assert_same(source, there, name)


@pytest.mark.parametrize("fault", [None, "cut", "one byte wrong", "503", "whole once"])
async def test_a_pull_comes_through_from_storage_elsewhere(
    source: Store, tmp_path: Path, real_registry: RealRegistry, storage: Storage, fault: str | None
) -> None:
    real_registry.push(source, manifest := add(source, ModelName.parse("mine")), "me/mine")
    for layer in manifest.blobs:
        (storage.folder / str(layer.digest)).write_bytes(source.read_blob(layer.digest))
    with proxy(storage.host) as far, proxy(real_registry.host) as line:
        line.faults = [Fault("GET", times=-1, redirect=lambda path: f"http://{far.host}/{path.rsplit('/')[-1]}")]
        if fault is not None:
            far.faults = [PULL_FAULTS[fault]()]
            far.faults[0].about = "/sha256:"
        name = ModelName.parse(f"{line.host}/me/mine")
        there = Store(tmp_path / "there")
        await pull(there, name)
        assert bool(far.met) == (fault is not None)
        assert far.requests
    assert_same(source, there, name)


async def test_a_link_that_expires_is_asked_for_again(
    source: Store, tmp_path: Path, real_registry: RealRegistry, storage: Storage
) -> None:
    real_registry.push(source, manifest := add(source, ModelName.parse("mine")), "me/mine")
    for layer in manifest.blobs:
        (storage.folder / str(layer.digest)).write_bytes(source.read_blob(layer.digest))
    with proxy(storage.host) as far, proxy(real_registry.host) as line:
        line.faults = [Fault("GET", times=-1, redirect=lambda path: f"http://{far.host}/{path.rsplit('/')[-1]}")]
        name = ModelName.parse(f"{line.host}/me/mine")
        there = Store(tmp_path / "there")
        about = f"/{manifest.layers[0].digest}"
        far.faults = [Fault("GET", about, 2, cut_after=1 << 20), Fault("GET", about, status=403)]
        await pull(there, name)
        assert len(far.met) == 3
    assert_same(source, there, name)


async def test_a_connection_that_trickles_is_not_waited_for(
    source: Store, tmp_path: Path, real_registry: RealRegistry
) -> None:
    """No limit of a socket ever ends it: there is always a byte."""
    real_registry.push(source, add(source, ModelName.parse("mine")), "me/mine")
    with proxy(real_registry.host, Fault("GET", times=1, trickle=True)) as line:
        name = ModelName.parse(f"{line.host}/me/mine")
        there = Store(tmp_path / "there")
        await pull(there, name)
    assert_same(source, there, name)


PUSH_FAULTS: dict[str, Callable[[], Fault]] = {
    "no HEAD": lambda: Fault("HEAD", status=503),
    "no upload": lambda: Fault("POST", status=502),
    "upload begun, answer lost": lambda: Fault("POST", lose_answer=True),
    "chunk refused": lambda: Fault("PATCH", status=429, retry_after="1"),
    "chunk 500": lambda: Fault("PATCH", times=2, status=500),
    "chunk cut": lambda: Fault("PATCH", cut_request_after=1 << 20),
    "chunk sent, answer lost": lambda: Fault("PATCH", lose_answer=True),
    "end refused": lambda: Fault("PUT", status=503),
    "ended, answer lost": lambda: Fault("PUT", lose_answer=True),
    "manifest refused": lambda: Fault("PUT", "/manifests/", status=503),
    "manifest there, answer lost": lambda: Fault("PUT", "/manifests/", lose_answer=True),
}


@pytest.mark.parametrize("fault", PUSH_FAULTS)
async def test_a_push_comes_through(source: Store, tmp_path: Path, real_registry: RealRegistry, fault: str) -> None:
    with proxy(real_registry.host, PUSH_FAULTS[fault]()) as line:
        name = ModelName.parse(f"{line.host}/me/mine")
        add(source, name)
        await push(source, name)
        assert line.met
        there = Store(tmp_path / "there")
        await pull(there, name)
    assert there.read(name).data == source.read(name).data
    assert_same(source, there, name)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [Fault("PATCH", times=-1, status=500), Fault("PUT", times=-1, status=503)])
async def test_a_push_that_gets_no_further_is_given_up(
    source: Store, real_registry: RealRegistry, fault: Fault
) -> None:
    with proxy(real_registry.host, fault) as line:
        name = ModelName.parse(f"{line.host}/me/mine")
        add(source, name)
        with pytest.raises(RegistryError, match=r"not now"):
            await push(source, name, patience_s=0)
        assert len(line.met) == 7


async def test_a_registry_that_never_gets_further_is_given_up(tmp_path: Path) -> None:
    """It knows no ranges and always cuts at the same place, so what comes is nothing new."""
    registry = FakeRegistry()
    registry.add("me/mine:latest", BIG)
    registry.faults = Faults(no_ranges=True, cut_after=1 << 19)
    with registry.running(), pytest.raises(RegistryError, match=r"too early|not all|payload"):
        await pull(Store(tmp_path / "there"), ModelName.parse(f"{registry.host}/me/mine"), patience_s=0)


async def test_another_file_of_the_same_size_is_refused_in_a_bearable_time(tmp_path: Path) -> None:
    registry = FakeRegistry()
    registry.add("me/mine:latest", BIG)
    digest = next(digest for digest, data in registry.blobs.items() if data is BIG)
    with registry.running():
        registry.blobs[digest] = bytes(len(BIG))
        with pytest.raises(RegistryError, match="the registry sends another file"):
            await pull(Store(tmp_path / "there"), ModelName.parse(f"{registry.host}/me/mine"))


def test_a_network_that_is_gone_for_minutes_is_waited_for_and_one_that_never_was_is_not() -> None:
    error = RegistryError("gone", temporary=True)
    patience, now = Patience(), 1000.0
    patience.worked(now)
    began = now
    while now < began + 240:
        wait_s = patience.failed(error, now)
        assert 0 < wait_s <= 60
        now += wait_s
    with pytest.raises(RegistryError):
        patience.failed(error, began + 301)
    never = Patience()
    for _ in range(6):
        never.failed(error, now)
    with pytest.raises(RegistryError):
        never.failed(error, now)
    with pytest.raises(RegistryError):
        Patience().failed(RegistryError("no"), now)
