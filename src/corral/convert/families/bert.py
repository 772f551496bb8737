"""BERT, which makes embeddings."""

from __future__ import annotations

import re

from gguf import MODEL_ARCH, GGUFWriter, PoolingType

from corral.convert.families.base import Family
from corral.convert.pooling import read_pooling
from corral.convert.vocabulary import Vocabulary, read_word_pieces
from corral.errors import ConversionError

# What stands on top of the encoder for training, and for tasks the engine does not do.
_HEADS = re.compile(r"(pooler|cls)\.")


class Bert(Family):
    """Encodes all tokens at once, with learnt positions."""

    architecture = MODEL_ARCH.BERT

    def describe(self, writer: GGUFWriter) -> None:
        config = self.config
        if (kind := config.text("position_embedding_type", "absolute")) != "absolute":
            raise ConversionError(
                f'config.json: positions of the kind "{kind}" are not supported; BERT\'s are "absolute"'
            )
        if (activation := config.text("hidden_act", "gelu")) != "gelu":
            raise ConversionError(f'config.json: the activation "{activation}" is not supported; BERT\'s is "gelu"')
        writer.add_context_length(config.count("max_position_embeddings"))
        writer.add_embedding_length(config.count("hidden_size"))
        writer.add_block_count(self.blocks)
        writer.add_feed_forward_length(config.count("intermediate_size"))
        writer.add_head_count(config.count("num_attention_heads"))
        writer.add_layer_norm_eps(config.number("layer_norm_eps", 1e-12))
        writer.add_causal_attention(False)
        pooling = read_pooling(self.folder)
        # sentence-transformers too takes the mean for a model that does not say.
        writer.add_pooling_type(PoolingType.MEAN if pooling is None else pooling)
        writer.add_token_type_count(config.count("type_vocab_size", 2))

    def vocabulary(self, rows: int) -> Vocabulary:
        return read_word_pieces(self.folder, self.config, rows)

    def canonical(self, name: str) -> str | None:
        name = name.removeprefix("bert.")
        # The oldest files call the two parts of a norm by other names.
        name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        return None if _HEADS.match(name) else name

    def is_float32(self, target: str) -> bool:
        return target in ("position_embd.weight", "token_types.weight")

    def required(self) -> set[str]:
        return {"token_embd.weight", "position_embd.weight", "token_types.weight", "token_embd_norm.weight"}
