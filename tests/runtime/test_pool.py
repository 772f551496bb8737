"""The pool with real engines: what goes for what, what is given up when memory runs out, what becomes of engines that fail."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import psutil
import pytest

from corral.config import Settings
from corral.engine.base import CompletionCall, Finished, Sampling
from corral.engine.process import WORKER
from corral.errors import EngineCrashed, InvalidRequest, OutOfMemory, StoreError
from corral.hardware import Device
from corral.library import Library, ModelSpec
from corral.names import ModelName
from corral.runtime.measured import Measurements
from corral.runtime.options import EngineWishes
from corral.runtime.placement import CPU
from corral.runtime.pool import EnginePool, LoadedModel, model_key
from corral.store import Manifest, MediaType, Store
from corral.store.manifest import CONFIG_TYPE
from corral.tiny import TINY_FILE

pytestmark = pytest.mark.anyio

NOTHING = EngineWishes()
GIB = 1 << 30


def worker_with(*lines: str) -> list[str]:
    """The real worker, after something that goes wrong before it."""
    code = ["import os, resource, signal, sys", *lines, "from corral.engine.worker import main", "main()"]
    return [sys.executable, "-c", "\n".join(code)]


def limited_to(size: int) -> list[str]:
    """The real worker, with no more than so much address space, of which threads take little."""
    return [
        sys.executable,
        "-c",
        f"""import os, resource, sys
resource.setrlimit(resource.RLIMIT_STACK, (1 << 20, 1 << 20))
resource.setrlimit(resource.RLIMIT_AS, ({size}, {size}))
os.environ['MALLOC_ARENA_MAX'] = '1'
os.execv(sys.executable, [sys.executable, '-m', 'corral.engine.worker'])""",
    ]


async def no_devices() -> tuple[Device, ...]:
    return ()


class House:
    """A store with models, and pools over it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.store = Store(home / "models")
        self.settings = Settings(data=home / "data", models=home / "models")

    def add(self, name: str, weights: Path) -> ModelSpec:
        config = {"model_format": "gguf", "model_family": "qwen3", "architecture": "amd64", "os": "linux", "name": name}
        layer = self.store.add_file(weights, MediaType.MODEL)
        manifest = Manifest(self.store.add_bytes(json.dumps(config).encode(), CONFIG_TYPE), (layer,))
        self.store.write(ModelName.parse(name), manifest)
        return Library(self.store).resolve(ModelName.parse(name))

    @asynccontextmanager
    async def pool(self, worker: Sequence[str] = WORKER, **settings: object) -> AsyncIterator[EnginePool]:
        async with EnginePool(replace(self.settings, **settings), worker, no_devices) as pool:  # type: ignore[arg-type]
            yield pool


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


async def use(pool: EnginePool, spec: ModelSpec, wishes: EngineWishes = NOTHING) -> int:
    """The pid of the engine that answers."""
    async with pool.lease(spec, wishes) as lease:
        call = CompletionCall("Hello", Sampling(temperature=0, max_tokens=2))
        batches = [batch async for batch in lease.engine.complete(call)]
        assert isinstance(batches[-1][-1], Finished)
        return next(model.pid for model in pool.loaded() if model.spec.digest == spec.digest) or 0


async def until(what: Callable[[], bool]) -> None:
    with anyio.fail_after(30):
        while not what():  # noqa: ASYNC110
            await anyio.sleep(0.01)


def named(pool: EnginePool) -> dict[str, LoadedModel]:
    return {model.spec.name.short.partition(":")[0]: model for model in pool.loaded()}


async def test_a_smaller_context_never_reloads_and_a_larger_one_once(house: House, endless_weights: Path) -> None:
    spec = house.add("a", endless_weights)
    async with house.pool(context_length=1024) as pool:
        first = await use(pool, spec)
        assert await use(pool, spec, EngineWishes(num_ctx=512)) == first
        larger = await use(pool, spec, EngineWishes(num_ctx=2048))
        assert larger != first
        assert await use(pool, spec) == larger
        assert await use(pool, spec, EngineWishes(num_ctx=1024)) == larger
        assert named(pool)["a"].context == 2048


async def test_who_wishes_no_context_does_not_get_one_that_another_made_small(
    house: House, endless_weights: Path
) -> None:
    spec = house.add("a", endless_weights)
    async with house.pool(context_length=1024) as pool:
        small = await use(pool, spec, EngineWishes(num_ctx=256))
        assert named(pool)["a"].context == 256
        usual = await use(pool, spec)
        assert usual != small
        assert named(pool)["a"].context == 1024
        assert await use(pool, spec, EngineWishes(num_ctx=256)) == await use(pool, spec) == usual


