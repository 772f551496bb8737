"""The families of models that can be converted, by the class that ``config.json`` names."""

from __future__ import annotations

from corral.convert.config import Config
from corral.convert.families.base import Families, Family
from corral.convert.families.bert import Bert
from corral.convert.families.gemma import Gemma2, Gemma3
from corral.convert.families.llama import Llama
from corral.convert.families.phi import Phi3
from corral.convert.families.qwen import Qwen2, Qwen3
from corral.convert.files import Folder
from corral.errors import ConversionError

FAMILIES: Families = {
    "BertModel": Bert,
    "Gemma2ForCausalLM": Gemma2,
    "Gemma3ForCausalLM": Gemma3,
    "LlamaForCausalLM": Llama,
    "MistralForCausalLM": Llama,
    "Phi3ForCausalLM": Phi3,
    "Qwen2ForCausalLM": Qwen2,
    "Qwen3ForCausalLM": Qwen3,
}

__all__ = ["FAMILIES", "Family", "family_of"]


def family_of(config: Config, folder: Folder) -> Family:
    """The family that the configuration names. Raises `ConversionError` for one that is not supported."""
    architectures = config.texts("architectures")
    if not architectures:
        raise ConversionError('unknown architecture: config.json does not say "architectures"')
    family = FAMILIES.get(architectures[0])
    if family is None:
        raise ConversionError(
            f'unsupported architecture "{architectures[0][:80]}"; supported are {", ".join(sorted(FAMILIES))}'
        )
    return family(config, folder)
