"""Phi-3 and Phi-4: queries, keys and values are one matrix, and so are the two of the gate."""

from __future__ import annotations

from gguf import MODEL_ARCH, GGUFWriter

from corral.convert.families.base import Decoder
from corral.convert.rope import Rope


class Phi3(Decoder):
    """Both matrices stay as they are: the engine has them in one, too."""

    architecture = MODEL_ARCH.PHI3

    def positions(self) -> Rope:
        parameters = self.config.section("rope_parameters")
        turning = parameters.number("partial_rotary_factor", self.config.number("partial_rotary_factor", 1.0))
        return Rope(self.config, int(self.head_width * turning))

    def describe(self, writer: GGUFWriter) -> None:
        super().describe(writer)
        writer.add_sliding_window(self.config.count("sliding_window") if self.config.has("sliding_window") else 0)
