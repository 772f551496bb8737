"""Models as the library knows them, from good stores and damaged ones."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gguf
import pytest

from corral.errors import CorralError, CorruptManifest, GgufError, ModelNotFound, NotSupported, StoreError
from corral.library import Library
from corral.names import Digest, ModelName
from corral.store import Manifest, MediaType, Store, StoredManifest
from corral.store.manifest import CONFIG_TYPE
from corral.tiny import TINY_FILE, TINY_LICENSE

TINY, MINE, YOURS = (ModelName.parse(name) for name in ("tiny", "mine", "yours"))


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


class Meeting(Store):
    """Here all who look for a model for the first time find out together, and installations are counted."""

    def __init__(self, root: Path, num_threads: int) -> None:
        super().__init__(root)
        self.installed = 0
        self._barrier = threading.Barrier(num_threads, timeout=10)
        self._met = threading.local()

    def read(self, name: ModelName) -> StoredManifest:
        try:
            return super().read(name)
        finally:
            if not hasattr(self._met, "yes"):
                self._met.yes = True
                self._barrier.wait()

    def write(self, name: ModelName, manifest: Manifest) -> None:
        self.installed += 1
        super().write(name, manifest)


def test_tiny_is_installed_once_however_many_ask_at_once(tmp_path: Path) -> None:
    store = Meeting(tmp_path / "models", 8)
    library = Library(store)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: library.resolve(TINY), range(8)))
    assert store.installed == 1


def test_tiny_can_be_deleted_and_comes_back_when_it_is_asked_for(library: Library) -> None:
    library.resolve(TINY)
    library.delete(TINY)
    assert library.list() == []
    assert not list((library.store.root / "blobs").iterdir())
    assert library.resolve(ModelName.parse("TINY")).weights.is_file()
    assert [summary.name for summary in library.list()] == [TINY]


def test_only_tiny_is_in_the_box(library: Library) -> None:
    for other in ("tiny:q4", "me/tiny", "example.org/library/tiny"):
        with pytest.raises(ModelNotFound):
            library.resolve(ModelName.parse(other))
    assert not library.store.root.exists()


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


def test_of_two_templates_the_later_one_is_used_also_under_its_old_type(library: Library) -> None:
    add(library, template=b"first", prompt=b"second")
    assert library.resolve(MINE).template == "second"


def test_a_projector_lets_a_model_see(library: Library) -> None:
    add(library, projector=b"eyes")
    spec = library.resolve(MINE)
    assert [path.read_bytes() for path in spec.projectors] == [b"eyes"]
    assert "vision" in spec.capabilities


def test_a_model_that_runs_elsewhere_is_not_run_here(library: Library) -> None:
    add(library, b'{"remote_model": "big", "remote_host": "https://example.org"}', model=b"")
    with pytest.raises(NotSupported, match='"mine:latest" runs on a remote server'):
        library.resolve(MINE)
    assert [summary.name for summary in library.list()] == [MINE]


def test_an_adapter_is_no_model(library: Library, tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "adapter", "llama")
    writer.add_type("adapter")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    add(library, model=(tmp_path / "adapter").read_bytes())
    with pytest.raises(CorruptManifest, match='the weights of "mine:latest" are an adapter'):
        library.resolve(MINE)


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


@pytest.mark.parametrize("kind", ["config", "template", "params"])
def test_a_missing_small_file_names_the_model_too(library: Library, kind: str) -> None:
    add(library, b'{"model_format": "gguf"}', template=b"{{ .Prompt }}", params=b'{"top_k": 1}')
    manifest = library.store.read(MINE).manifest
    layer = manifest.config if kind == "config" else manifest.of_type(MediaType[kind.upper()])[0]
    library.store.blob_path(layer.digest).unlink()
    with pytest.raises(StoreError, match="mine:latest"):
        library.resolve(MINE)


@pytest.mark.parametrize("ask", ["resolve", "list"])
def test_capabilities_that_are_no_list_hurt_nobody(library: Library, ask: str) -> None:
    add(library, b'{"capabilities": 5}')
    if ask == "list":
        assert [summary.name for summary in library.list()] == [MINE]
        return
    with contextlib.suppress(CorralError):
        library.resolve(MINE)


def test_weights_are_looked_into_once_however_many_models_share_them(library: Library) -> None:
    add(library)
    weights = library.resolve(MINE).weights
    library.copy(MINE, YOURS)
    assert library.resolve(YOURS).facts is library.resolve(MINE).facts
    library.copy(MINE, ModelName.parse("third"))
    weights.write_bytes(b"GGUF\x03")
    with pytest.raises(GgufError, match="ends too early"):
        library.resolve(ModelName.parse("third"))


class Interrupted(Store):
    """A store in which somebody else does something while a blob is read."""

    meanwhile: Callable[[], None] | None = None

    def read_blob(self, digest: Digest) -> bytes:
        data = super().read_blob(digest)
        if self.meanwhile is not None:
            act, self.meanwhile = self.meanwhile, None
            act()
        return data


def test_a_model_replaced_while_it_is_looked_at_is_looked_at_again(tmp_path: Path) -> None:
    store = Interrupted(tmp_path / "models")
    library = Library(store)
    add(library, system=b"one")
    store.meanwhile = lambda: add(library, system=b"two")
    library.resolve(MINE)
    assert library.resolve(MINE).system == "two"


def test_what_was_known_is_looked_up_again_when_it_changes(library: Library) -> None:
    add(library, system=b"one")
    assert library.resolve(MINE).system == "one"
    add(library, system=b"two")
    assert library.resolve(MINE).system == "two"
    library.delete(MINE)
    with pytest.raises(ModelNotFound):
        library.resolve(MINE)
