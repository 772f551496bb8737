"""Write ``llama_cpp.json``: which number formats, and which bytes, llama.cpp itself gives.

    python -m tests.gguf.freeze FOLDER

FOLDER holds ``libllama.so`` and ``libggml-base.so`` of llama.cpp, built with ``BUILD_SHARED_LIBS`` for x86-64 from the sources that
the engine's package was made of. Only who moves to an engine whose rules differ needs this.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from ctypes import c_bool, c_char_p, c_int, c_int32, c_int64, c_size_t, c_uint32, c_void_p
from pathlib import Path

from corral.gguf import read_gguf
from corral.gguf.mixtures import MIXTURES, Hyperparameters, Mixture, mixture
from corral.gguf.reader import TensorInfo
from corral.gguf.types import TENSOR_TYPES
from corral.tiny import TINY_FILE
from tests.gguf.mixture_models import MODELS

FROZEN = Path(__file__).with_name("llama_cpp.json")


class Parameters(ctypes.Structure):
    _fields_ = [
        ("threads", c_int32), ("file_type", c_int), ("output", c_int), ("embedding", c_int), ("allow_requantize", c_bool),
        ("quantize_output", c_bool), ("only_copy", c_bool), ("pure", c_bool), ("keep_split", c_bool), ("dry_run", c_bool),
        ("pointers", c_void_p * 4), ("max_buffer", c_size_t),
    ]  # fmt: skip


class Description(ctypes.Structure):
    _fields_ = [("architecture", c_char_p), *((name, c_uint32) for name in
                ("width", "hidden", "layers", "heads", "kv_heads", "experts", "key_width", "value_width"))]  # fmt: skip


class Pool(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("buffer", c_void_p), ("no_data", c_bool)]


class LlamaCpp:
    def __init__(self, folder: Path) -> None:
        self.ggml = ctypes.CDLL(str(folder / "libggml-base.so"), mode=ctypes.RTLD_GLOBAL)
        self.llama = ctypes.CDLL(str(folder / "libllama.so"))
        self.llama.llama_model_quantize_default_params.restype = Parameters
        self.ggml.ggml_init.restype = self.ggml.ggml_new_tensor_4d.restype = c_void_p
        self.ggml.ggml_init.argtypes = [Pool]
        self.ggml.ggml_new_tensor_4d.argtypes = [c_void_p, c_int, *[c_int64] * 4]
        self.ggml.ggml_set_name.argtypes = [c_void_p, c_char_p]

    def types(self, model: Hyperparameters, tensors: Sequence[TensorInfo], target: Mixture) -> dict[str, str]:
        """What its rules say of ``tensors``, which must be in its order."""
        describe = self.llama._Z31llama_quant_model_from_metadataPK22llama_quant_model_desc
        begin = self.llama._Z16llama_quant_initPK11llama_modelPK27llama_model_quantize_params
        compute = self.llama._Z25llama_quant_compute_typesP19quantize_state_impl11llama_ftypePP11ggml_tensorP9ggml_typem
        describe.restype = begin.restype = c_void_p
        begin.argtypes = [c_void_p, c_void_p]
        compute.argtypes = [c_void_p, c_int, c_void_p, c_void_p, c_size_t]
        numbers = {kind.name: number for number, kind in TENSOR_TYPES.items()}
        head = (
            model.architecture.encode(),
            1024,
            2048,
            model.layers,
            model.heads,
            model.kv_heads,
            model.experts,
            128,
            128,
        )
        parameters = self.llama.llama_model_quantize_default_params()
        state = begin(describe(ctypes.byref(Description(*head))), ctypes.addressof(parameters))
        pool = self.ggml.ggml_init(Pool(500 * len(tensors) + 10_000, None, True))
        made = (c_void_p * len(tensors))()
        for place, tensor in enumerate(tensors):
            lengths = [*tensor.shape, 1, 1, 1][:4]
            made[place] = self.ggml.ggml_new_tensor_4d(pool, numbers[tensor.type_name], *lengths)
            self.ggml.ggml_set_name(made[place], tensor.name.encode())
        found = (c_int * len(tensors))()
        compute(state, target.number, made, found, len(tensors))
        return {tensor.name: TENSOR_TYPES[number].name for tensor, number in zip(tensors, found, strict=True)}

    def quantise(self, source: Path, target: Path, file_type: Mixture) -> None:
        parameters = self.llama.llama_model_quantize_default_params()
        parameters.file_type, parameters.allow_requantize = file_type.number, True
        status = self.llama.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(parameters))
        assert status == 0


def in_order(tensors: Sequence[TensorInfo]) -> list[TensorInfo]:
    """As llama.cpp goes through them: by layer, then by name."""

    def key(tensor: TensorInfo) -> tuple[int, str]:
        found = re.match(r"blk\.(\d+)\.", tensor.name)
        return (int(found[1]) if found else -1, tensor.name)

    return sorted(tensors, key=key)


def summary(types: Mapping[str, str], usual: str) -> dict[str, str]:
    """What differs from ``usual``: by name without the layer, the formats in the order of layers, or the one of all."""
    found: dict[str, list[str]] = {}
    for name, kind in types.items():
        found.setdefault(re.sub(r"^blk\.\d+\.", "blk.*.", name), []).append(kind)
    short = {name: kinds[0] if len(set(kinds)) == 1 else " ".join(kinds) for name, kinds in sorted(found.items())}
    return {name: kinds for name, kinds in short.items() if kinds != usual}


def digest(path: Path) -> str:
    """SHA-256 over the names, formats and data of a file's tensors, in the order of names."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        for tensor in sorted(read_gguf(path).tensors, key=lambda tensor: tensor.name):
            file.seek(tensor.offset)
            hasher.update(f"{tensor.name} {tensor.type_name} ".encode() + file.read(tensor.size_bytes))
    return hasher.hexdigest()


def main() -> None:
    llama = LlamaCpp(Path(sys.argv[1]))
    targets = [mixture(name) for name in MIXTURES]
    types = {
        label: {t.name: summary(llama.types(model, in_order(tensors), t), t.tensor_type) for t in targets}
        for label, (model, tensors) in MODELS.items()
    }
    digests = {}
    with tempfile.TemporaryDirectory() as folder:
        for target in targets:
            llama.quantise(TINY_FILE, Path(folder) / "new.gguf", target)
            digests[target.name] = digest(Path(folder) / "new.gguf")
    lines = [
        f'  "{label}": {{\n' + ",\n".join(f'   "{name}": {json.dumps(kinds)}' for name, kinds in of.items()) + "\n  }"
        for label, of in types.items()
    ]
    FROZEN.write_text(
        '{\n "types": {\n' + ",\n".join(lines) + '\n },\n "tiny": ' + json.dumps(digests, indent=2) + "\n}\n"
    )


if __name__ == "__main__":
    main()
