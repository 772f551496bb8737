"""What cannot be converted is refused in one line, quickly, in little memory; and nothing is left behind."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from corral.convert import convert_model
from corral.convert.adapter import plan_adapter
from corral.convert.files import Folder
from corral.convert.model import plan_model
from corral.convert.safetensors import read_safetensors
from corral.convert.vocabulary.pieces import read_pieces
from corral.errors import ConversionError
from tests.convert.conftest import converted_here, files_in
from tests.convert.safetensors import write_raw, write_safetensors

PUBLISHED = Path(__file__).parent / "published"
WORKER = "corral.convert.worker"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model that could be converted."""
    return Path(shutil.copytree(PUBLISHED / "llama", tmp_path / "llama"))


def refusal(folder: Path) -> str:
    """Why the model is not converted."""
    with pytest.raises(ConversionError) as caught:
        plan_model(Folder(files_in(folder)), "test")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def change(folder: Path, file: str, **values: Any) -> None:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_an_unknown_architecture_is_named_with_those_that_are_known(folder: Path) -> None:
    change(folder, "config.json", architectures=["MambaForCausalLM"])
    said = refusal(folder)
    assert 'unsupported architecture "MambaForCausalLM"' in said
    assert "BertModel, Gemma2ForCausalLM, Gemma3ForCausalLM, LlamaForCausalLM, MistralForCausalLM" in said
    change(folder, "config.json", architectures=None)
    assert "unknown architecture" in refusal(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.00.pth"])
def test_pickles_are_refused(folder: Path, name: str) -> None:
    (folder / "model.safetensors").rename(folder / name)
    assert f"{name} is a pickle" in refusal(folder)


@pytest.mark.parametrize(
    ("file", "values", "said"),
    [
        ("config.json", {"num_hidden_layers": 3}, "the weights are not whole: blk.2."),
        ("config.json", {"num_hidden_layers": 10**9}, '"num_hidden_layers" is 1000000000'),
        ("config.json", {"num_attention_heads": "4"}, '"num_attention_heads" is 4'),
        ("config.json", {"hidden_size": None}, 'does not say "hidden_size"'),
        ("config.json", {"hidden_act": "relu"}, '"relu"'),
        ("config.json", {"rope_parameters": {"rope_type": "dynamic"}}, 'scales positions by "dynamic"'),
        ("config.json", {"quantization_config": {"quant_method": "gptq"}}, "quantised by gptq"),
        ("tokenizer.json", {"pre_tokenizer": {"type": "Whitespace"}}, "splits texts in a way that is not known"),
        ("tokenizer.json", {"model": {"type": "Unigram"}}, "Unigram"),
    ],
)
def test_what_the_files_say_is_checked(folder: Path, file: str, values: dict[str, Any], said: str) -> None:
    change(folder, file, **values)
    assert said in refusal(folder)


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    assert missing.removeprefix("model") in refusal(folder)


@pytest.mark.parametrize("with_index", [True, False])
def test_a_missing_shard_is_named(tmp_path: Path, with_index: bool) -> None:
    folder = Path(shutil.copytree(PUBLISHED / "mistral", tmp_path / "mistral"))
    (folder / "model-00002-of-00006.safetensors").unlink()
    if not with_index:
        (folder / "model.safetensors.index.json").unlink()
    assert "model-00002-of-00006.safetensors is missing" in refusal(folder)


def test_a_tensor_that_the_family_does_not_have_is_named(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-a.safetensors")
    write_safetensors(folder / "model-b.safetensors", {"model.layers.0.mixer.weight": np.ones((2, 2), np.float32)})
    assert "model.layers.0.mixer.weight" in refusal(folder)


def entry(**values: Any) -> bytes:
    return json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | values}).encode()


