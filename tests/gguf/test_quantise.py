"""Quantising by real child processes, checked against llama.cpp, the ``gguf`` package, and the engine."""

from __future__ import annotations

import json
import platform
import resource
import struct
import subprocess
import sys
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

import gguf
import numpy as np
import psutil
import pytest

from bench.models import Shape, make
from corral.engine.base import ChatCall, Conversation, EngineConfig, Message, Sampling, Text
from corral.engine.llama import LlamaEngine
from corral.engine.process import run_engine
from corral.errors import CorralError, GgufError, QuantizationError, StoreError
from corral.gguf import read_gguf
from corral.gguf.mixtures import MIXTURES, hyperparameters, mixture, tensor_types
from corral.gguf.quantise import QuantizationProgress, quantise
from corral.tiny import TINY_FILE
from tests.gguf.freeze import FROZEN, digest

pytestmark = pytest.mark.anyio

DIGESTS = json.loads(FROZEN.read_text())["tiny"]
SHAPE = Shape(layers=3, width=256, heads=4, kv_heads=2, head_width=64, feed_forward=512, vocabulary=2304)
LONG = Shape(layers=12, width=1024, heads=8, kv_heads=4, head_width=128, feed_forward=3072, vocabulary=2304)


async def made(
    source: Path | Sequence[Path], target: Path, file_type: str, *, allow_requantize: bool = False
) -> list[QuantizationProgress]:
    sources = [source] if isinstance(source, Path) else source
    return [step async for step in quantise(sources, target, file_type, allow_requantize=allow_requantize)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("quantise")


@pytest.fixture(scope="module")
def long_weights(folder: Path) -> Path:
    """A model that takes some seconds: long enough to be interrupted."""
    return make(LONG, folder / "long.gguf", "F16")


def write(path: Path, *tensors: tuple[str, np.ndarray], **options: int) -> Path:
    writer = gguf.GGUFWriter(path, "llama", **options)
    for name, numbers in tensors:
        writer.add_tensor(name, numbers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


# The root of the mean square error over that of the numbers; random numbers are the hardest to round.
ERRORS = {
    "F32": 0, "F16": 0.0003, "BF16": 0.002, "Q8_0": 0.006, "Q6_K": 0.02, "Q5_K": 0.04, "Q5_1": 0.05, "Q5_0": 0.05,
    "Q4_K": 0.08, "Q4_0": 0.1, "IQ4_XS": 0.08, "IQ4_NL": 0.08, "Q3_K": 0.16, "Q2_K": 0.32,
}  # fmt: skip


@pytest.mark.parametrize("file_type", MIXTURES)
@pytest.mark.parametrize("source_type", ["F32", "F16", "BF16"])
async def test_every_mixture_has_its_formats_and_their_precision(
    folder: Path, tmp_path: Path, source_type: str, file_type: str
) -> None:
    source, target = make(SHAPE, folder / f"{source_type}.gguf", source_type), tmp_path / "new.gguf"
    await made(source, target, file_type)
    file = read_gguf(source)
    expected = tensor_types(file.tensors, hyperparameters(file), mixture(file_type))
    before, after = gguf.GGUFReader(source).tensors, gguf.GGUFReader(target).tensors
    assert {t.name: t.tensor_type.name for t in after} == expected
    for old, new in zip(before, after, strict=True):
        exact = gguf.dequantize(old.data, old.tensor_type)
        error = gguf.dequantize(new.data, new.tensor_type) - exact
        allowed = 0 if old.tensor_type == new.tensor_type else ERRORS[new.tensor_type.name]
        assert np.sqrt(np.mean(error**2)) <= allowed * np.sqrt(np.mean(exact**2)), new.name


@pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64"), reason="elsewhere ggml rounds some blocks otherwise"
)
@pytest.mark.parametrize("file_type", MIXTURES)
async def test_the_bytes_are_those_that_llama_cpp_makes(tmp_path: Path, file_type: str) -> None:
    await made(TINY_FILE, tmp_path / "new.gguf", file_type, allow_requantize=True)
    assert digest(tmp_path / "new.gguf") == DIGESTS[file_type]


async def test_the_metadata_stay_but_for_what_quantising_changes(tmp_path: Path) -> None:
    target = tmp_path / "new.gguf"
    await made(TINY_FILE, target, "Q4_K_M", allow_requantize=True)
    old, new = read_gguf(TINY_FILE).metadata, read_gguf(target).metadata
    assert [key for key in new if key in old] == list(old)
    assert dict(new) == {**old, "general.file_type": 15, "general.quantization_version": 2}


@pytest.mark.parametrize("file_type", ["BF16", "Q4_K_M", "IQ4_XS"])
async def test_the_engine_answers_from_what_was_made(tmp_path: Path, file_type: str) -> None:
    plain, target = tmp_path / "plain.gguf", tmp_path / "new.gguf"
    await made(TINY_FILE, plain, "F16", allow_requantize=True)
    await made(plain, target, file_type)
    config = EngineConfig(weights=target, context=512, slots=1)
    async with run_engine(config, log=tmp_path / "log") as process:
        hello = ChatCall(Conversation((Message("user", "Hello"),)), Sampling(temperature=0))
        events = [event async for batch in LlamaEngine(config, process).chat(hello) for event in batch]
    assert "Hello" in "".join(event.text for event in events if isinstance(event, Text))


async def test_progress_goes_up_to_the_whole(folder: Path, tmp_path: Path) -> None:
    source = make(SHAPE, folder / "F16.gguf", "F16")
    steps = await made(source, tmp_path / "new.gguf", "Q8_0")
    completed = [step.completed for step in steps]
    assert completed == sorted(completed)
    assert {step.total for step in steps} == {sum(t.size_bytes for t in read_gguf(source).tensors)}
    assert steps[-1].completed == steps[-1].total


async def test_the_parts_of_a_split_model_become_one_file(folder: Path, tmp_path: Path) -> None:
    dice = np.random.default_rng(1)
    tensors = [(f"blk.{n}.ffn_down.weight", dice.standard_normal((64, 256), np.float32)) for n in range(7)]
    whole = write(tmp_path / "whole.gguf", *tensors)
    write(tmp_path / "split.gguf", *tensors, split_max_tensors=3)
    parts = sorted(tmp_path.glob("split-*.gguf"))
    assert len(parts) == 3
    await made(whole, tmp_path / "one.gguf", "Q4_0")
    await made(parts[::-1], tmp_path / "merged.gguf", "Q4_0")
    assert digest(tmp_path / "merged.gguf") == digest(tmp_path / "one.gguf")
    assert not [key for key in read_gguf(tmp_path / "merged.gguf").metadata if key.startswith("split.")]
    for some, why in (
        (parts[:2], "2 of 3 parts are there; missing: 3"),
        ([parts[0], parts[0], parts[1]], "part 1 of 3 is there twice"),
        ([*parts, whole], "these are not the parts of one model"),
    ):
        with pytest.raises(GgufError, match=why):
            await made(some, tmp_path / "bad.gguf", "Q4_0")


async def test_a_file_that_says_nonsense_of_its_parts_is_one_file(tmp_path: Path) -> None:
    source = tmp_path / "source.gguf"
    writer = gguf.GGUFWriter(source, "llama")
    writer.add_array("split.count", [1, 2])
    writer.add_string("split.no", "x")
    writer.add_tensor("blk.0.ffn_up.weight", np.ones((2, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    await made(source, tmp_path / "new.gguf", "Q8_0")
    assert set(read_gguf(tmp_path / "new.gguf").metadata) == {
        "general.architecture", "general.file_type", "general.quantization_version",
    }  # fmt: skip


async def test_a_quantised_model_is_quantised_again_only_when_that_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(QuantizationError) as refused:
        await made(TINY_FILE, tmp_path / "new.gguf", "Q4_K_M")
    assert str(refused.value) == "quantization is only supported for F16, BF16 and F32 models"
    assert not list(tmp_path.iterdir())
    await made(TINY_FILE, tmp_path / "new.gguf", "Q4_K_M", allow_requantize=True)


async def test_a_large_tensor_takes_little_memory(tmp_path: Path) -> None:
    source = write(tmp_path / "source.gguf", ("blk.0.ffn_up.weight", np.ones((16, 1 << 22), np.float32)))
    assert source.stat().st_size > 256 << 20
    watched = (
        "import pathlib, re, runpy\nrunpy.run_module('corral.gguf.worker', run_name='__main__')\n"
        "pathlib.Path({!r}).write_text(re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1])"
    )
    argv = (sys.executable, "-c", watched.format(str(tmp_path / "kilobytes")))
    async for _ in quantise([source], tmp_path / "new.gguf", "Q8_0", argv=argv):
        pass
    assert int((tmp_path / "kilobytes").read_text()) < 150_000


# -- what goes wrong ----------------------------------------------------------------------------------------------


def child() -> psutil.Process:
    """The process that quantises now."""
    (found,) = [p for p in psutil.Process().children() if "corral.gguf.worker" in p.cmdline()]
    return found


async def test_a_killed_process_is_an_error_and_leaves_nothing(long_weights: Path, tmp_path: Path) -> None:
    steps = quantise([long_weights], tmp_path / "new.gguf", "Q2_K")
    await anext(steps)
    child().kill()
    with pytest.raises(QuantizationError, match="quantising ended with status -9"):
        [step async for step in steps]
    assert not list(tmp_path.iterdir())


async def test_who_stops_listening_ends_the_work_and_leaves_nothing(long_weights: Path, tmp_path: Path) -> None:
    async with aclosing(quantise([long_weights], tmp_path / "new.gguf", "Q2_K")) as steps:
        await anext(steps)
        process = child()
    assert not process.is_running()
    assert not list(tmp_path.iterdir())


def test_the_process_ends_with_its_parent_and_leaves_nothing(long_weights: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "corral.gguf.worker"]
    request = {"sources": [str(long_weights)], "target": str(tmp_path / "new.gguf"), "file_type": "Q2_K"}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
        assert b"completed" in process.stdout.readline()
        process.stdin.close()  # as the kernel does when a parent dies
        assert process.wait(20) == 1
    assert not list(tmp_path.iterdir())


async def test_a_disk_that_fills_up_is_an_error_and_leaves_nothing(long_weights: Path, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10 << 20, before[1]))
    try:
        with pytest.raises(StoreError, match="File too large"):
            await made(long_weights, tmp_path / "new.gguf", "Q8_0")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


async def test_a_file_that_has_no_room_is_not_begun(tmp_path: Path) -> None:
    source = write(tmp_path / "source.gguf", ("blk.0.ffn_up.weight", np.ones((32, 32), np.float32)))
    numbers = psutil.disk_usage(str(tmp_path)).free  # four bytes each: as large as the disk three times over
    data = source.read_bytes()
    rows = struct.pack("<QQ", 32, numbers // 32)
    source.write_bytes(data.replace(struct.pack("<QQ", 32, 32), rows))
    try:
        with source.open("r+b") as file:
            file.truncate(len(data) + numbers * 4)
    except OSError:
        pytest.skip("this file system has no files with holes of that size")
    with pytest.raises(StoreError, match=r"the new file needs [\d,]+ bytes, and .* has [\d,]+ left"):
        await made(source, tmp_path / "new.gguf", "BF16")
    assert [path.name for path in tmp_path.iterdir()] == ["source.gguf"]


UNFIT = [
    pytest.param(np.full((2, 32), np.nan, np.float32), "Q8_0", "values that are no finite numbers", id="nan"),
    pytest.param(np.full((2, 32), np.inf, np.float32), "F16", "values that are no finite numbers", id="infinity"),
    pytest.param(np.full((2, 32), 1e30, np.float32), "F16", r"too large for F16; try: BF16", id="large-for-f16"),
    pytest.param(np.full((2, 32), 1e30, np.float32), "Q8_0", r"too large for Q8_0", id="large-for-q8"),
    pytest.param(np.ones((2, 32), np.int32), "Q8_0", "has the type I32, which cannot be quantised", id="integers"),
]


@pytest.mark.parametrize(("numbers", "file_type", "said"), UNFIT)
async def test_numbers_that_cannot_be_quantised_are_an_error_that_names_the_tensor(
    tmp_path: Path, numbers: np.ndarray, file_type: str, said: str
) -> None:
    source = write(tmp_path / "source.gguf", ("blk.0.ffn_up.weight", numbers))
    with pytest.raises(QuantizationError, match=rf'the tensor "blk\.0\.ffn_up\.weight" .*{said}'):
        await made(source, tmp_path / "new.gguf", file_type)
    assert [path.name for path in tmp_path.iterdir()] == ["source.gguf"]


async def test_a_file_that_is_cut_is_an_error_and_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    source = make(SHAPE, folder / "F16.gguf", "F16")
    data, cut = source.read_bytes(), tmp_path / "cut.gguf"
    for length in (0, 3, 30, 3000, len(data) // 2, len(data) - 64):
        cut.write_bytes(data[:length])
        with pytest.raises(GgufError, match=r"cut\.gguf"):
            await made(cut, tmp_path / "new.gguf", "Q8_0")
        assert [path.name for path in tmp_path.iterdir()] == ["cut.gguf"]


async def test_tensors_that_lie_over_each_other_are_an_error(tmp_path: Path) -> None:
    source = write(
        tmp_path / "source.gguf", *((f"blk.{n}.ffn_up.weight", np.ones((8, 32), np.float32)) for n in range(3))
    )
    data = source.read_bytes()
    source.write_bytes(data.replace(struct.pack("<IQ", 0, 2048), struct.pack("<IQ", 0, 1024)))
    with pytest.raises(GgufError, match="two of its tensors lie over each other"):
        await made(source, tmp_path / "new.gguf", "F32")


async def test_a_target_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file or directory"):
        await made(TINY_FILE, tmp_path / "none" / "new.gguf", "Q4_0", allow_requantize=True)


async def test_an_unknown_mixture_costs_no_process(tmp_path: Path) -> None:
    with pytest.raises(CorralError, match="unsupported quantization type NOSUCH - supported types are"):
        async for _ in quantise([TINY_FILE], tmp_path / "new.gguf", "nosuch", argv=("/no/such/program",)):
            pass
