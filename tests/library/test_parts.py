"""Models in several files: stored as they are, described as one, and loaded."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import pytest

from corral.errors import GgufError
from corral.library import Library
from corral.names import ModelName
from corral.store import Layer, Manifest, MediaType, Store
from corral.store.manifest import CONFIG_TYPE
from corral.tiny import TINY_FILE
from tests.conftest import StartServer

MINE = ModelName.parse("mine")


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Tiny in parts, by the ``gguf`` package."""
    folder = tmp_path_factory.mktemp("parts")
    reader = gguf.GGUFReader(TINY_FILE)
    writer = gguf.GGUFWriter(folder / "tiny.gguf", "qwen3", split_max_tensors=30)
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        inner = field.types[-1] if len(field.types) > 1 else None
        writer.add_key_value(field.name, field.contents(), field.types[0], inner)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = sorted(folder.glob("*.gguf"))
    assert len(found) == 3
    return found


def put(store: Store, *files: Path, name: ModelName = MINE) -> tuple[Layer, ...]:
    config = {"model_format": "gguf", "model_family": "", "model_type": "", "file_type": "", "os": "linux"}
    layers = tuple(store.add_file(file, MediaType.MODEL) for file in files)
    store.write(name, Manifest(store.add_bytes(json.dumps(config).encode(), CONFIG_TYPE), layers))
    return layers


def test_parts_are_one_model_whatever_their_order(tmp_path: Path, parts: list[Path]) -> None:
    store = Store(tmp_path)
    layers = put(store, parts[2], parts[0], parts[1])
    library = Library(store)
    spec = library.resolve(MINE)
    assert [path.name for path in spec.all_weights] == [layers[n].digest.file_name for n in (1, 2, 0)]
    tiny = library.resolve(ModelName.parse("tiny"))
    assert spec.facts is not None
    assert tiny.facts is not None
    assert spec.facts.parameter_count == tiny.facts.parameter_count
    assert spec.capabilities == tiny.capabilities
    shown, original = library.show(MINE), library.show(tiny.name)
    assert sorted(t.name for t in shown.tensors) == sorted(t.name for t in original.tensors)
    assert shown.model_info["general.parameter_count"] == original.model_info["general.parameter_count"]
    assert shown.details.parameter_size == "4.46M"


def test_a_part_that_is_missing_or_there_twice_is_said(tmp_path: Path, parts: list[Path]) -> None:
    store = Store(tmp_path)
    library = Library(store)
    put(store, parts[0], parts[2])
    with pytest.raises(GgufError, match=r"2 of 3 parts are there; missing: 2; try: corral pull mine:latest"):
        library.resolve(MINE)
    twin = tmp_path / "twin.gguf"
    twin.write_bytes(parts[1].read_bytes() + bytes(32))
    put(store, *parts, twin)
    with pytest.raises(GgufError, match="part 2 of 3 is there twice"):
        library.resolve(MINE)
    assert [model.name for model in library.list()] == [MINE]


def test_of_several_whole_models_the_last_one_is_meant(tmp_path: Path, endless_weights: Path) -> None:
    store = Store(tmp_path)
    layers = put(store, endless_weights, TINY_FILE)
    assert Library(store).resolve(MINE).all_weights == (store.blob_path(layers[1].digest),)


def test_a_model_in_parts_loads_also_where_it_was_pulled_to(
    serve: StartServer, tmp_path: Path, parts: list[Path]
) -> None:
    put(Store(tmp_path / "models"), *parts)
    here = serve()
    there = serve(tmp_path / "other", CORRAL_OFFLINE="0")
    name = f"127.0.0.1:{here.address.port}/library/mine"
    assert list(there.client.pull(name, insecure=True))[-1] == {"status": "success"}
    question = {"messages": [{"role": "user", "content": "Hello"}], "options": {"temperature": 0}}
    for server, model in ((here, "tiny"), (here, "mine"), (there, name)):
        answers = [a["message"].get("content", "") for a in server.client.chat({"model": model, **question})]
        assert "".join(answers) == "Hello! How can I help you?"