HOSTILE: dict[str, Callable[[Path], None]] = {
    "empty": lambda path: path.write_bytes(b"") and None,
    "seven bytes": lambda path: path.write_bytes(b"1234567") and None,
    "a header longer than the file": lambda path: write_raw(path, b"{}", length=1 << 62),
    "a header without an end": lambda path: write_raw(path, b'{"a": '),
    "a header that is a list": lambda path: write_raw(path, b"[]"),
    "a header of brackets": lambda path: write_raw(path, b"[" * (4 << 20)),
    "a header of many lists": lambda path: write_raw(path, b"[" + b"[]," * (2 << 20) + b"[]]"),
    "a huge header": lambda path: write_raw(path, b" " * (9 << 20)),
    "not UTF-8": lambda path: write_raw(path, b'{"\xff": 1}'),
    "an entry that is a number": lambda path: write_raw(path, b'{"a": 1}'),
    "an unknown type": lambda path: write_raw(path, entry(dtype="F33"), bytes(8)),
    "a type that is a list": lambda path: write_raw(path, entry(dtype=["F32"]), bytes(8)),
    "a negative size": lambda path: write_raw(path, entry(shape=[-2, -1]), bytes(8)),
    "a size of nothing": lambda path: write_raw(path, entry(shape=[0]), bytes(8)),
    "a fraction of a size": lambda path: write_raw(path, entry(shape=[2.0]), bytes(8)),
    "a huge size": lambda path: write_raw(path, entry(shape=[1 << 62, 1 << 62]), bytes(8)),
    "many dimensions": lambda path: write_raw(path, entry(shape=[1] * 1000 + [2]), bytes(8)),
    "a shape of another size": lambda path: write_raw(path, entry(shape=[3]), bytes(8)),
    "data outside of the file": lambda path: write_raw(path, entry(data_offsets=[8, 16]), bytes(8)),
    "data before the file": lambda path: write_raw(path, entry(data_offsets=[-8, 0]), bytes(8)),
    "data that ends before it begins": lambda path: write_raw(path, entry(data_offsets=[8, 0]), bytes(8)),
    "three offsets": lambda path: write_raw(path, entry(data_offsets=[0, 8, 8]), bytes(8)),
    "data behind the last tensor": lambda path: write_raw(path, entry(), bytes(9)),
    "a gap": lambda path: write_raw(path, entry(data_offsets=[8, 16]), bytes(16)),
    "two tensors in one place": lambda path: write_raw(
        path,
        json.dumps({name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for name in "ab"}).encode(),
        bytes(8),
    ),
}


@pytest.mark.parametrize("damage", HOSTILE)
def test_hostile_weights_are_an_error_in_one_line_and_in_little_memory(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "model.safetensors"
    HOSTILE[damage](path)
    tracemalloc.start()
    with pytest.raises(ConversionError, match=r"^model\.safetensors[^\n]*$"):
        read_safetensors(path, path.name)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 256 << 20


@pytest.mark.anyio
async def test_what_is_refused_leaves_nothing_behind(folder: Path, tmp_path: Path) -> None:
    HOSTILE["two tensors in one place"](folder / "model.safetensors")
    target = tmp_path / "model.gguf"
    target.touch()
    with pytest.raises(
        ConversionError, match=r'^model\.safetensors: the data of "b" and of the tensor before it overlap$'
    ):
        assert [step async for step in convert_model(files_in(folder), target)]
    assert not target.exists()
    assert not children()


def damages(sound: bytes, length: int, times: int) -> Iterator[bytes]:
    """``sound`` with a few wrong bytes in its first ``length``."""
    rng = random.Random(1)
    for _ in range(times):
        damaged = bytearray(sound)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(length)] = rng.choice(b'0123456789{}[]",:-eF\x00\xff')
        yield bytes(damaged)


def error_of(call: Callable[[], object]) -> str:
    """What ``call`` complains of; nothing when it does not."""
    try:
        call()
    except ConversionError as exc:
        return str(exc)
    return ""


def test_no_damage_to_a_header_is_more_than_an_error(folder: Path) -> None:
    path = folder / "model.safetensors"
    said = set()
    for damaged in damages(path.read_bytes(), 3000, 400):
        path.write_bytes(damaged)
        said.add(error_of(lambda: read_safetensors(path, path.name)))
    assert len(said) > 10
    assert not any("\n" in error for error in said)


