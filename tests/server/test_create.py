"""Models made over the API: with the genuine client, from models and from files, and what is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import ollama
import pytest

from bench.models import SMALL, make
from corral.modelfile import decode, definition_of, read_modelfile
from corral.names import Digest, ModelName
from corral.store import MediaType, Store
from corral.tiny import TINY_FILE
from tests.adapters import adapter, projector
from tests.conftest import RunningServer, StartServer
from tests.library.test_parts import parts  # noqa: F401 - a fixture

GREEDY = {"temperature": 0, "seed": 1, "num_predict": 24}
DIGEST = f"sha256:{hashlib.sha256(TINY_FILE.read_bytes()).hexdigest()}"
Create = Callable[..., tuple[int, list[dict[str, Any]]]]


@pytest.fixture
def client(server: RunningServer) -> Iterator[ollama.Client]:
    client = ollama.Client(server.url)
    yield client
    client._client.close()


@pytest.fixture(scope="session")
def sixteen_bits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of sixteen bits."""
    return make(SMALL, tmp_path_factory.mktemp("weights") / "sixteen.gguf", "F16")


@pytest.fixture
def create(server: RunningServer) -> Create:
    """Make the model ``mine``: the status and the objects of the stream."""

    def create(**body: Any) -> tuple[int, list[dict[str, Any]]]:
        answer = httpx.post(f"{server.url}/api/create", json={"model": "mine", **body}, timeout=60)
        return answer.status_code, [json.loads(line) for line in answer.text.splitlines()]

    return create


@pytest.fixture
def bring(server: RunningServer) -> Callable[[Path], str]:
    def bring(path: Path) -> str:
        data = path.read_bytes()
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        httpx.post(f"{server.url}/api/blobs/{digest}", content=data).raise_for_status()
        return digest

    return bring


def blobs(server: RunningServer) -> set[str]:
    return {path.name for path in (server.models / "blobs").iterdir()}


