"""Files of Ollama's own dialect, loaded by the real engine after translation and compared with their twins in llama.cpp's."""

from __future__ import annotations

import random
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest

from bench.models import Shape, make
from corral.engine.base import CompletionCall, EngineConfig, Sampling, Text
from corral.engine.llama import LlamaEngine
from corral.engine.process import run_engine
from corral.errors import EngineStartError, GgufError, NotSupported
from corral.gguf import model_facts, read_gguf
from corral.gguf.ollama import as_translated, translation, write_view
from corral.tiny import TINY_FILE
from tests.gguf.dialect_models import GEMMA3, GPT_OSS, QWEN25VL, TINY, TOKENS, TWINS, tokenizer, write

GREEDY = Sampling(temperature=0, max_tokens=16)


def png(side: int = 56) -> bytes:
    """A picture that gets brighter to the right."""
    rows = b"".join(b"\0" + bytes((x * 4 + y) % 256 for x in range(side) for _ in range(3)) for y in range(side))
    picture = b"\x89PNG\r\n\x1a\n"
    for kind, data in (
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ):
        picture += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return picture


async def answer(weights: Path, projector: Path | None, log: Path) -> str | list[list[float]]:
    """What the engine makes of a text, and of a picture if it has eyes."""
    embeds = "gemma-embedding.pooling_type" in read_gguf(weights, arrays=False).metadata
    config = EngineConfig(
        weights=weights, projector=projector, context=256, embedding=embeds, batch=256 if embeds else None
    )
    async with run_engine(config, log=log) as process:
        engine = LlamaEngine(config, process)
        if embeds:
            return (await engine.embed(["Hello there"])).vectors
        images = (png(),) if projector else ()
        call = CompletionCall("Tell me of [img-0] two friends", GREEDY, images=images)
        return "".join(
            e.text for batch in [b async for b in engine.complete(call)] for e in batch if isinstance(e, Text)
        )


def translated(original: Path, folder: Path) -> tuple[Path, Path | None]:
    """The model and the projector that are made of a file of the dialect."""
    file = read_gguf(original)
    found = translation(file)
    assert found is not None
    write_view(file, found.model, folder / "model.gguf")
    if found.projector is None:
        return folder / "model.gguf", None
    write_view(file, found.projector, folder / "projector.gguf")
    return folder / "model.gguf", folder / "projector.gguf"


@pytest.mark.anyio
@pytest.mark.parametrize("name", TWINS)
async def test_a_translated_model_says_what_its_twin_in_llama_cpps_dialect_says(name: str, tmp_path: Path) -> None:
    original, reference, eyes = TWINS[name].write(tmp_path)
    with pytest.raises(EngineStartError):
        await answer(original, None, tmp_path / "log")
    model, projector = translated(original, tmp_path)
    assert (projector is None) is (eyes is None)
    said = await answer(model, projector, tmp_path / "log")
    assert said
    assert said == await answer(reference, eyes, tmp_path / "log")


@pytest.mark.parametrize("name", TWINS)
def test_a_translated_model_has_the_facts_and_the_data_of_its_twin(name: str, tmp_path: Path) -> None:
    twins = TWINS[name]
    original, reference, _ = twins.write(tmp_path)
    model, _ = translated(original, tmp_path)
    file = read_gguf(original, arrays=False)
    found = translation(file)
    assert found is not None
    expected = model_facts(read_gguf(reference))
    assert model_facts(as_translated(file, found.model)) == replace(expected, has_vision=bool(twins.eyes))
    data = {tensor.name: tensor.data for tensor in gguf.GGUFReader(model).tensors}
    wanted = {tensor.name: tensor.data for tensor in gguf.GGUFReader(reference).tensors}
    assert data.keys() == wanted.keys()
    assert all(np.array_equal(data[tensor], wanted[tensor]) for tensor in wanted)
    made = read_gguf(model)
    twin = read_gguf(reference).metadata
    assert {key: made.metadata.get(key) for key in twin} == dict(twin)


