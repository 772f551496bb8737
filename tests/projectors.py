"""Small random projectors for Tiny: what they see means nothing, but of two images each is another to the model.

Metadata and tensors as llama.cpp's ``clip.cpp`` reads them: a SigLIP tower with the projector of Gemma 3 for images, a Whisper
tower with the projector of Ultravox for sounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gguf
import numpy as np

TINY_WIDTH = 256  # the embedding length of Tiny, which is what a projector has to give
SOUND_TOKENS = 30  # half a minute at a time: 1500 positions, fifty of them stacked into a token
IMAGE_TOKENS = 4  # one image of 64 x 64, patches of 8, four by four pooled into a token
_WIDTH, _FEED_FORWARD, _HEADS, _LAYERS = 32, 64, 2, 1
_IMAGE, _PATCH = 64, 8
_MELS, _STACK = 128, 50
_AUDIO_POSITIONS = 1500


def make_vision(path: Path, *, width: int = TINY_WIDTH) -> Path:
    """Write a projector that turns an image into `IMAGE_TOKENS` tokens of ``width`` numbers."""
    with _writing(path) as file:
        file.image_tower(width)
    return path


def make_audio(path: Path, *, width: int = TINY_WIDTH) -> Path:
    """Write a projector that turns sounds into tokens of ``width`` numbers."""
    with _writing(path) as file:
        file.audio_tower(width)
    return path


def make_both(path: Path, *, width: int = TINY_WIDTH) -> Path:
    """Write a projector for images and sounds."""
    with _writing(path) as file:
        file.image_tower(width, both=True)
        file.audio_tower(width, both=True)
    return path


@contextmanager
def _writing(path: Path) -> Iterator[_File]:
    file = _File(path)
    yield file
    file.close()


class _File:
    def __init__(self, path: Path) -> None:
        self._writer = gguf.GGUFWriter(path, "clip")
        self._writer.add_type("mmproj")
        self._writer.add_file_type(gguf.LlamaFileType.ALL_F32)
        self._random = np.random.default_rng(7)

    def close(self) -> None:
        self._writer.write_header_to_file()
        self._writer.write_kv_data_to_file()
        self._writer.write_tensors_to_file()
        self._writer.close()

    def image_tower(self, width: int, *, both: bool = False) -> None:
        writer = self._writer
        writer.add_bool("clip.has_vision_encoder", True)
        writer.add_string("clip.vision.projector_type" if both else "clip.projector_type", "gemma3")
        writer.add_bool("clip.use_gelu", True)
        writer.add_uint32("clip.vision.image_size", _IMAGE)
        writer.add_uint32("clip.vision.patch_size", _PATCH)
        writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
        writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])
        self._sizes("vision", width)
        self._matrix("v.patch_embd.weight", _WIDTH, 3, _PATCH, _PATCH)
        self._vector("v.patch_embd.bias", _WIDTH)
        self._matrix("v.position_embd.weight", (_IMAGE // _PATCH) ** 2, _WIDTH)
        self._norm("v.post_ln", _WIDTH)
        self._blocks("v", key_bias=True)
        self._matrix("mm.input_projection.weight", _WIDTH, width)
        self._writer.add_tensor("mm.soft_emb_norm.weight", np.full(_WIDTH, 1.0, np.float32))

    def audio_tower(self, width: int, *, both: bool = False) -> None:
        writer = self._writer
        writer.add_bool("clip.has_audio_encoder", True)
        writer.add_string("clip.audio.projector_type" if both else "clip.projector_type", "ultravox")
        writer.add_uint32("clip.audio.num_mel_bins", _MELS)
        writer.add_uint32("clip.audio.projector.stack_factor", _STACK)
        self._sizes("audio", width)
        self._matrix("a.conv1d.1.weight", _WIDTH, _MELS, 3, half=True)
        self._matrix("a.conv1d.1.bias", _WIDTH, 1)
        self._matrix("a.conv1d.2.weight", _WIDTH, _WIDTH, 3, half=True)
        self._matrix("a.conv1d.2.bias", _WIDTH, 1)
        self._matrix("a.position_embd.weight", _AUDIO_POSITIONS, _WIDTH)
        self._norm("a.post_ln", _WIDTH)
        self._blocks("a", key_bias=False)
        self._ones("mm.a.norm_pre.weight", _WIDTH * _STACK)
        self._matrix("mm.a.mlp.1.weight", _FEED_FORWARD, _WIDTH * _STACK)
        self._ones("mm.a.norm_mid.weight", _FEED_FORWARD // 2)
        self._matrix("mm.a.mlp.2.weight", width, _FEED_FORWARD // 2)

    def _sizes(self, what: str, width: int) -> None:
        writer = self._writer
        writer.add_uint32(f"clip.{what}.embedding_length", _WIDTH)
        writer.add_uint32(f"clip.{what}.feed_forward_length", _FEED_FORWARD)
        writer.add_uint32(f"clip.{what}.projection_dim", width)
        writer.add_uint32(f"clip.{what}.block_count", _LAYERS)
        writer.add_uint32(f"clip.{what}.attention.head_count", _HEADS)
        writer.add_float32(f"clip.{what}.attention.layer_norm_epsilon", 1e-6)

    def _blocks(self, tower: str, *, key_bias: bool) -> None:
        for layer in range(_LAYERS):
            prefix = f"{tower}.blk.{layer}."
            for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
                self._matrix(f"{prefix}{name}.weight", _WIDTH, _WIDTH)
                if name != "attn_k" or key_bias:
                    self._vector(f"{prefix}{name}.bias", _WIDTH)
            self._norm(f"{prefix}ln1", _WIDTH)
            self._norm(f"{prefix}ln2", _WIDTH)
            self._matrix(f"{prefix}ffn_up.weight", _FEED_FORWARD, _WIDTH)
            self._vector(f"{prefix}ffn_up.bias", _FEED_FORWARD)
            self._matrix(f"{prefix}ffn_down.weight", _WIDTH, _FEED_FORWARD)
            self._vector(f"{prefix}ffn_down.bias", _WIDTH)

    def _matrix(self, name: str, *shape: int, half: bool = False) -> None:
        numbers = self._random.standard_normal(shape, np.float32) * np.float32(0.3)
        self._writer.add_tensor(name, numbers.astype(np.float16) if half else numbers)

    def _vector(self, name: str, width: int) -> None:
        self._matrix(name, width)

    def _ones(self, name: str, width: int) -> None:
        self._writer.add_tensor(name, np.ones(width, np.float32))

    def _norm(self, name: str, width: int) -> None:
        self._ones(f"{name}.weight", width)
        self._vector(f"{name}.bias", width)


def make_one_file(path: Path, model: Path, projector: Path) -> Path:
    """Write a model and its projector into one file, with the names of llama.cpp."""
    files = [gguf.GGUFReader(file) for file in (model, projector)]
    writer = gguf.GGUFWriter(path, files[0].fields["general.architecture"].contents())
    written = {"general.architecture"}
    for file in files:
        for key, value in file.fields.items():
            if key.startswith("GGUF.") or key in written or (file is files[1] and not key.startswith("clip.")):
                continue
            written.add(key)
            kind = value.types[0]
            inner = value.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(key, value.contents(), kind, inner)
        for tensor in file.tensors:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