def test_the_genuine_client_makes_a_model_that_has_what_it_was_given(client: ollama.Client) -> None:
    steps = list(
        client.create(
            "mine",
            from_="tiny",
            system="You are Bob.",
            license=["one", "two"],
            parameters={"stop": ["X", "Y"], "temperature": 0.5, "num_ctx": 512.0},
            messages=[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
            stream=True,
        )
    )
    assert [step.status.split(" sha")[0] for step in steps] == [
        *["using existing layer"] * 2,  # the weights and the licence of Tiny
        *["creating new layer"] * 5,
        "writing manifest",
        "success",
    ]
    shown = client.show("mine")
    assert shown.details.parent_model == "tiny:latest"
    assert shown.license.endswith("\none\ntwo")
    assert shown.parameters.splitlines() == [
        "num_ctx                        512",
        'stop                           "X"',
        'stop                           "Y"',
        "temperature                    0.5",
    ]
    assert definition_of(read_modelfile(shown.modelfile)).messages == (("user", "a"), ("assistant", "b"))
    assert definition_of(read_modelfile(shown.modelfile)).system == "You are Bob."


def test_what_a_model_inherits_stays_unless_it_is_given_anew(create: Create, client: ollama.Client) -> None:
    create(**{"from": "tiny", "system": "S", "parameters": {"stop": ["X"], "top_k": 5}, "requires": "0.1.0"})
    client.create("two", from_="mine", parameters={"stop": ["Z"], "seed": 1})
    shown = client.show("two")
    assert [line.split() for line in shown.parameters.splitlines()] == [["seed", "1"], ["stop", '"Z"'], ["top_k", "5"]]
    definition = definition_of(read_modelfile(shown.modelfile))
    assert (definition.system, definition.requires, shown.details.parent_model) == ("S", "0.1.0", "mine:latest")


def test_files_are_stored_as_they_are_and_answer(client: ollama.Client, server: RunningServer) -> None:
    assert client.create_blob(TINY_FILE) == DIGEST
    steps = list(client.create("mine", files={"tiny.gguf": DIGEST}, stream=True))
    assert [step.status for step in steps] == [
        "parsing GGUF",
        "verifying conversion",
        f"creating new layer {DIGEST}",
        "writing manifest",
        "success",
    ]
    assert client.create("again", files={"tiny.gguf": DIGEST}).status == "success"
    assert [step.status for step in client.create("mine", files={"tiny.gguf": DIGEST}, stream=True)][2].startswith(
        "using"
    )
    details = client.show("mine").details
    assert (details.parent_model, details.family, details.parameter_size, details.quantization_level) == (
        "",
        "qwen3",
        "4.46M",
        "Q8_0",
    )
    assert client.generate("mine", "Hello", options=GREEDY).response == "Hello! How can I help you?"


def test_what_show_prints_makes_the_same_model_again(
    client: ollama.Client, create: Create, bring: Callable[[Path], str], tmp_path: Path, server: RunningServer
) -> None:
    template = 'a """\n{{ .Prompt }} \u200d"""\n'
    digests = {"adapters": {"a.gguf": bring(adapter(tmp_path / "a.gguf"))}}
    files = {"m.gguf": bring(TINY_FILE), "mmproj.gguf": bring(projector(tmp_path / "p.gguf"))}
    given = {"template": template, "system": ' "quoted" ', "parameters": {"stop": [" a", '"'], "temperature": 0.25}}
    more = {
        "license": ["L\n1", '"'],
        "messages": [{"role": "user", "content": " x"}],
        "requires": "0.2.0",
        "parser": "qwen3",
    }
    assert create(files=files, **digests, **given, **more)[0] == 200
    definition = definition_of(read_modelfile(decode(client.show("mine").modelfile.encode())))
    store = Store(server.models)
    assert [Path(text).name for text in definition.sources + definition.adapters] == [
        layer.digest.file_name
        for kind in (MediaType.MODEL, MediaType.PROJECTOR, MediaType.ADAPTER)
        for layer in store.read(ModelName.parse("mine")).manifest.of_type(kind)
    ]
    again: dict[str, Any] = {"model": "again", "template": definition.template}
    again |= {"files": {Path(text).name: Path(text).name for text in definition.sources}}
    again |= {"adapters": {Path(text).name: Path(text).name for text in definition.adapters}}
    again |= {"system": definition.system, "parser": definition.parser, "requires": definition.requires}
    again |= {"parameters": dict(definition.parameters), "license": list(definition.licenses)}
    again |= {"messages": [{"role": role, "content": content} for role, content in definition.messages]}
    httpx.post(f"{server.url}/api/create", json=again).raise_for_status()
    first, second = (store.read(ModelName.parse(name)).manifest for name in ("mine", "again"))
    assert [layer.digest for layer in first.blobs] == [layer.digest for layer in second.blobs]


def test_parts_of_a_model_are_stored_in_their_order(
    client: ollama.Client,
    create: Create,
    bring: Callable[[Path], str],
    parts: list[Path],  # noqa: F811
    server: RunningServer,
) -> None:
    digests = {path.name: bring(path) for path in parts}
    shuffled = {name: digests[name] for name in sorted(digests, reverse=True)}
    assert create(files=shuffled)[0] == 200
    layers = Store(server.models).read(ModelName.parse("mine")).manifest.of_type(MediaType.MODEL)
    assert [str(layer.digest) for layer in layers] == [digests[path.name] for path in parts]
    assert client.generate("mine", "Hello", options=GREEDY).response == "Hello! How can I help you?"
    del shuffled[parts[1].name]
    status, (error,) = create(files=shuffled, stream=False)
    assert (status, "missing: 2" in error["error"]) == (400, True)


def test_an_adapter_changes_what_the_model_says(
    client: ollama.Client, create: Create, bring: Callable[[Path], str], tmp_path: Path
) -> None:
    status, objects = create(**{"from": "tiny", "adapters": {"a.gguf": bring(adapter(tmp_path / "a.gguf"))}})
    assert (status, objects[-1]) == (200, {"status": "success"})
    plain, adapted = (client.generate(name, "Hello", raw=True, options=GREEDY).response for name in ("tiny", "mine"))
    assert plain != adapted
    assert adapted == client.generate("mine", "Hello", raw=True, options=GREEDY).response


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"architecture": "llama"}, 'the adapter "a.gguf" is for llama models, and this one is qwen3'),
        ({"width": 96}, "has the shape [512, 256] here"),
        ({"kind": "control"}, "is an adapter of the type 'control'; lora can be used"),
    ],
)
def test_an_adapter_for_another_model_is_refused(
    create: Create, bring: Callable[[Path], str], tmp_path: Path, changes: dict[str, Any], error: str
) -> None:
    digest = bring(adapter(tmp_path / "a.gguf", **changes))
    status, (answer,) = create(**{"from": "tiny", "adapters": {"a.gguf": digest}, "stream": False})
    assert status == 400
    assert error in answer["error"]