def test_files_in_llama_cpps_dialect_are_left_alone(tmp_path: Path) -> None:
    small = Shape(2, 64, 4, 2, 16, 96, TOKENS + 8)
    files = [TINY_FILE, make(small, tmp_path / "small.gguf"), make(small, tmp_path / "f16.gguf", "F16")]
    for name, twins in TWINS.items():
        folder = tmp_path / name
        folder.mkdir()
        _, reference, projector = twins.write(folder)
        files += [reference, *([projector] if projector else [])]
        if twins.theirs == twins.ours == "gemma3":  # what is translated is not translated again
            files += [file for file in translated(folder / "theirs.gguf", folder) if file]
    for file in files:
        assert translation(read_gguf(file)) is None, file
        assert translation(read_gguf(file, arrays=False)) is None, file


def test_the_greater_part_of_the_data_lies_in_blocks_as_it_did(tmp_path: Path) -> None:
    original, _, _ = GEMMA3.write(tmp_path)
    model, _ = translated(original, tmp_path)
    before = {tensor.name: tensor.offset for tensor in read_gguf(original).tensors}
    after = {tensor.name: tensor.offset for tensor in read_gguf(model).tensors}
    assert (before["token_embd.weight"] - after["token_embd.weight"]) % 4096 == 0


def test_what_cannot_be_translated_is_refused_in_one_sentence(tmp_path: Path) -> None:
    numbers = np.ones((4, 32), np.float32)

    def refused(architecture: str, *tensors: str) -> str:
        path = write(tmp_path / "a.gguf", architecture, tokenizer(), dict.fromkeys(tensors, numbers))
        with pytest.raises(NotSupported) as caught:
            translation(read_gguf(path, arrays=False))
        return str(caught.value)

    elsewhere = (
        "; try: a GGUF file made for llama.cpp, such as those on Hugging Face (corral pull hf.co/USER/REPOSITORY)"
    )
    assert refused("mllama", "token_embd.weight") == (
        f"the file is in Ollama's own form of mllama, and llama.cpp has no such architecture{elsewhere}"
    )
    assert "wants tensors in one" in refused("glmocr", "token_embd.weight")
    assert "wants tensors apart" in refused("gptoss", "blk.0.attn_qkv.weight")
    assert "in a way not known here" in refused("kimi9", "token_embd.weight", "v.blk.0.attn_q.weight")


def test_a_model_whose_images_cannot_be_translated_is_left_without_and_says_why(tmp_path: Path) -> None:
    numbers = np.ones((4, 32), np.float32)
    tensors = {"token_embd.weight": numbers, "v.blk.0.attn_q.weight": numbers, "mm.0.weight": numbers}
    values = {"mistral3.vision.block_count": 1, "mistral3.rope.scaling_beta": 0.1, **tokenizer()}
    file = read_gguf(write(tmp_path / "a.gguf", "mistral3", values, tensors))
    found = translation(file)
    assert found is not None
    assert found.projector is None
    assert "images are not supported" in found.lacks
    assert "mistral3" in found.lacks
    seen = as_translated(file, found.model)
    assert [tensor.name for tensor in seen.tensors] == ["token_embd.weight"]
    assert not model_facts(seen).has_vision
    assert seen.metadata["mistral3.attention.temperature_scale"] == pytest.approx(0.1)


def test_a_table_of_bytes_that_was_stored_as_letters_becomes_bytes_again(tmp_path: Path) -> None:
    numbers = {"token_embd.weight": np.ones((4, 32), np.float32)}
    letters = {"tokenizer.ggml.precompiled_charsmap": list("AAEC/w=="), "tokenizer.ggml.model": "t5"}
    original = write(tmp_path / "a.gguf", "bert", letters, numbers)
    model, _ = translated(original, tmp_path)
    field = gguf.GGUFReader(model).fields["tokenizer.ggml.precompiled_charsmap"]
    assert field.types == [gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.UINT8]
    assert field.contents() == [0, 1, 2, 255]
    broken = write(tmp_path / "b.gguf", "bert", letters | {"tokenizer.ggml.precompiled_charsmap": ["A", "!"]}, numbers)
    with pytest.raises(GgufError, match="is no base64"):
        translation(read_gguf(broken))