async def test_the_longest_idle_goes_and_the_pinned_stays(house: House) -> None:
    specs = {name: house.add(name, TINY_FILE) for name in ("a", "b", "c")}
    async with house.pool(max_loaded_models=2, pin=(ModelName.parse("a"),)) as pool:
        for name in ("a", "b", "c"):
            await use(pool, specs[name])
        assert set(named(pool)) == {"a", "c"}
        await use(pool, specs["b"])
        assert set(named(pool)) == {"a", "b"}
        with pytest.raises(InvalidRequest, match="pinned"):
            pool.unload(model_key(specs["a"]))
        async with pool.lease(specs["a"], NOTHING, keep_alive_s=0):
            pass
        assert named(pool)["a"].expires_at.year > 2100


async def test_where_pinned_models_have_all_places_others_are_refused_at_once(house: House) -> None:
    specs = {name: house.add(name, TINY_FILE) for name in ("a", "b")}
    async with house.pool(max_loaded_models=1, pin=(ModelName.parse("a"),)) as pool:
        await use(pool, specs["a"])
        with pytest.raises(OutOfMemory, match="pinned models"):
            await use(pool, specs["b"])


async def test_a_loaded_model_answers_while_another_loads(house: House) -> None:
    quick, slow = house.add("quick", TINY_FILE), house.add("slow", TINY_FILE)
    gate = house.home / "gate"
    os.mkfifo(gate)
    waits = worker_with(
        "line = sys.stdin.buffer.readline()",
        f"if b'\"slots\":7' in line: open({str(gate)!r}).read()",
        "import io; sys.stdin = type('In', (), {'buffer': type('B', (), {'readline': lambda s: line,",
        "    'read': lambda s, n: os.read(0, n)})()})()",
    )
    async with house.pool(waits) as pool:
        await use(pool, quick)
        loading = asyncio.ensure_future(use(pool, slow, EngineWishes(slots=7)))
        await until(lambda: "slow" in named(pool) and named(pool)["slow"].loading)
        await use(pool, quick)
        assert named(pool)["slow"].loading
        await asyncio.to_thread(gate.write_text, "go")
        await loading


async def test_a_load_that_is_under_way_has_its_memory_reserved(house: House) -> None:
    """Both would fit by what the kernel calls free now, but not by what both will take."""
    one, two = house.add("one", TINY_FILE), house.add("two", TINY_FILE)
    async with house.pool(memory_limit=150_000_000) as pool, anyio.create_task_group() as group:
        for spec in (one, two):
            group.start_soon(use, pool, spec)
        await until(lambda: pool.numbers.loads["one:latest", "ok"] + pool.numbers.loads["two:latest", "ok"] == 2)
        assert len(pool.loaded()) == 1
    async with house.pool(memory_limit=1_000_000_000) as pool, anyio.create_task_group() as group:
        for spec in (one, two):
            group.start_soon(use, pool, spec)
        await until(lambda: len(pool.loaded()) == 2)