TEXT = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({}, 400, "neither 'from' or 'files' was specified"),
    ({"from": "tiny", "files": {"a.gguf": DIGEST}}, 400, "'from' and 'files' were both specified"),
    ({"from": "a b"}, 400, "invalid model name"),
    ({"from": "big:cloud"}, 400, "another server"),
    ({"from": "x", "remote_host": "http://127.0.0.1:1"}, 400, "other servers"),
    ({"files": {}}, 400, "unknown type"),
    ({"files": {"/etc/passwd": DIGEST}}, 400, "file path must be relative"),
    ({"files": {"a/../b.gguf": DIGEST}}, 400, "file path must be relative"),
    ({"files": {"a.gguf": ""}}, 400, "invalid digest format"),
    ({"files": {"a.gguf": 1}}, 400, "cannot unmarshal number into Go struct field CreateRequest.files"),
    ({"files": {"a.gguf": "sha256:12"}}, 500, "invalid digest format"),
    ({"files": {"a.gguf": "sha256:" + "0" * 64}}, 400, 'the file "a.gguf" is not here; bring it first'),
    ({"files": {"a.gguf": TEXT}}, 400, "supplied file was not in GGUF format"),
    ({"files": {"a.bin": TEXT}}, 400, "unknown type"),
    ({"files": {"model.safetensors": TEXT}}, 500, "config.json is missing"),
    ({"from": "tiny", "quantize": "q99"}, 500, "unsupported quantization type Q99"),
    ({"from": "tiny", "quantize": "q4_K_M"}, 500, "quantization is only supported for F16, BF16 and F32 models"),
    ({"files": {"a.gguf": DIGEST, "notes.txt": TEXT}}, 400, 'supplied file was not in GGUF format: "notes.txt"'),
    ({"from": "tiny", "adapters": {"a.gguf": DIGEST}}, 400, '"a.gguf" is not an adapter'),
    ({"from": "tiny", "adapters": {"a": DIGEST, "b": DIGEST}}, 400, "only one adapter is currently supported"),
    ({"from": "tiny", "template": "{{ .Prompt"}, 400, "template error: template: :1: unclosed action"),
    ({"from": "tiny", "parameters": {"temperature": "hot"}}, 400, 'option "temperature" must be of type float32'),
    ({"from": "tiny", "parameters": {"stop": "x"}}, 400, 'option "stop" must be of type array'),
    ({"from": "tiny", "parameters": {"top_p": 7}}, 400, 'option "top_p" must be at least 0 and at most 1, not 7'),
    ({"from": "tiny", "parameters": {"nosuch": 1}}, 400, "unknown parameter 'nosuch'"),
    ({"from": "tiny", "messages": [{"role": "robot", "content": "x"}]}, 400, 'not "robot"'),
    ({"from": "tiny", "messages": "x"}, 400, "CreateRequest.messages of type []api.Message"),
    ({"from": "tiny", "renderer": "nope"}, 400, 'unknown renderer "nope"'),
    ({"from": "tiny", "parser": "nope"}, 400, 'unknown parser "nope"'),
    ({"from": "tiny", "requires": "99.0.0"}, 400, "the model requires Ollama 99.0.0"),
    ({"from": "tiny", "requires": "new"}, 400, "requires must be a valid semver (e.g. 0.14.0)"),
    ({"from": "tiny", "license": [1]}, 500, "json: cannot unmarshal number into Go value of type string"),
    ({"from": "tiny", "license": 1}, 500, "json: cannot unmarshal number into Go value of type []string"),
    ({"from": "tiny", "info": {"context_length": "x"}}, 400, 'info field "context_length" must be a number'),
    ({"from": "tiny", "info": {"context_length": -1}}, 400, "must be a non-negative integer"),
    ({"from": "tiny", "info": {"context_length": 1e300}}, 400, "must be a non-negative integer"),
    ({"from": "tiny", "parameters": {"seed": 1e30}}, 400, 'option "seed" must be at least'),
    ({"from": "tiny", "info": {"base_name": 1}}, 400, 'info field "base_name" must be a string'),
    ({"from": "tiny", "draft_quantize": "q4_0"}, 400, "--draft-quantize requires a DRAFT model"),
    ({"from": "tiny", "draft_files": {"d.gguf": DIGEST}}, 400, "draft models"),
    ({"from": "nosuch"}, 500, "CORRAL_OFFLINE"),
]