def test_a_vocabulary_is_cut_to_the_rows_that_all_embeddings_have(tmp_path: Path) -> None:
    tokens = ["a", "<unused0>", "<0x0A>", "b", "<image>", "<audio>"]
    values = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1, 3, 1, 1, 3, 3],
        "tokenizer.ggml.scores": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
    }
    words = np.arange(6 * 32, dtype=np.float16).reshape(6, 32)
    tensors = {"token_embd.weight": words, "per_layer_token_embd.weight": words[:4]}
    model, _ = translated(write(tmp_path / "a.gguf", "gemma3n", values, tensors), tmp_path)
    made = read_gguf(model)
    assert made.metadata["tokenizer.ggml.tokens"] == tokens[:4]
    assert made.metadata["tokenizer.ggml.token_type"] == [1, 1, 6, 1]
    assert made.metadata["tokenizer.ggml.scores"] == [0.0, 1.0, 2.0, 3.0]
    assert made.metadata["tokenizer.ggml.model"] == "llama"
    read = {tensor.name: tensor.data for tensor in gguf.GGUFReader(model).tensors}
    assert np.array_equal(read["token_embd.weight"], words[:4])
    assert np.array_equal(read["per_layer_token_embd.weight"], words[:4])


def test_a_projector_that_does_not_say_its_kind_is_told_it(tmp_path: Path) -> None:
    tensors = {name: np.ones((4, 32), np.float32) for name in ("v.blk.0.attn_q.weight", "mm.0.weight")}
    original = write(tmp_path / "a.gguf", "clip", {"clip.has_vision_encoder": True}, tensors)
    model, _ = translated(original, tmp_path)
    made = read_gguf(model)
    assert made.metadata["clip.projector_type"] == "mlp"
    assert {tensor.name for tensor in made.tensors} == set(tensors)
    assert translation(made) is None


HOSTILE: tuple[object, ...] = (
    0,
    1,
    2**31,
    2**32 - 1,
    -1.5,
    float("nan"),
    "",
    "x" * 500,
    True,
    [],
    ["a"],
    [-1],
    [2**31 - 1] * 3,
)


@pytest.mark.parametrize("twins", [GEMMA3, GPT_OSS, QWEN25VL, TWINS["embeddinggemma"]], ids=lambda twins: twins.ours)
def test_hostile_metadata_is_an_error_of_one_line_or_harmless(twins: object, tmp_path: Path) -> None:
    dice = random.Random(3)
    plain = {f"{twins.theirs}.{k}": v for k, v in twins.both.items()} | tokenizer() | dict(twins.only_theirs)  # type: ignore[attr-defined]
    plain |= {key: value for key, value in TINY.items() if key.startswith("general.n")}
    names = [tensor.theirs for tensor in (*twins.tensors, *twins.eyes)]  # type: ignore[attr-defined]
    refused: list[str] = []
    for number in range(60):
        values = {key: dice.choice(HOSTILE) if dice.random() < 0.3 else value for key, value in plain.items()}
        values = {key: value for key, value in values.items() if value != []}
        shapes = {name: (dice.randint(1, 3),) * dice.randint(1, 3) for name in dice.sample(names, 9)}
        path = write(
            tmp_path / f"{number}.gguf",
            twins.theirs,  # type: ignore[attr-defined]
            values,
            {name: np.ones(shape, np.float16) for name, shape in shapes.items()},
        )
        try:
            file = read_gguf(path)
            found = translation(file)
            if found is not None:
                write_view(file, found.model, tmp_path / "made.gguf")
                read_gguf(tmp_path / "made.gguf")
        except (GgufError, NotSupported) as exc:
            refused.append(str(exc))
        path.unlink()
    assert len(refused) < 60
    assert not [text for text in refused if "\n" in text]