async def test_a_model_that_is_never_idle_does_not_keep_others_out(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corral.runtime.pool._PATIENCE_S", 0.3)
    busy, other = house.add("busy", TINY_FILE), house.add("other", TINY_FILE)
    async with house.pool(max_loaded_models=1) as pool:

        async def keep_busy() -> None:
            while True:
                await use(pool, busy)

        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(keep_busy)
            await until(lambda: "busy" in named(pool))
            with anyio.fail_after(20):
                await use(pool, other)
            group.cancel_scope.cancel()


async def test_what_an_engine_took_is_measured_and_remembered(house: House, endless_weights: Path) -> None:
    spec = house.add("a", endless_weights)
    async with house.pool() as pool:
        pid = await use(pool, spec)
        await until(lambda: bool(Measurements(house.settings.data / "measured.json").of(spec.digest)))
        (model,) = pool.loaded()
        assert 1 <= model.plan.need[CPU] / psutil.Process(pid).memory_info().rss < 1.25
        known = Measurements(house.settings.data / "measured.json").of(spec.digest)
        assert known[model.plan.key] == model.plan.need
    async with house.pool() as pool, pool.lease(spec, NOTHING):  # the next server plans with it
        assert pool.loaded()[0].plan.key == model.plan.key


async def test_a_damaged_file_of_measurements_is_an_empty_one(house: House) -> None:
    file = house.settings.data / "measured.json"
    file.parent.mkdir()
    for text in (b"", b"{", b"[]", b'{"version":1,"plans":[1]}', b'{"version":1,"plans":{"a":{"CPU":"x"}}}', b"\xff"):
        file.write_bytes(text)
        assert Measurements(file).of("a") == {}
    file.write_text(json.dumps({"version": 1, "plans": {f"a {number}": {CPU: number} for number in range(599)}}))
    kept = Measurements(file)
    kept.keep("a", "599", {CPU: 599})
    assert len(Measurements(file).of("a")) == 512
    assert Measurements(file).of("a")["599"] == {CPU: 599}
    shutil.rmtree(file.parent)
    file.parent.write_text("in the way")
    kept.keep("b", "c", {CPU: 1})  # logged, and no more


def test_engines_that_are_measured_at_the_same_time_are_all_remembered(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    file = house.settings.data / "measured.json"
    kept = Measurements(file)

    def measured(model: int) -> None:
        for number in range(8):
            kept.keep(f"m{model}", str(number), {CPU: number})
            assert len(kept.of(f"m{model}")) == number + 1

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(measured, range(8)))
    assert caplog.messages == []
    assert [len(Measurements(file).of(f"m{model}")) for model in range(8)] == [8] * 8
    assert [path.name for path in file.parent.iterdir()] == ["measured.json"]


async def test_a_load_that_runs_out_of_memory_is_tried_with_less_and_says_so(
    house: House, endless_weights: Path
) -> None:
    """A real allocation that fails: 65,536 tokens of cache take 512 MiB."""
    spec = house.add("a", endless_weights)
    async with house.pool(limited_to(700 << 20)) as pool:
        await use(pool, spec)
        (model,) = pool.loaded()
        assert model.plan.lowered
        assert model.plan.lowered[0] == "pool 65536 to 32768 tokens"
        assert model.load.pool_tokens == model.plan.pool_tokens < 65_536
        pool.unload(model_key(spec))
        await until(lambda: pool.idle)
        await use(pool, spec)
        assert pool.loaded()[0].plan.lowered == ()  # the same less is planned at once
        assert pool.loaded()[0].plan.pool_tokens == model.plan.pool_tokens


async def test_a_context_that_was_asked_for_is_never_lowered_but_refused(house: House, endless_weights: Path) -> None:
    spec = house.add("a", endless_weights)
    async with house.pool(limited_to(260 << 20)) as pool:
        with pytest.raises(
            OutOfMemory, match=r"context of 16384 tokens: about .* GB are needed.*try a smaller num_ctx"
        ):
            await use(pool, spec, EngineWishes(num_ctx=16384))
        assert pool.loaded() == []
    async with house.pool(memory_limit=200_000_000) as pool:
        await use(pool, spec, EngineWishes(num_ctx=1024))
        with pytest.raises(
            OutOfMemory, match=r"with a context of 16384 tokens takes 0\.2 GB of memory besides its weights"
        ):
            await use(pool, spec, EngineWishes(num_ctx=16384))
        assert "a" in named(pool)  # what is loaded did not go for what can never be


async def test_an_engine_that_the_kernel_ends_while_it_loads_is_tried_with_less(house: House) -> None:
    spec = house.add("a", TINY_FILE)
    mark = house.home / "killed"
    once = worker_with(
        f"if not os.path.exists({str(mark)!r}):",
        f"    open({str(mark)!r}, 'w').close(); sys.stdin.buffer.readline(); os.kill(os.getpid(), signal.SIGKILL)",
    )
    async with house.pool(once) as pool:
        await use(pool, spec)
        assert pool.loaded()[0].plan.lowered[0] == "pool 16384 to 8192 tokens"
        assert pool.loaded()[0].plan.pool_tokens == 2048


async def test_an_engine_that_hangs_is_ended_and_one_that_works_is_not(house: House, endless_weights: Path) -> None:
    spec = house.add("a", endless_weights)
    async with house.pool(hang_timeout=1.0) as pool:
        async with pool.lease(spec, NOTHING) as lease:
            stream = lease.engine.complete(CompletionCall("a", Sampling(temperature=0)))
            await anext(stream)
            pid = pool.loaded()[0].pid
            assert pid
            os.kill(pid, signal.SIGSTOP)
            with anyio.fail_after(30), pytest.raises(EngineCrashed, match=r"signal 9"):
                async for _ in stream:
                    pass
        await until(lambda: not psutil.pid_exists(pid))
        long = CompletionCall("word " * 1500, Sampling(temperature=0, max_tokens=1))  # more than a second of reading
        async with pool.lease(spec, EngineWishes(threads=1)) as lease:
            assert [batch async for batch in lease.engine.complete(long)]


async def test_a_file_of_weights_that_is_gone_is_named(house: House) -> None:
    spec = house.add("a", TINY_FILE)
    spec.weights.unlink()
    async with house.pool() as pool:
        with pytest.raises(StoreError, match=r'a file of "a:latest" cannot be read.*verify a:latest --repair'):
            await use(pool, spec)
        assert pool.loaded() == []
        assert pool.idle


async def test_an_unload_while_a_model_loads_is_obeyed_and_leaves_no_process(house: House) -> None:
    spec = house.add("a", TINY_FILE)
    async with house.pool() as pool:
        loading = asyncio.ensure_future(use(pool, spec))
        await until(lambda: bool(pool.loaded() and pool.loaded()[0].pid))
        pid = pool.loaded()[0].pid or 0
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
        pool.unload(model_key(spec))
        await until(lambda: pool.idle)
        assert not psutil.pid_exists(pid)