def test_what_cannot_be_made_is_refused_and_leaves_the_old_model(
    create: Create, client: ollama.Client, server: RunningServer, tmp_path: Path, bring: Callable[[Path], str]
) -> None:
    create(**{"from": "tiny", "system": "old"})
    (tmp_path / "hello").write_text("hello")
    assert bring(tmp_path / "hello") == TEXT
    before, manifest = blobs(server), Store(server.models).read(ModelName.parse("mine")).data
    for body, status, text in REFUSED:
        for stream in (True, False):
            got, objects = create(**body, stream=stream)
            assert text in objects[-1]["error"], body
            assert got == (status if len(objects) == 1 else 200), body
    assert Store(server.models).read(ModelName.parse("mine")).data == manifest
    assert blobs(server) == before
    assert not (server.models / "making").exists()


def test_the_same_quantisation_changes_nothing(create: Create, server: RunningServer) -> None:
    assert create(**{"from": "tiny", "quantize": "q8_0"})[0] == 200
    manifests = [Store(server.models).read(ModelName.parse(name)).manifest for name in ("tiny", "mine")]
    assert len({manifest.of_type(MediaType.MODEL)[0].digest for manifest in manifests}) == 1


def test_a_model_is_quantised_with_progress_and_who_hangs_up_leaves_nothing(
    server: RunningServer, bring: Callable[[Path], str], create: Create, sixteen_bits: Path
) -> None:
    digest = bring(sixteen_bits)
    body = {"model": "small", "files": {"m.gguf": digest}, "quantize": "q4_k_m"}
    with httpx.stream("POST", f"{server.url}/api/create", json=body, timeout=60) as answer:
        for line in answer.iter_lines():
            if "quantizing" in line:
                break
    status, objects = create(**body)
    shown = [item for item in objects if item["status"] == "quantizing F16 model to Q4_K_M"]
    assert (status, objects[-1]) == (200, {"status": "success"})
    assert {item["digest"] for item in shown} == {"0000000000000000000"}
    assert shown[-1]["completed"] == shown[-1]["total"]
    summary = next(model for model in server.client.tags() if model["name"] == "small:latest")
    assert summary["details"]["quantization_level"] == "Q4_K_M"
    assert not list((server.models / "making").glob("*"))


def test_what_is_quantised_is_quantised_again_only_when_that_is_said(create: Create, server: RunningServer) -> None:
    status, answer = create(**{"from": "tiny", "quantize": "q5_0"})
    assert (status, answer[-1]) == (500, {"error": "quantization is only supported for F16, BF16 and F32 models"})
    assert create(**{"from": "tiny", "quantize": "q5_0", "allow_requantize": True})[0] == 200
    assert server.client.show("mine")["details"]["quantization_level"] == "Q5_0"


