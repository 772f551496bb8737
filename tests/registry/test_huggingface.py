"""Which file of a repository of Hugging Face is meant, and models in parts."""

from __future__ import annotations

import json
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from corral.errors import RegistryError
from corral.names import Digest, ModelName
from corral.registry import Outside, Progress, Transfers
from corral.registry.huggingface import File, best, manifest_of, named, offers
from corral.store import MediaType, Store
from tests.registry.fake import FakeRegistry, Faults, digest_of

GB = 10**9


def file(path: str, size: float) -> File:
    return File(path, int(size * GB), Digest.of(path.encode()))


FILES = [
    file("Model-F16.gguf", 16),
    file("Model-Q8_0.gguf", 8.5),
    file("Model-Q6_K.gguf", 6.6),
    file("Model-Q4_K_M.gguf", 4.9),
    file("Model-IQ2_XS.gguf", 2.6),
    file("mmproj-Model-F16.gguf", 0.8),
    file("mmproj-Model-F32.gguf", 1.6),
    file("imatrix.gguf", 0.1),
    file("BF16/Model-BF16-00001-of-00002.gguf", 9),
    file("BF16/Model-BF16-00002-of-00002.gguf", 7),
    file("Q5_K_M/Model-00001-of-00002.gguf", 4),
]


def test_offers_are_whole_models_by_their_quantisation() -> None:
    assert [(offer.label, len(offer.files)) for offer in offers(FILES)] == [
        ("F16", 1), ("Q8_0", 1), ("Q6_K", 1), ("Q4_K_M", 1), ("IQ2_XS", 1), ("BF16", 2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("qwen2.5-0.5b-instruct-q4_k_m.gguf", "Q4_K_M"),
        ("Qwen3-8B-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("phi-2.Q5_0.gguf", "Q5_0"),
        ("model-TQ1_0.gguf", "TQ1_0"),
        ("Llama-3.2-1B-Instruct-Q4_0_4_8.gguf", "Q4_0_4_8"),
        ("Q8_0/ggml-model-00001-of-00001.gguf", "Q8_0"),
        ("model.gguf", ""),
    ],
)
def test_the_quantisation_is_read_from_the_name(name: str, label: str) -> None:
    (offer,) = offers([file(name, 1)])
    assert offer.label == label
    assert offer.tag == (label or name)


@pytest.mark.parametrize(
    ("memory", "label", "reason"),
    [
        (64, "Q8_0", "the best of 6 that fits in 64.0 GB of memory"),
        (9, "Q6_K", "the best of 6 that fits in 9.0 GB of memory"),
        (6, "Q4_K_M", "the best of 6 that fits in 6.0 GB of memory"),
        (1, "IQ2_XS", "the smallest of 6; none fits in 1.0 GB of memory"),
    ],
)
def test_the_best_that_fits_is_chosen(memory: int, label: str, reason: str) -> None:
    choice = best(offers(FILES), memory * GB)
    assert (choice.offer.label, choice.reason) == (label, reason)


def test_what_is_here_stays_the_choice_and_sixteen_bits_are_better_than_nothing() -> None:
    assert best(offers(FILES), 64 * GB, {FILES[4].digest}).offer.label == "IQ2_XS"
    assert best(offers(FILES[:1]), 64 * GB).offer.label == "F16"


def test_a_model_in_parts_has_a_layer_for_each_and_its_projector() -> None:
    offer = named(offers(FILES), "bf16")
    assert offer is not None
    _, manifest = manifest_of(offer, FILES)
    kinds = [(layer.media_type, layer.name) for layer in manifest.layers]
    assert kinds == [
        (MediaType.MODEL, "Model-BF16-00001-of-00002.gguf"),
        (MediaType.MODEL, "Model-BF16-00002-of-00002.gguf"),
        (MediaType.PROJECTOR, ""),
    ]
    assert manifest.layers[2].digest == FILES[5].digest


class Hub(FakeRegistry):
    """Hugging Face as far as it is needed: manifests for whole files, a list of all files in pages, and the files."""

    def put(self, path: str, data: bytes, *, tag: str = "") -> None:
        self.files[path] = data
        self.blobs[digest_of(data)] = data
        if tag:
            self.add(f"me/mine:{tag}", data)

    def __init__(self) -> None:
        super().__init__()
        self.documents["/api/models/me/mine/tree/main?recursive=true"] = self.page(0)
        self.documents["/page2"] = self.page(1)

    def page(self, number: int) -> Any:
        def answer() -> tuple[bytes, dict[str, str]]:
            paths = sorted(self.files)[number::2]
            entries = [
                {
                    "type": "file",
                    "path": path,
                    "size": 100,
                    "lfs": {"oid": digest_of(self.files[path])[7:], "size": len(self.files[path])},
                }
                for path in paths
            ]
            noise = [{"type": "file", "path": "README.md", "size": 3}, {"type": "directory", "path": "x.gguf"}]
            link = {} if number else {"Link": f'<http://{self.host}/page2>; rel="next"'}
            return json.dumps([*noise, *entries]).encode(), link

        return answer


async def pull(store: Store, hub: Hub, name: str, memory_bytes: int = 1 << 30) -> list[Progress]:
    outside = Outside(mirrors={"hf.co": [f"http://{hub.host}"], "huggingface.co": [f"http://{hub.host}"]})
    async with (
        Transfers(store, outside, memory_bytes=memory_bytes) as transfers,
        aclosing(transfers.pull(ModelName.parse(name))) as steps,
    ):
        return [step async for step in steps]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


@pytest.mark.anyio
async def test_a_name_without_a_quantisation_is_told_what_was_chosen(store: Store) -> None:
    hub = Hub()
    hub.put("mine-Q8_0.gguf", b"8" * 2000, tag="Q8_0")
    hub.put("mine-Q4_K_M.gguf", b"4" * 1000, tag="Q4_K_M")
    with hub.running():
        steps = await pull(store, hub, "hf.co/me/mine")
        assert steps[1].status == "choosing Q8_0, 0.0 GB: the best of 2 that fits in 1.1 GB of memory"
        name = ModelName.parse("hf.co/me/mine")
        assert store.read_blob(store.read(name).manifest.layers[0].digest) == b"8" * 2000
        steps = await pull(store, hub, "hf.co/me/mine", 10)
        assert steps[1].status == "choosing Q8_0, 0.0 GB: it is the one that is here"
        await pull(store, hub, "huggingface.co/me/mine:Q4_K_M")


@pytest.mark.anyio
async def test_a_model_in_parts_is_pulled_as_it_is(store: Store) -> None:
    hub = Hub()
    hub.put("BF16/mine-BF16-00001-of-00002.gguf", b"one" * 1000)
    hub.put("BF16/mine-BF16-00002-of-00002.gguf", b"two" * 1000)
    hub.put("mmproj-F16.gguf", b"eyes")
    hub.faults = Faults(redirect=True, link_uses=1)
    with hub.running():
        await pull(store, hub, "hf.co/me/mine:BF16")
        layers = store.read(ModelName.parse("hf.co/me/mine:BF16")).manifest.layers
        assert [store.read_blob(layer.digest) for layer in layers] == [b"one" * 1000, b"two" * 1000, b"eyes"]
        with pytest.raises(RegistryError, match=r"there is: BF16$"):
            await pull(store, hub, "hf.co/me/mine:Q2_K")


@pytest.mark.anyio
async def test_where_there_is_no_list_the_registry_chooses(store: Store) -> None:
    hub = Hub()
    hub.documents.clear()
    hub.add("me/mine:latest", b"weights")
    with hub.running():
        assert (await pull(store, hub, "hf.co/me/mine"))[-1].status == "success"
