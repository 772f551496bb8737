"""The reader against the ``gguf`` package, and against files that mean harm."""

from __future__ import annotations

import contextlib
import random
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from corral.errors import GgufError
from corral.gguf import ArraySummary, Float32, model_facts, read_gguf
from corral.gguf.types import FILE_TYPES, TENSOR_TYPES
from corral.tiny import TINY_FILE

ROOT = Path(__file__).parents[2]
SCALARS: dict[str, tuple[str, Any]] = {
    "a.uint8": ("uint8", 200),
    "a.int8": ("int8", -100),
    "a.uint16": ("uint16", 60_000),
    "a.int16": ("int16", -30_000),
    "a.uint32": ("uint32", 4_000_000_000),
    "a.int32": ("int32", -2_000_000_000),
    "a.uint64": ("uint64", 1 << 63),
    "a.int64": ("int64", -(1 << 62)),
    "a.float32": ("float32", 0.5),
    "a.float64": ("float64", 1e300),
    "a.bool": ("bool", True),
    "a.string": ("string", "Grüße 🐎"),
}
ARRAYS: dict[str, list[Any]] = {
    "b.ints": list(range(-50, 50)),
    "b.floats": [0.25, 0.5],
    "b.strings": ["one", "", "drei"] * 30,
    "b.bools": [True, False],
}


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A file by the ``gguf`` package with every kind of value and some kinds of tensors."""
    path = tmp_path / "written.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for key, (kind, value) in SCALARS.items():
        getattr(writer, f"add_{kind}")(key, value)
    for key, values in ARRAYS.items():
        writer.add_array(key, values)
    writer.add_custom_alignment(64)
    numbers = np.random.default_rng(1).standard_normal((4, 256), np.float32)
    writer.add_tensor("plain", numbers)
    writer.add_tensor("half", numbers.astype(np.float16))
    for kind in (gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.Q4_0, gguf.GGMLQuantizationType.Q5_1):
        writer.add_tensor(kind.name, gguf.quantize(numbers, kind), raw_dtype=kind)
    writer.add_tensor("deep", np.zeros((2, 3, 4, 5), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_every_kind_of_value_is_read_as_it_was_written(written: Path) -> None:
    metadata = read_gguf(written).metadata
    assert {key: metadata[key] for key in SCALARS} == {key: value for key, (_, value) in SCALARS.items()}
    assert {key: metadata[key] for key in ARRAYS} == ARRAYS
    assert metadata["general.architecture"] == "llama"


@pytest.mark.parametrize("which", ["written", "tiny"])
def test_tensors_are_where_the_reference_reader_finds_them(written: Path, which: str) -> None:
    path = written if which == "written" else TINY_FILE
    reference = gguf.GGUFReader(path)
    expected = [
        (t.name, t.tensor_type.name, tuple(map(int, t.shape)), int(t.data_offset), int(t.n_bytes))
        for t in reference.tensors
    ]
    file = read_gguf(path)
    assert [(t.name, t.type_name, t.shape, t.offset, t.size_bytes) for t in file.tensors] == expected
    assert {key for key in reference.fields if not key.startswith("GGUF.")} == set(file.metadata)


@pytest.mark.parametrize("which", ["written", "tiny"])
def test_values_are_what_the_reference_reader_finds(written: Path, which: str) -> None:
    path = written if which == "written" else TINY_FILE
    fields = gguf.GGUFReader(path).fields
    metadata = read_gguf(path).metadata
    assert metadata == {key: fields[key].contents() for key in metadata}


def test_version_2_of_the_format_is_read_alike(written: Path, tmp_path: Path) -> None:
    older = tmp_path / "older.gguf"
    older.write_bytes(b"GGUF" + struct.pack("<I", 2) + written.read_bytes()[8:])
    ours, theirs = read_gguf(written), read_gguf(older)
    assert (theirs.version, theirs.metadata, theirs.tensors) == (2, ours.metadata, ours.tensors)


def test_a_short_number_has_the_digits_that_numpy_prints() -> None:
    dice = np.random.default_rng(1)
    numbers = dice.standard_normal(2000, np.float32) * np.float32(10) ** dice.integers(-30, 30, 2000)
    for number in [*numbers.astype(np.float32), np.float32(1e6), np.float32(0), np.finfo(np.float32).max]:
        assert Float32(number).shortest == float(str(number))


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
def test_what_is_no_finite_number_has_no_shorter_form(number: float) -> None:
    assert str(Float32(number).shortest) == str(number)


def test_long_arrays_can_be_left_out(written: Path) -> None:
    metadata = read_gguf(written, arrays=False).metadata
    assert metadata["b.ints"] == ArraySummary(100)
    assert metadata["b.strings"] == ArraySummary(90)
    assert metadata["b.bools"] == [True, False]
    assert metadata["a.string"] == "Grüße 🐎"


def test_the_sizes_of_number_formats_are_the_references() -> None:
    known = {kind.value: (kind.name, *sizes) for kind, sizes in gguf.GGML_QUANT_SIZES.items()}
    assert {number: tuple(kind) for number, kind in TENSOR_TYPES.items() if number in known} == known
    named = {
        kind.value: kind.name.removeprefix("MOSTLY_").removeprefix("ALL_").removesuffix("_MOE")
        for kind in gguf.LlamaFileType
    }
    shared = FILE_TYPES.keys() & named.keys()
    assert len(shared) > 20
    assert {number: FILE_TYPES[number] for number in shared} == {number: named[number] for number in shared}


def test_the_facts_of_tiny_are_those_of_its_file() -> None:
    facts = model_facts(read_gguf(TINY_FILE, arrays=False))
    reader = gguf.GGUFReader(TINY_FILE)
    assert facts.parameter_count == sum(int(t.n_elements) for t in reader.tensors)
    assert facts.architecture == reader.fields["general.architecture"].contents()
    assert facts.context_length == reader.fields[f"{facts.architecture}.context_length"].contents()
    assert facts.quantization == "Q8_0"
    assert {"tools", "thinking", "completion"} == set(facts.capabilities)


# -- files that mean harm -----------------------------------------------------------------------------------------


def head(tensors: int = 0, values: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, values)


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def array(kind: int, count: int) -> bytes:
    return text("k") + struct.pack("<IIQ", 9, kind, count)


def tensor(name: str = "t", shape: tuple[int, ...] = (32,), kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


U32 = text("k") + struct.pack("<II", 4, 7)
HUGE = 1 << 62

HOSTILE = [
    pytest.param(b"", "it is empty", id="empty"),
    pytest.param(b"GGML" + bytes(100), "it is not a GGUF file", id="magic"),
    pytest.param(b"GG", "it is not a GGUF file", id="two-bytes"),
    pytest.param(b"GGUF" + struct.pack(">I", 3) + bytes(40), "it is big-endian", id="big-endian"),
    pytest.param(head(version=1), "it is big-endian|it has version 1", id="version-1"),
    pytest.param(head(version=99), "it has version 99", id="version-99"),
    pytest.param(head(tensors=HUGE), f"claims {HUGE} tensors", id="tensors"),
    pytest.param(head(values=HUGE), f"claims {HUGE} metadata values", id="values"),
    pytest.param(head(values=1) + struct.pack("<Q", HUGE) + bytes(20), f"a text of {HUGE} bytes", id="key"),
    pytest.param(head(values=1) + text("k") + struct.pack("<IQ", 8, HUGE), f"a text of {HUGE} bytes", id="string"),
    pytest.param(head(values=1) + array(4, HUGE), f"claims {HUGE} elements of an array", id="array"),
    pytest.param(head(values=1) + array(8, HUGE), f"claims {HUGE} elements of an array", id="strings"),
    pytest.param(head(values=1) + array(99, 1) + bytes(8), "array of the unknown type 99", id="array-type"),
    pytest.param(
        head(values=1) + array(9, 1) + struct.pack("<IQ", 9, 1) * 20 + bytes(40), "nested too deeply", id="nested"
    ),
    pytest.param(head(values=1) + text("k") + struct.pack("<I", 77) + bytes(9), "unknown type 77", id="value-type"),
    pytest.param(head(values=2) + U32 + U32, 'the key "k" twice', id="twice"),
    pytest.param(
        head(values=1) + text("general.alignment") + struct.pack("<II", 4, 3), "alignment is 3", id="alignment-3"
    ),
    pytest.param(
        head(values=1) + text("general.alignment") + struct.pack("<II", 4, 0), "alignment is 0", id="alignment-0"
    ),
    pytest.param(head(tensors=1) + tensor(shape=()) + bytes(40), "has 0 dimensions", id="no-dimension"),
    pytest.param(head(tensors=1) + tensor(shape=(1,) * 5) + bytes(40), "has 5 dimensions", id="five-dimensions"),
    pytest.param(head(tensors=1) + tensor(shape=(0,)) + bytes(400), "cannot have the shape", id="nothing"),
    pytest.param(head(tensors=1) + tensor(shape=(33,), kind=8) + bytes(400), "cannot have the shape", id="block"),
    pytest.param(head(tensors=1) + tensor(kind=1000) + bytes(400), "unknown type 1000", id="tensor-type"),
    pytest.param(head(tensors=1) + tensor(offset=HUGE) + bytes(400), "lies outside the file", id="offset"),
    pytest.param(head(tensors=1) + tensor(offset=1) + bytes(400), "lies outside the file", id="misaligned"),
    pytest.param(head(tensors=1) + tensor(shape=(HUGE,) * 4) + bytes(400), "lies outside the file", id="overflow"),
    pytest.param(head(tensors=2) + tensor() + tensor() + bytes(400), "two of its tensors", id="same-name"),
]


@pytest.mark.parametrize(("data", "said"), HOSTILE)
def test_a_hostile_file_costs_one_line_and_no_memory(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "hostile.gguf"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(GgufError, match=said) as refused:
            read_gguf(path)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert "hostile.gguf" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("data", "said"), HOSTILE)
def test_leaving_arrays_out_lets_no_hostile_file_through(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "hostile.gguf"
    path.write_bytes(data)
    with pytest.raises(GgufError, match=said):
        read_gguf(path, arrays=False)


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31mb"])
def test_a_name_in_a_hostile_file_cannot_write_to_the_terminal(tmp_path: Path, name: str) -> None:
    path = tmp_path / "hostile.gguf"
    value = text(name) + struct.pack("<II", 4, 7)
    path.write_bytes(head(values=2) + value + value)
    with pytest.raises(GgufError) as refused:
        read_gguf(path)
    assert str(refused.value).isprintable()


def test_a_hostile_number_of_layers_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "hostile.gguf"
    architecture = text("general.architecture") + struct.pack("<I", 8) + text("a")
    path.write_bytes(head(values=2) + architecture + text("a.block_count") + struct.pack("<IQ", 10, HUGE))
    with contextlib.suppress(GgufError):
        model_facts(read_gguf(path))


def test_a_small_file_cut_at_any_byte_is_an_error_unless_only_padding_is_lost(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.gguf", tmp_path / "cut.gguf"
    writer = gguf.GGUFWriter(whole, "llama")
    writer.add_array("names", ["one", "two"])
    writer.add_float32("half", 0.5)
    writer.add_tensor("weights", np.arange(3, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    data = whole.read_bytes()
    (weights,) = read_gguf(whole).tensors
    needed = weights.offset + weights.size_bytes
    assert needed < len(data)
    for length in range(needed):
        cut.write_bytes(data[:length])
        with pytest.raises(GgufError):
            read_gguf(cut)
    for length in range(needed, len(data)):
        cut.write_bytes(data[:length])
        assert read_gguf(cut).tensors == (weights,)


def test_a_file_cut_anywhere_is_an_error(written: Path, tmp_path: Path) -> None:
    data = written.read_bytes()
    data_begins = min(t.offset for t in read_gguf(written).tensors)
    cut = tmp_path / "cut.gguf"
    for length in [*range(data_begins), *range(data_begins, len(data) - 64, 997)]:
        cut.write_bytes(data[:length])
        with pytest.raises(GgufError):
            read_gguf(cut)


def test_a_file_with_flipped_bytes_is_read_or_refused(written: Path, tmp_path: Path) -> None:
    data = written.read_bytes()
    begins = min(t.offset for t in read_gguf(written).tensors)
    dice = random.Random(1)
    broken, refused = tmp_path / "broken.gguf", 0
    for _ in range(2000):
        changed = bytearray(data)
        for _ in range(dice.randint(1, 4)):
            changed[dice.randrange(begins)] = dice.randrange(256)
        broken.write_bytes(changed)
        try:
            model_facts(read_gguf(broken))
        except GgufError:
            refused += 1
    assert 100 < refused < 2000


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")
@pytest.mark.parametrize(("which", "count"), [("written", 1500), ("tiny", 150)])
def test_broken_files_neither_crash_nor_hang_nor_take_much_memory(written: Path, which: str, count: int) -> None:
    path = written if which == "written" else TINY_FILE
    command = [sys.executable, "-m", "tests.gguf.mutants", path, str(count)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=100)
    refused, kilobytes = map(int, done.stdout.split())
    assert count // 3 < refused <= count
    assert kilobytes < 100_000


def test_a_file_that_is_not_there_is_an_error_too(tmp_path: Path) -> None:
    with pytest.raises(GgufError, match=r"cannot read none\.gguf: No such file"):
        read_gguf(tmp_path / "none.gguf")