def test_a_model_that_is_made_anew_takes_its_old_files_away(create: Create, server: RunningServer) -> None:
    create(**{"from": "tiny", "system": "old"})
    old = blobs(server)
    create(**{"from": "mine", "system": "new"})
    store = Store(server.models)
    assert (
        store.blob_path(store.read(ModelName.parse("mine")).manifest.of_type(MediaType.SYSTEM)[0].digest).read_text()
        == "new"
    )
    used = {layer.digest.file_name for entry in store.entries() for layer in entry.manifest.blobs}
    assert blobs(server) == used != old


def test_files_that_nobody_uses_stay_where_pruning_is_off(serve: StartServer) -> None:
    server = serve(OLLAMA_NOPRUNE="1")
    for system in ("old", "new"):
        body = {"model": "mine", "from": "tiny", "system": system, "stream": False}
        assert httpx.post(f"{server.url}/api/create", json=body).json() == {"status": "success"}
    assert Store(server.models).blob_path(Digest.of(b"old")).is_file()


def test_many_who_make_one_model_at_once_make_one_whole_model(create: Create, server: RunningServer) -> None:
    create(**{"from": "tiny"})
    with ThreadPoolExecutor(6) as threads:
        results = list(
            threads.map(lambda n: create(**{"from": "tiny", "system": f"S{n}", "template": f"T{n}"}), range(12))
        )
    assert {status for status, _ in results} == {200}
    store = Store(server.models)
    manifest = store.read(ModelName.parse("mine")).manifest
    system, template = (
        store.read_blob(manifest.of_type(kind)[0].digest).decode() for kind in (MediaType.SYSTEM, MediaType.TEMPLATE)
    )
    assert system[1:] == template[1:]


def test_a_base_that_is_not_here_is_pulled(serve: StartServer, tmp_path: Path) -> None:
    registry = serve(tmp_path / "theirs")
    httpx.post(f"{registry.url}/api/show", json={"model": "tiny"}).raise_for_status()
    httpx.post(f"{registry.url}/api/copy", json={"source": "tiny", "destination": "base"}).raise_for_status()
    server = serve(tmp_path / "ours", CORRAL_OFFLINE="0", CORRAL_MIRRORS=f"registry.ollama.ai={registry.url}")
    answer = httpx.post(f"{server.url}/api/create", json={"model": "mine", "from": "base", "system": "S"}, timeout=60)
    said = [json.loads(line) for line in answer.text.splitlines()]
    assert said[0] == {"status": "pulling manifest"}
    assert [item["status"] for item in said].count("success") == 1
    assert said[-1] == {"status": "success"}
    names = {entry.name.short for entry in Store(server.models).entries()}
    assert names == {"base:latest", "mine:latest"}


def test_a_template_that_a_user_writes_is_used(create: Create, server: RunningServer) -> None:
    create(**{"from": "tiny", "template": "<|im_start|>user\nMY {{ .Prompt }}<|im_end|>\n<|im_start|>assistant\n"})
    for model in ("mine", "again"):
        body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "_debug_render_only": True}
        rendered = httpx.post(f"{server.url}/api/chat", json=body).json()["_debug_info"]["rendered_template"]
        assert rendered == "<|im_start|>user\nMY Hello<|im_end|>\n<|im_start|>assistant\n"
        create(**{"model": "again", "from": "mine", "system": "S"})


def test_what_has_no_effect_is_left_out_and_said(create: Create, client: ollama.Client) -> None:
    _, objects = create(**{"from": "tiny", "parameters": {"low_vram": True, "top_k": 5}})
    assert "parameter low_vram has no effect and is left out" in [item["status"] for item in objects]
    assert client.show("mine").parameters.split() == ["top_k", "5"]


def test_what_a_client_says_of_a_model_is_shown(create: Create, client: ollama.Client) -> None:
    info = {
        "model_family": "mine",
        "parameter_size": "7B",
        "quantization_level": "Q1",
        "capabilities": ["vision"],
        "x": 1,
    }
    assert create(**{"from": "tiny", "info": info})[0] == 200
    shown = client.show("mine")
    assert (shown.details.family, shown.details.parameter_size, shown.details.quantization_level) == (
        "mine",
        "7B",
        "Q1",
    )
    assert "vision" in shown.capabilities
