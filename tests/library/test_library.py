"""Models as the library knows them, from good stores and damaged ones."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from corral.errors import CorralError, CorruptManifest, GgufError, ModelNotFound, StoreError
from corral.library import Library
from corral.names import ModelName
from corral.store import Manifest, MediaType, Store
from corral.store.manifest import CONFIG_TYPE
from corral.tiny import TINY_FILE, TINY_LICENSE

TINY, MINE = ModelName.parse("tiny"), ModelName.parse("mine")


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(Store(tmp_path / "models"))


def add(library: Library, config: bytes = b"{}", **layers: bytes) -> None:
    """The model ``mine``: Tiny's weights unless others are given, and further layers by their kind."""
    store = library.store
    weights = layers.pop("model", TINY_FILE.read_bytes())
    parts = [store.add_bytes(weights, MediaType.MODEL)] if weights else []
    parts += [store.add_bytes(data, MediaType[kind.upper()]) for kind, data in layers.items()]
    store.write(MINE, Manifest(store.add_bytes(config, CONFIG_TYPE), tuple(parts)))


def test_tiny_is_there_when_it_is_first_asked_for(library: Library) -> None:
    assert library.list() == []
    spec = library.resolve(TINY)
    assert spec.weights.read_bytes() == TINY_FILE.read_bytes()
    assert set(spec.capabilities) == {"completion", "tools", "thinking"}
    assert library.show(TINY).license == TINY_LICENSE.read_text()
    (summary,) = library.list()
    assert (summary.name.short, summary.details.quantization_level) == ("tiny:latest", "Q8_0")


def test_many_that_ask_for_tiny_at_once_all_get_it(library: Library) -> None:
    code = (
        "import sys; from pathlib import Path; from corral.library import Library; from corral.names import ModelName;"
        "from corral.store import Store; Library(Store(Path(sys.argv[1]))).resolve(ModelName.parse('tiny'))"
    )
    command = [sys.executable, "-c", code, str(library.store.root)]
    with ThreadPoolExecutor() as threads:
        others = [threads.submit(subprocess.run, command, check=True) for _ in range(2)]
        digests = set(threads.map(lambda _: library.resolve(TINY).digest, range(8)))
        for other in others:
            other.result()
    assert len(digests) == 1
    assert [summary.name for summary in library.list()] == [TINY]
    assert len(list((library.store.root / "blobs").iterdir())) == 3


def test_a_model_has_what_its_layers_say(library: Library) -> None:
    add(
        library,
        json.dumps({"model_format": "gguf", "model_family": "qwen3", "model_type": "4M"}).encode(),
        template=b"{{ .Prompt }}",
        system=b"You are a pirate.",
        params=b'{"temperature": 0.1, "stop": ["a", "b"]}',
        messages=b'[{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]',
        license=b"MIT",
    )
    spec = library.resolve(MINE)
    assert spec.template == "{{ .Prompt }}"
    assert spec.system == "You are a pirate."
    assert spec.parameters == {"temperature": 0.1, "stop": ["a", "b"]}
    assert spec.messages == (("user", "hi"), ("assistant", "ho"))
    shown = library.show(MINE)
    assert [line.split() for line in shown.parameters.splitlines()] == [
        ["temperature", "0.1"], ["stop", '"a"'], ["stop", '"b"'],
    ]  # fmt: skip
    assert 'SYSTEM "You are a pirate."' in shown.modelfile or "SYSTEM You are a pirate." in shown.modelfile


@pytest.mark.parametrize(
    ("parts", "kind", "said"),
    [
        ({"params": b"{"}, CorruptManifest, "mine.* is not JSON"),
        ({"params": b"[1]"}, CorruptManifest, "mine.* is not a JSON object"),
        ({"config": b"\xff"}, CorruptManifest, "mine.* is not JSON"),
        ({"messages": b'[{"role": "user"}]'}, CorruptManifest, "messages .*mine.* are damaged"),
        ({"messages": b"7"}, CorruptManifest, "messages .*mine.* are damaged"),
        ({"model": b""}, CorruptManifest, '"mine:latest" has no weights'),
        ({"model": b"GGUF\x03"}, GgufError, "it ends too early"),
        ({"model": b"<html>not found</html>"}, GgufError, "it is not a GGUF file"),
    ],
)
def test_a_damaged_model_is_an_error_and_is_listed_all_the_same(
    library: Library, parts: dict[str, bytes], kind: type[CorralError], said: str
) -> None:
    add(library, **parts)
    library.resolve(TINY)
    with pytest.raises(kind, match=said):
        library.resolve(MINE)
    assert {summary.name for summary in library.list()} == {MINE, TINY}


def test_a_missing_file_says_which_and_what_to_do(library: Library) -> None:
    add(library)
    weights = library.resolve(MINE).weights
    weights.unlink()
    with pytest.raises(StoreError, match=rf'"mine:latest" is missing .*{weights.name[7:]}; try: corral rm mine:latest'):
        library.resolve(MINE)


def test_what_was_known_is_looked_up_again_when_it_changes(library: Library) -> None:
    add(library, system=b"one")
    assert library.resolve(MINE).system == "one"
    add(library, system=b"two")
    assert library.resolve(MINE).system == "two"
    library.delete(MINE)
    with pytest.raises(ModelNotFound):
        library.resolve(MINE)
