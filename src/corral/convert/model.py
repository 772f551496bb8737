"""A model: its configuration, vocabulary and weights, put together."""

from __future__ import annotations

import math

from gguf import GGUFWriter
from gguf.utility import size_label

from corral.convert.config import Config
from corral.convert.families import family_of
from corral.convert.files import Folder
from corral.convert.plan import Plan
from corral.errors import ConversionError


def plan_model(folder: Folder, name: str) -> Plan:
    """What to write for the model in ``folder``. Raises `ConversionError` if it cannot be converted."""
    folder.path("config.json")
    config = Config(folder.json("config.json"))
    family = family_of(config, folder)
    if config.has("quantization_config"):
        method = config.section("quantization_config").text("quant_method", "some method")
        raise ConversionError(f"the weights are quantised by {method[:80]}; take the model in F32, F16 or BF16")
    outputs = family.outputs(folder.tensors())
    rows = next(output.shape[0] for output in outputs if output.name == "token_embd.weight")

    writer = GGUFWriter(None, family.name)
    writer.add_type("model")
    writer.add_name(name)
    parameters = sum(math.prod(output.shape) for output in outputs)
    writer.add_size_label(size_label(parameters, 0, 0, 0))
    writer.add_vocab_size(rows)
    family.describe(writer)
    family.vocabulary(rows).describe(writer)
    return Plan(writer, outputs)
