"""Pulling and pushing by processes that are killed, run out of disk, or have a very large blob to move."""

from __future__ import annotations

import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.names import Digest, ModelName
from corral.store import Layer, Manifest, MediaType, Store
from corral.store.manifest import CONFIG_TYPE
from tests.registry.conftest import RealRegistry
from tests.registry.proxy import Fault, proxy

BIG = random.Random(8).randbytes((40 << 20) + 77)
_MAX_MEMORY_KB = 200_000

PROGRAM = textwrap.dedent("""
    import sys, anyio
    from pathlib import Path
    from corral.errors import CorralError
    from corral.names import ModelName
    from corral.registry import Transfers, Wish
    from corral.store import Store
    async def main():
        async with Transfers(Store(Path(sys.argv[2]))) as transfers:
            act = transfers.pull if sys.argv[1] == "pull" else transfers.push
            async for step in act(ModelName.parse(sys.argv[3]), Wish(insecure=True)):
                print(step.status, step.completed, flush=True)
    try:
        anyio.run(main)
    except CorralError as exc:
        print("error:", exc)
    print(Path("/proc/self/status").read_text() if sys.platform == "linux" else "")
""")


def start(act: str, store: Store, name: ModelName) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, act, str(store.root), f"{name.host}/{name.namespace}/{name.model}"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def said(act: str, store: Store, name: ModelName) -> str:
    with start(act, store, name) as process:
        return process.communicate()[0]


def kill_somewhere(process: subprocess.Popen[str], after_s: float) -> None:
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(after_s)
        process.send_signal(signal.SIGKILL)


def add(store: Store, name: ModelName, data: bytes = BIG) -> Manifest:
    manifest = Manifest(store.add_bytes(b"{}", CONFIG_TYPE), (store.add_bytes(data, MediaType.MODEL),))
    store.write(name, manifest)
    return manifest


def delays(method: str) -> list[Fault]:
    return [Fault(method, times=-1, delay_s=0.1)]


def test_a_push_that_is_killed_anywhere_goes_on(tmp_path: Path, real_registry: RealRegistry) -> None:
    dice = random.Random(9)
    store, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    with proxy(real_registry.host) as line:
        name = ModelName.parse(f"{line.host}/me/mine")
        manifest = add(store, name)
        line.faults = delays("PATCH")
        for _ in range(8):
            kill_somewhere(start("push", store, name), dice.uniform(0, 0.3))
        line.faults = []
        assert "success" in said("push", store, name)
        assert "success" in said("pull", there, name)
    assert there.read_blob(manifest.layers[0].digest) == BIG
    assert there.read(name).data == store.read(name).data


@pytest.mark.slow
def test_a_pull_that_is_killed_anywhere_goes_on_through_faults(tmp_path: Path, real_registry: RealRegistry) -> None:
    dice = random.Random(10)
    store, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    real_registry.push(store, manifest := add(store, ModelName.parse("mine")), "me/mine")
    with proxy(real_registry.host) as line:
        name = ModelName.parse(f"{line.host}/me/mine")
        for _ in range(20):
            line.faults = [Fault("GET", times=1, cut_after=700_000), Fault("GET", times=1, status=503), *delays("GET")]
            kill_somewhere(start("pull", there, name), dice.uniform(0, 0.4))
        line.faults = [Fault("GET", times=1, corrupt=True)]
        both = [start("pull", there, name) for _ in range(2)]
        assert all("success" in one.communicate()[0] for one in both)
    assert there.read_blob(manifest.layers[0].digest) == BIG
    assert not list((there.root / "blobs").glob("*partial*"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 140 MB."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only the super-user can mount a small file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=140m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_that_fills_up_is_said_and_after_space_is_freed_it_goes_on(
    tmp_path: Path, real_registry: RealRegistry, small_disk: Path
) -> None:
    store, there = Store(tmp_path / "here"), Store(small_disk / "there")
    real_registry.push(store, manifest := add(store, ModelName.parse("mine")), "me/mine")
    name = ModelName.parse(f"{real_registry.host}/me/mine")
    with proxy(real_registry.host, *delays("GET")) as line:
        name = ModelName.parse(f"{line.host}/me/mine")
        process = start("pull", there, name)
        assert process.stdout is not None
        while not list((small_disk).glob("there/blobs/*-pieces")):
            assert process.poll() is None
            time.sleep(0.001)
        os.posix_fallocate(filler := os.open(small_disk / "filler", os.O_CREAT | os.O_WRONLY), 0, 130 << 20)
        os.close(filler)
        assert "error: cannot write to the model store" in (answer := process.communicate()[0])
        assert "no space left" in answer
        assert there.find(name) is None
        (small_disk / "filler").unlink()
        line.faults = []
        assert "success" in said("pull", there, name)
    assert there.read_blob(manifest.layers[0].digest) == BIG


def large_blob(store: Store, num_mb: int) -> Layer:
    """A blob that is one block again and again, with a number in each."""
    block, hasher = random.Random(11).randbytes(1 << 20), hashlib.sha256()
    (store.root / "blobs").mkdir(parents=True)
    raw = store.root / "blobs" / "raw"
    with raw.open("wb") as file:
        for number in range(num_mb):
            data = number.to_bytes(8, "little") + block[8:]
            hasher.update(data)
            file.write(data)
    digest = Digest(hasher.hexdigest())
    raw.rename(store.blob_path(digest))
    return Layer(MediaType.MODEL, digest, num_mb << 20)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_gigabytes_go_there_and_back_in_little_memory(tmp_path: Path, real_registry: RealRegistry) -> None:
    store, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    name = ModelName.parse(f"{real_registry.host}/me/large")
    layer = large_blob(store, 2000)
    store.write(name, Manifest(store.add_bytes(b"{}", CONFIG_TYPE), (layer,)))
    for act, where in (("push", store), ("pull", there)):
        answer = said(act, where, name)
        assert "success" in answer
        if found := re.search(r"VmHWM:\s+(\d+) kB", answer):
            assert int(found[1]) < _MAX_MEMORY_KB
    with there.blob_path(layer.digest).open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == layer.digest.hex
