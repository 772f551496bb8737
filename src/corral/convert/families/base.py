"""What all families have in common: names of tensors, sizes, and the checks that nothing is missing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import ClassVar

from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, GGUFWriter, get_tensor_name_map

from corral.convert.config import Config
from corral.convert.files import Folder
from corral.convert.plan import Change, Output, copied
from corral.convert.rope import Rope
from corral.convert.safetensors import Array, Tensor
from corral.convert.vocabulary import Vocabulary, read_vocabulary
from corral.errors import ConversionError

MAX_BLOCKS = 1024
_BLOCK = re.compile(r"blk\.(\d+)\.(.*)")
# Numbers that the engine computes, or that only training needs.
_NOT_WEIGHTS = re.compile(r".*(rotary_emb\.inv_freq|\.attn\.bias|\.masked_bias|position_ids)$")


class Family:
    """Models of one architecture. A subclass says what differs."""

    architecture: ClassVar[MODEL_ARCH]

    def __init__(self, config: Config, folder: Folder) -> None:
        self.config = config
        self.folder = folder
        self.blocks = config.count("num_hidden_layers", most=MAX_BLOCKS)
        self._names = get_tensor_name_map(self.architecture, self.blocks)

    @property
    def name(self) -> str:
        """What GGUF calls the architecture."""
        return MODEL_ARCH_NAMES[self.architecture]

    def describe(self, writer: GGUFWriter) -> None:
        """Add the sizes and settings that the engine needs."""
        raise NotImplementedError

    def vocabulary(self, rows: int) -> Vocabulary:
        """The tokens; there are ``rows`` embeddings."""
        return read_vocabulary(self.folder, self.config, rows)

    def outputs(self, tensors: Iterable[Tensor]) -> list[Output]:
        """All tensors of the file. Raises `ConversionError` for one that is unknown, or missing."""
        outputs = []
        for tensor in tensors:
            name = None if _NOT_WEIGHTS.match(tensor.name) else self.canonical(tensor.name)
            if name is not None:
                target = self.target(name)
                float32 = len(tensor.shape) == 1 or self.is_float32(target)
                outputs.append(copied(target, tensor, float32=float32, change=self.change(name, tensor)))
        self._check_whole({output.name for output in outputs})
        return outputs

    def target(self, name: str) -> str:
        """What GGUF calls the tensor ``name``."""
        found = self._names.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise ConversionError(f'a model of the architecture "{self.name}" has no tensor "{name[:80]}"')
        return found

    def canonical(self, name: str) -> str | None:
        """The usual name of the tensor ``name``; ``None`` if it is not needed."""
        return name

    def is_float32(self, target: str) -> bool:
        """Whether the engine wants the tensor in F32 though it has more than one dimension."""
        return False

    def change(self, name: str, tensor: Tensor) -> Change | None:
        """What must be done to the numbers of the tensor ``name``."""
        return None

    def required(self) -> set[str]:
        """Tensors outside of the blocks that must be there."""
        return {"token_embd.weight", "output_norm.weight"}

    def _check_whole(self, names: set[str]) -> None:
        if missing := self.required() - names:
            raise ConversionError(f"the weights are not whole: {min(missing)} is missing")
        blocks: dict[int, set[str]] = {number: set() for number in range(self.blocks)}
        for name in names:
            if match := _BLOCK.fullmatch(name):
                blocks[int(match[1])].add(match[2])
        for number, block in blocks.items():
            if missing := set().union(*blocks.values()) - block:
                raise ConversionError(f"the weights are not whole: blk.{number}.{min(missing)} is missing")


class Decoder(Family):
    """A model that generates text: rotary positions, norms by the root of the mean square, gated feed-forward."""

    tied_by_default: ClassVar[bool] = False
    activations: ClassVar[tuple[str, ...]] = ("silu", "swish")  # two names of one function

    def __init__(self, config: Config, folder: Folder) -> None:
        super().__init__(config, folder)
        activation = config.text("hidden_activation") or config.text("hidden_act", self.activations[0])
        if activation not in self.activations:
            raise ConversionError(
                f'config.json: the activation "{activation[:40]}" is not {self.activations[0]}, as it must be'
            )
        self.width = config.count("hidden_size")
        self.heads = config.count("num_attention_heads")
        self.kv_heads = config.count("num_key_value_heads", self.heads)
        self.head_width = config.count("head_dim", max(1, self.width // self.heads))
        self.rope = self.positions()

    def positions(self) -> Rope:
        """How positions are encoded."""
        return Rope(self.config, self.head_width)

    def describe(self, writer: GGUFWriter) -> None:
        writer.add_context_length(self.config.count("max_position_embeddings"))
        writer.add_embedding_length(self.width)
        writer.add_block_count(self.blocks)
        writer.add_feed_forward_length(self.config.count("intermediate_size"))
        writer.add_head_count(self.heads)
        writer.add_head_count_kv(self.kv_heads)
        writer.add_key_length(self.head_width)
        writer.add_value_length(self.head_width)
        writer.add_layer_norm_rms_eps(self.config.number("rms_norm_eps", 1e-6))
        self.rope.describe(writer)

    def outputs(self, tensors: Iterable[Tensor]) -> list[Output]:
        return [*super().outputs(tensors), *self.rope.outputs()]

    def canonical(self, name: str) -> str | None:
        if name == "lm_head.weight":
            return None if self.is_tied else name
        # Saved without the head, as models for embeddings are, the names lack their beginning.
        return name if name.startswith("model.") else f"model.{name}"

    @property
    def is_tied(self) -> bool:
        """Whether the embeddings are the output matrix too."""
        return self.config.flag("tie_word_embeddings", self.tied_by_default)

    def required(self) -> set[str]:
        untied = self.config.has("tie_word_embeddings") and not self.is_tied
        is_generator = self.config.texts("architectures")[0].endswith("ForCausalLM")
        return super().required() | ({"output.weight"} if untied and is_generator else set())


def interleaved(heads: int) -> Change:
    """From the halves of a head to pairs: rotary positions turn neighbours in the engine's Llama."""

    def change(numbers: Array) -> Array:
        rows = numbers.shape[0]
        if rows % (2 * heads):
            raise ConversionError(f"a matrix of queries or keys has {rows} rows, which {heads} heads cannot share")
        parts = numbers.reshape(heads, 2, rows // heads // 2, *numbers.shape[1:])
        return parts.swapaxes(1, 2).reshape(numbers.shape)

    return change


def plus_one(numbers: Array) -> Array:
    """Gemma's norms are stored as differences from one."""
    return numbers + 1


Families = Mapping[str, type[Family]]
