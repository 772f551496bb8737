"""Models in Ollama's own dialect of GGUF, from the store to the answer and out again."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from corral.engine.base import EngineConfig
from corral.errors import EngineCrashed, NotSupported, StoreError
from corral.library import Library
from corral.library.elsewhere import Elsewhere
from corral.library.importing import take_in
from corral.names import Digest, ModelName
from corral.runtime.translated import Translated
from corral.store import Manifest, MediaType, Store
from corral.store.manifest import CONFIG_TYPE
from tests.conftest import RunningServer, StartServer
from tests.gguf.dialect_models import GEMMA3, TWINS, tokenizer, write
from tests.gguf.test_ollama_dialect import png


def put(store: Store, name: str, weights: Path, projector: Path | None = None, **config: object) -> None:
    layers = [store.add_file(weights, MediaType.MODEL)]
    if projector is not None:
        layers.append(store.add_file(projector, MediaType.PROJECTOR))
    about = store.add_bytes(json.dumps({"model_format": "gguf", **config}).encode(), CONFIG_TYPE)
    store.write(ModelName.parse(name), Manifest(about, tuple(layers)))


def ask(server: RunningServer, path: str, **body: Any) -> Mapping[str, Any]:
    answer: Mapping[str, Any] = httpx.post(server.url + path, json={"stream": False, **body}, timeout=60).json()
    return answer


def test_a_model_with_its_eyes_in_one_file_sees_as_its_twin_does_and_leaves_nothing_behind(
    serve: StartServer, tmp_path: Path
) -> None:
    original, reference, projector = GEMMA3.write(tmp_path)
    store = Store(tmp_path / "models")
    put(store, "theirs", original)
    put(store, "ours", reference, projector)
    server = serve()
    question = {
        "prompt": "Tell me of [img-0] two friends",
        "raw": True,
        "images": [b64encode(png()).decode()],
        "options": {"temperature": 0, "num_predict": 16},
    }
    said = [ask(server, "/api/generate", model=name, **question) for name in ("ours", "theirs", "theirs")]
    assert len(said[0]["response"]) > 16
    assert [answer["response"] for answer in said] == [said[0]["response"]] * 3
    assert [answer["prompt_eval_count"] for answer in said] == [said[0]["prompt_eval_count"]] * 3
    shown = ask(server, "/api/show", model="theirs")
    assert shown["capabilities"] == ["completion", "vision"]
    assert shown["model_info"]["gemma3.context_length"] == 512
    kept = server.data / "translated"
    assert len(list(kept.iterdir())) == 2
    assert server.log().count("translated ") == 2
    httpx.request("DELETE", server.url + "/api/delete", json={"model": "theirs"}).raise_for_status()
    assert not list(kept.iterdir())


def test_a_model_that_cannot_be_loaded_is_listed_and_shown_and_refused_in_a_sentence(
    serve: StartServer, tmp_path: Path
) -> None:
    weights = write(tmp_path / "a.gguf", "mllama", tokenizer(), {"token_embd.weight": np.ones((4, 32), np.float32)})
    put(Store(tmp_path / "models"), "mine", weights)
    here, there = serve(), serve(tmp_path / "other", CORRAL_OFFLINE="0")
    assert [m["name"] for m in httpx.get(here.url + "/api/tags").json()["models"]] == ["mine:latest"]
    assert ask(here, "/api/show", model="mine")["model_info"]["general.architecture"] == "mllama"
    for path, body in (
        ("/api/generate", {"prompt": "a"}),
        ("/api/chat", {"messages": [{"role": "user", "content": "a"}]}),
    ):
        error = ask(here, path, model="mine", **body)["error"]
        assert "Ollama's own form of mllama, and llama.cpp has no such architecture; try: " in error
    name = f"127.0.0.1:{here.address.port}/library/mine"
    pulled = ask(there, "/api/pull", model=name, insecure=True)
    assert "is here and cannot be loaded" in pulled["error"]
    assert "llama.cpp has no such architecture" in pulled["error"]
    digest = Digest.of(weights.read_bytes())
    httpx.post(f"{here.url}/api/blobs/{digest}", content=weights.read_bytes()).raise_for_status()
    made = httpx.post(here.url + "/api/create", json={"model": "other", "files": {"a.gguf": str(digest)}}).text
    assert "llama.cpp has no such architecture" in made
    assert "success" not in made
    store = Store(tmp_path / "third")
    with pytest.raises(NotSupported, match="no such architecture"):
        take_in(store, Elsewhere(ModelName.parse("mine"), "", (weights,)), lambda _: None)
    assert list(store.names()) == []


def test_images_that_could_not_be_translated_are_refused_and_text_is_not(serve: StartServer, tmp_path: Path) -> None:
    numbers = {t.theirs: np.zeros(t.shape, np.float32) for t in TWINS["qwen25vl"].tensors}
    both = {f"mistral3.{key}": value for key, value in TWINS["qwen25vl"].both.items()}
    values = both | tokenizer() | {"mistral3.vision.block_count": 1}
    eyes = {"v.blk.0.attn_q.weight": np.ones((4, 32), np.float32)}
    plain = {name: data for name, data in numbers.items() if not name.endswith(".bias")}
    put(
        Store(tmp_path / "models"),
        "mine",
        write(tmp_path / "a.gguf", "mistral3", values, plain | eyes),
        capabilities=["completion", "vision"],
    )
    server = serve()
    assert ask(server, "/api/show", model="mine")["capabilities"] == ["completion"]
    options = {"temperature": 0, "num_predict": 2}
    assert ask(server, "/api/generate", model="mine", prompt="a", options=options)["eval_count"] == 2
    picture = [{"role": "user", "content": "a", "images": [b64encode(png()).decode()]}]
    error = ask(server, "/api/chat", model="mine", messages=picture)["error"]
    assert "does not support images" in error
    assert "rows in another order than llama.cpp; try: " in error


def test_a_translation_that_is_broken_off_or_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    original, _, _ = GEMMA3.write(tmp_path)
    store = Store(tmp_path / "models")
    put(store, "mine", original)
    spec = Library(store).resolve(ModelName.parse("mine"))
    config = EngineConfig(weights=spec.weights)

    def broken_off() -> None:
        raise EngineCrashed("broken off")

    folder = tmp_path / "translated"
    with pytest.raises(EngineCrashed, match="broken off"):
        Translated(folder).config(spec, config, broken_off)
    assert not list(folder.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r'"mine:latest" has to be translated .* cannot be written: Not a directory'):
        Translated(tmp_path / "file" / "translated").config(spec, config, lambda: None)
    made = Translated(folder).config(spec, config, lambda: None)
    assert made.weights != config.weights
    assert made.projector is not None
    (folder / f"{spec.weights.name}.model.0.gguf").touch()  # of other rules
    Translated(folder).sweep(spec.weights.parent)
    assert set(folder.iterdir()) == {made.weights, made.projector}