def test_no_damage_to_pieces_is_more_than_an_error() -> None:
    sound = (PUBLISHED / "llama2" / "tokenizer.model").read_bytes()
    said = {error_of(lambda: read_pieces(damaged)) for damaged in damages(sound, len(sound), 300)}  # noqa: B023
    said |= {error_of(lambda: read_pieces(sound[:length])) for length in range(0, len(sound), 17)}  # noqa: B023
    assert len(said) > 3
    assert not any("\n" in error for error in said)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"peft_type": "IA3"}, "IA3"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"alpha_pattern": {"q_proj": 3}}, "alpha_pattern"),
        ({"lora_alpha": "much"}, '"lora_alpha" is much'),
    ],
)
def test_an_adapter_that_the_engine_cannot_apply_is_refused(tmp_path: Path, values: dict[str, Any], said: str) -> None:
    folder = Path(shutil.copytree(PUBLISHED / "llama-lora", tmp_path / "lora"))
    change(folder, "adapter_config.json", **values)
    base = converted_here(PUBLISHED / "llama", tmp_path / "base.gguf")
    with pytest.raises(ConversionError, match=said):
        plan_adapter(Folder(files_in(folder)), base)


@pytest.fixture
def large(folder: Path) -> Path:
    """A folder with 256 MB of zeros for weights, which take no room on the disk."""
    width, blocks = 1024, 4
    change(
        folder,
        "config.json",
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=blocks,
        num_key_value_heads=4,
    )
    shapes = {"model.embed_tokens": [392, width], "model.norm": [width], "lm_head": [392, width]}
    for number in range(blocks):
        layer = f"model.layers.{number}"
        shapes |= {f"{layer}.self_attn.{part}_proj": [width, width] for part in "qkvo"}
        shapes |= {f"{layer}.mlp.{part}_proj": [4 * width, width] for part in ("gate", "up")}
        shapes |= {f"{layer}.mlp.down_proj": [width, 4 * width]}
        shapes |= {f"{layer}.{part}_layernorm": [width] for part in ("input", "post_attention")}
    header, at = {}, 0
    for name, shape in shapes.items():
        end = at + 4 * int(np.prod(shape))
        header[f"{name}.weight"] = {"dtype": "F32", "shape": shape, "data_offsets": [at, end]}
        at = end
    path = folder / "model.safetensors"
    write_raw(path, json.dumps(header).encode())
    os.truncate(path, path.stat().st_size + at)
    return folder


def children() -> list[psutil.Process]:
    """The conversions that run."""
    return [child for child in psutil.Process().children() if WORKER in child.cmdline()]


@pytest.mark.anyio
async def test_who_stops_listening_stops_the_conversion(large: Path, tmp_path: Path) -> None:
    target = tmp_path / "model.gguf"
    steps = convert_model(files_in(large), target)
    await anext(steps)
    assert children()
    await steps.aclose()
    assert not children()
    assert not target.exists()


@pytest.mark.anyio
async def test_a_conversion_that_is_killed_is_told(large: Path, tmp_path: Path) -> None:
    target = tmp_path / "model.gguf"
    steps = convert_model(files_in(large), target)
    await anext(steps)
    children()[0].kill()
    with pytest.raises(ConversionError, match="signal 9"):
        assert [step async for step in steps]
    assert not target.exists()


@pytest.mark.anyio
async def test_a_target_that_cannot_be_written_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="No such file or directory"):
        assert [step async for step in convert_model(files_in(folder), tmp_path / "nowhere" / "model.gguf")]


LIMITED = (
    f"import resource; resource.setrlimit(resource.RLIMIT_DATA, ({160 << 20},) * 2); import {WORKER} as w; w.main()"
)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
def test_weights_are_never_in_memory_all_at_once(large: Path, tmp_path: Path) -> None:
    files = {name: str(path) for name, path in files_in(large).items()}
    request = {"kind": "model", "files": files, "target": str(tmp_path / "model.gguf"), "name": ""}
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", LIMITED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps(request) + "\n")
        child.stdin.flush()
        lines = [json.loads(line) for line in child.stdout]
    assert lines[-1] == {"done": True}
    assert lines[-2]["total"] == lines[-2]["completed"] > 200 << 20


def test_a_conversion_ends_with_whoever_started_it(large: Path, tmp_path: Path) -> None:
    files = {name: str(path) for name, path in files_in(large).items()}
    request = {"kind": "model", "files": files, "target": str(tmp_path / "model.gguf"), "name": ""}
    with subprocess.Popen(
        [sys.executable, "-m", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps(request) + "\n")
        child.stdin.flush()
        child.stdout.readline()
        child.stdin.close()
        assert "done" not in child.stdout.read()
