"""Gemma 2 and 3, for text."""

from __future__ import annotations

from typing import ClassVar

from gguf import MODEL_ARCH, GGUFWriter

from corral.convert.config import Config
from corral.convert.families.base import Decoder, plus_one
from corral.convert.files import Folder
from corral.convert.plan import Change
from corral.convert.rope import Rope
from corral.convert.safetensors import Tensor
from corral.errors import ConversionError


class Gemma2(Decoder):
    """Every other block sees a window only; scores and logits are bent to stay below a bound."""

    architecture = MODEL_ARCH.GEMMA2
    tied_by_default = True
    activations = ("gelu_pytorch_tanh",)
    # By the number of blocks the engine knows the one size that divides scores by another width than its heads'.
    largest: ClassVar[int] = 46

    def __init__(self, config: Config, folder: Folder) -> None:
        super().__init__(config.over(Config({"head_dim": 256, "query_pre_attn_scalar": 256})), folder)

    def describe(self, writer: GGUFWriter) -> None:
        super().describe(writer)
        self._check_scale()
        writer.add_sliding_window(self.config.count("sliding_window", 4096))
        self.describe_bounds(writer)

    def describe_bounds(self, writer: GGUFWriter) -> None:
        """What bends scores and logits, and which blocks see all."""
        writer.add_attn_logit_softcapping(self.config.number("attn_logit_softcapping", 50.0))
        writer.add_final_logit_softcapping(self.config.number("final_logit_softcapping", 30.0))
        if self.sliding_period(2) != 2:
            raise ConversionError('config.json: "layer_types" of Gemma 2 must take turns')

    def change(self, name: str, tensor: Tensor) -> Change | None:
        return plus_one if name.endswith("norm.weight") else None

    def sliding_period(self, usual: int) -> int:
        """The last of every so many blocks sees all. Raises `ConversionError` where there is no such rule."""
        kinds = self.config.texts("layer_types")
        if not kinds:
            key = "sliding_window_pattern"
            return self.config.count(key if self.config.has(key) else f"_{key}", usual)
        period = kinds.index("full_attention") + 1 if "full_attention" in kinds else usual
        regular = ["sliding_attention" if (n + 1) % period else "full_attention" for n in range(self.blocks)]
        if kinds != regular:
            raise ConversionError('config.json: "layer_types" follows no rule that the engine knows')
        return period

    def _check_scale(self) -> None:
        scalar = self.config.number("query_pre_attn_scalar")
        engines = self.width / self.heads if self.blocks == self.largest else self.head_width
        if scalar != engines:
            raise ConversionError(
                f'config.json: "query_pre_attn_scalar" is {scalar:g}; the engine has {engines:g} for this size'
            )


class Gemma3(Gemma2):
    """One block of six sees all, with positions of its own."""

    architecture = MODEL_ARCH.GEMMA3
    largest = 62

    def __init__(self, config: Config, folder: Folder) -> None:
        if config.flag("use_bidirectional_attention", False):
            raise ConversionError("config.json: Gemma that attends in both directions is not supported")
        super().__init__(config.over(Config({"rope_theta": 1_000_000.0})), folder)

    def positions(self) -> Rope:
        return Rope(self.config, self.head_width, "full_attention")

    def describe_bounds(self, writer: GGUFWriter) -> None:
        if self.config.has("attn_logit_softcapping"):
            raise ConversionError('config.json: "attn_logit_softcapping" is not supported for Gemma 3')
        if self.config.has("final_logit_softcapping"):
            writer.add_final_logit_softcapping(self.config.number("final_logit_softcapping"))
        writer.add_sliding_window_pattern(self.sliding_period(6))
        local = self.config.section("rope_parameters").section("sliding_attention")
        writer.add_rope_freq_base_swa(local.number("rope_theta", self.config.number("rope_local_base_freq", 10000.0)))
