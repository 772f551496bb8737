"""Files that the writer makes, read again by the ``gguf`` package."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from corral.errors import GgufError
from corral.gguf import read_gguf
from corral.gguf.write import GgufWriter, NewTensor
from corral.tiny import TINY_FILE


def write(target: Path, source: Path, data: dict[str, np.ndarray], **options: object) -> None:
    original = read_gguf(source, arrays=False)
    tensors = [NewTensor(name, "F32", tuple(reversed(numbers.shape))) for name, numbers in data.items()]
    with target.open("wb") as file:
        writer = GgufWriter(file, tensors, original.alignment)
        writer.begin(original, **{"changed": {}, **options})  # type: ignore[arg-type]
        for numbers in data.values():
            raw = numbers.tobytes()
            for start in range(0, len(raw), 100):
                writer.write(raw[start : start + 100])
        writer.finish()


DATA = {
    "odd": np.arange(33, dtype=np.float32),
    "matrix": np.arange(12, dtype=np.float32).reshape(3, 4),
    "deep": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
}


def test_tensors_come_back_as_they_were_given(tmp_path: Path) -> None:
    write(tmp_path / "new.gguf", TINY_FILE, DATA)
    tensors = {t.name: t for t in gguf.GGUFReader(tmp_path / "new.gguf").tensors}
    assert list(tensors) == list(DATA)
    for name, numbers in DATA.items():
        assert np.array_equal(tensors[name].data.reshape(numbers.shape), numbers)


def test_metadata_are_copied_byte_for_byte_in_their_order(tmp_path: Path) -> None:
    new = tmp_path / "new.gguf"
    write(new, TINY_FILE, DATA)
    ours, original = read_gguf(new), read_gguf(TINY_FILE)
    assert list(ours.records) == list(original.records)
    before, after = TINY_FILE.read_bytes(), new.read_bytes()
    for key, span in original.records.items():
        copy = ours.records[key]
        assert after[copy.start : copy.end] == before[span.start : span.end]


def test_changed_values_keep_their_place_and_new_ones_come_last(tmp_path: Path) -> None:
    new = tmp_path / "new.gguf"
    changes = {"general.file_type": 15, "a.text": "ü", "a.flag": True, "a.number": 0.5}
    write(new, TINY_FILE, DATA, changed=changes, left_out=("general.name",))
    original = [key for key in read_gguf(TINY_FILE).records if key != "general.name"]
    assert list(read_gguf(new).records) == [*original, "a.text", "a.flag", "a.number"]
    fields = gguf.GGUFReader(new).fields
    assert {key: fields[key].contents() for key in changes} == changes


def test_the_alignment_of_the_source_is_kept(tmp_path: Path) -> None:
    source, new = tmp_path / "source.gguf", tmp_path / "new.gguf"
    writer = gguf.GGUFWriter(source, "llama")
    writer.add_custom_alignment(256)
    writer.add_tensor("t", np.zeros(3, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    write(new, source, DATA)
    assert {t.offset % 256 for t in read_gguf(new).tensors} == {0}
    assert [t.name for t in gguf.GGUFReader(new).tensors] == list(DATA)


def test_a_source_that_shrank_meanwhile_is_an_error(tmp_path: Path) -> None:
    source = tmp_path / "source.gguf"
    source.write_bytes(TINY_FILE.read_bytes())
    original = read_gguf(source, arrays=False)
    source.write_bytes(TINY_FILE.read_bytes()[:1000])
    with (tmp_path / "new.gguf").open("wb") as file, pytest.raises(GgufError, match="became shorter"):
        GgufWriter(file, []).begin(original, {})
