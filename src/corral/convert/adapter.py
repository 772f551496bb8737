"""A LoRA adapter in PEFT's layout: two thin matrices for each matrix that was trained."""

from __future__ import annotations

import math
import re
from pathlib import Path

from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, GGUFWriter, TensorNameMap, get_tensor_name_map

from corral.convert.config import Config
from corral.convert.families.base import MAX_BLOCKS, interleaved
from corral.convert.files import Folder
from corral.convert.plan import Change, Output, Plan, copied
from corral.convert.safetensors import Tensor, read_safetensors
from corral.errors import ConversionError
from corral.gguf import read_gguf

WEIGHTS = "adapter_model.safetensors"
SUPPORTED = (
    MODEL_ARCH.LLAMA,
    MODEL_ARCH.QWEN2,
    MODEL_ARCH.QWEN3,
    MODEL_ARCH.GEMMA2,
    MODEL_ARCH.GEMMA3,
    MODEL_ARCH.PHI3,
)
_NAME = re.compile(r"(?:base_model\.model\.)?(?P<layer>.+)\.lora_(?P<which>[AB])(?:\.default)?\.weight")


def plan_adapter(folder: Folder, base: Path) -> Plan:
    """What to write for the adapter in ``folder``. Raises `ConversionError` for one that the engine cannot apply to ``base``."""
    folder.path("adapter_config.json")
    config = Config(folder.json("adapter_config.json"), "adapter_config.json")
    _check(config)
    model = _Base(base)
    if WEIGHTS not in folder and folder.names("*.bin"):
        raise ConversionError(
            "adapter_model.bin is a pickle, which can run code when it is read; take it as safetensors"
        )
    outputs = [model.output(tensor) for tensor in read_safetensors(folder.path(WEIGHTS), WEIGHTS)]
    _check_pairs({output.name for output in outputs})
    writer = GGUFWriter(None, model.architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", _alpha(config))
    return Plan(writer, outputs)


class _Base:
    """The model that an adapter belongs to: what its tensors are called, and how its heads lie."""

    def __init__(self, path: Path) -> None:
        metadata = read_gguf(path, arrays=False).metadata
        self.architecture = str(metadata.get("general.architecture"))
        known = {MODEL_ARCH_NAMES[architecture]: architecture for architecture in SUPPORTED}
        if self.architecture not in known:
            raise ConversionError(
                f'adapters for the architecture "{self.architecture[:80]}" are not supported; those for {", ".join(known)} are'
            )
        facts = Config(metadata, path.name)
        self._heads = facts.count(f"{self.architecture}.attention.head_count")
        self._kv_heads = facts.count(f"{self.architecture}.attention.head_count_kv", self._heads)
        blocks = facts.count(f"{self.architecture}.block_count", most=MAX_BLOCKS)
        self._names: TensorNameMap = get_tensor_name_map(known[self.architecture], blocks)

    def output(self, tensor: Tensor) -> Output:
        """One of the two matrices, in F32 as the engine wants them."""
        match = _NAME.fullmatch(tensor.name)
        if match is None or len(tensor.shape) != 2:
            raise ConversionError(f'the adapter has a tensor "{tensor.name[:120]}", which is no part of a LoRA')
        layer, which = match["layer"], match["which"]
        target = self._names.get_name(f"{layer}.weight", try_suffixes=(".weight",))
        if target is None or "embed_tokens" in layer:
            raise ConversionError(
                f'the adapter changes "{layer[:120]}", which the engine cannot apply to {self.architecture}'
            )
        change = self._change(layer) if which == "B" else None
        return copied(f"{target}.lora_{which.lower()}", tensor, float32=True, change=change)

    def _change(self, layer: str) -> Change | None:
        """The rows of the second matrix are those of the matrix it is added to."""
        if self.architecture != "llama":
            return None
        if layer.endswith("q_proj"):
            return interleaved(self._heads)
        return interleaved(self._kv_heads) if layer.endswith("k_proj") else None


def _check(config: Config) -> None:
    """Raises `ConversionError` for what goes beyond two matrices with one scale."""
    if (kind := config.text("peft_type", "LORA")) != "LORA":
        raise ConversionError(f"the adapter is of the type {kind[:40]}; only LORA is supported")
    for key in ("use_dora", "fan_in_fan_out", "lora_bias"):
        if config.flag(key, False):
            raise ConversionError(f'adapter_config.json: "{key}" is not supported')
    # The engine divides one alpha by the rank of each matrix.
    if config.section("alpha_pattern") or (config.section("rank_pattern") and config.flag("use_rslora", False)):
        raise ConversionError(
            'adapter_config.json: "alpha_pattern", or "rank_pattern" with "use_rslora", is not supported'
        )
    if config.has("modules_to_save") and config.texts("modules_to_save"):
        raise ConversionError(
            'adapter_config.json: "modules_to_save" is not supported; merge the adapter into its model'
        )


def _alpha(config: Config) -> float:
    """The engine divides it by the rank; "rslora" divides by the root of the rank."""
    alpha = config.number("lora_alpha", 8.0)
    return alpha * math.sqrt(config.count("r", 8)) if config.flag("use_rslora", False) else alpha


def _check_pairs(names: set[str]) -> None:
    if not names:
        raise ConversionError("the adapter has no tensors")
    for name in sorted(names):
        other = name[:-1] + ("b" if name.endswith("a") else "a")
        if other not in names:
            raise ConversionError(f"the adapter is not whole: {other} is missing")
