"""Rotary positions: what a configuration says of them, and what the engine wants to know.

Source: transformers' ``modeling_rope_utils.py`` for the meaning, llama.cpp's ``convert_hf_to_gguf.py`` for the keys.
"""

from __future__ import annotations

import math

from gguf import GGUFWriter, RopeScalingType

from corral.convert.config import Config
from corral.convert.plan import Output, computed
from corral.errors import ConversionError


class Rope:
    """The rotary positions of a model whose heads have ``width`` numbers that turn."""

    def __init__(self, config: Config, width: int, section: str = "") -> None:
        parameters = config.section("rope_parameters")
        if section:
            parameters = parameters.section(section)
        self._scaling = parameters.over(config.section("rope_scaling"))
        self._width = width
        self._context = config.count("max_position_embeddings")
        self._config = config
        self.base = (
            parameters.number("rope_theta") if parameters.has("rope_theta") else config.number("rope_theta", 10000.0)
        )
        self.kind = self._scaling.text("rope_type") or self._scaling.text("type") or "default"

    def describe(self, writer: GGUFWriter) -> None:
        """Add the keys. Raises `ConversionError` for a way of scaling that the engine does not know."""
        writer.add_rope_dimension_count(self._width)
        writer.add_rope_freq_base(self.base)
        match self.kind:
            case "default" | "llama3":
                pass
            case "linear":
                writer.add_rope_scaling_type(RopeScalingType.LINEAR)
                writer.add_rope_scaling_factor(self._scaling.number("factor"))
            case "yarn":
                self._describe_yarn(writer)
            case "longrope" | "su":
                writer.add_rope_scaling_orig_ctx_len(self._original_context)
                writer.add_rope_scaling_attn_factors(self._long_attention())
            case _:
                raise ConversionError(
                    f'config.json scales positions by "{self.kind}"; supported are linear, llama3, longrope and yarn'
                )

    def outputs(self) -> list[Output]:
        """The tensors that hold a factor for each frequency, where there are such factors."""
        if self.kind == "llama3":
            return [computed("rope_freqs.weight", self._llama3_factors())]
        if self.kind in ("longrope", "su"):
            return [
                computed(f"rope_factors_{which}.weight", self._factors(f"{which}_factor"))
                for which in ("long", "short")
            ]
        return []

    @property
    def _original_context(self) -> int:
        key = "original_max_position_embeddings"
        return self._config.count(key) if self._config.has(key) else self._scaling.count(key, self._context)

    def _describe_yarn(self, writer: GGUFWriter) -> None:
        factor = self._scaling.number("factor")
        usual = 0.1 * math.log(factor) + 1 if factor > 1 else 1.0
        if abs(self._scaling.number("attention_factor", usual) - usual) > 1e-4 or self._scaling.has("mscale"):
            raise ConversionError('config.json: yarn with its own "attention_factor" or "mscale" is not supported')
        writer.add_rope_scaling_type(RopeScalingType.YARN)
        writer.add_rope_scaling_factor(factor)
        writer.add_rope_scaling_orig_ctx_len(self._original_context)
        if self._scaling.has("beta_fast"):
            writer.add_rope_scaling_yarn_beta_fast(self._scaling.number("beta_fast"))
        if self._scaling.has("beta_slow"):
            writer.add_rope_scaling_yarn_beta_slow(self._scaling.number("beta_slow"))

    def _long_attention(self) -> float:
        """What the cosines and sines are multiplied with, as Phi-3 has it."""
        if self._scaling.has("attention_factor"):
            return self._scaling.number("attention_factor")
        scale = self._scaling.number("factor", self._context / self._original_context)
        return math.sqrt(1 + math.log(scale) / math.log(self._original_context)) if scale > 1 else 1.0

    def _factors(self, key: str) -> list[float]:
        factors = self._scaling.numbers(key)
        if len(factors) != self._width // 2:
            raise ConversionError(f'config.json: "{key}" has {len(factors)} numbers; it must have {self._width // 2}')
        return factors

    def _llama3_factors(self) -> list[float]:
        factor = self._scaling.number("factor")
        low, high = self._scaling.number("low_freq_factor"), self._scaling.number("high_freq_factor")
        context = self._original_context
        factors = []
        for index in range(0, self._width, 2):
            wavelength = 2 * math.pi * self.base ** (index / self._width)
            if wavelength < context / high:
                factors.append(1.0)
            elif wavelength > context / low:
                factors.append(factor)
            else:
                smooth = (context / wavelength - low) / (high - low)
                factors.append(1 / ((1 - smooth) / factor + smooth))
        return factors
