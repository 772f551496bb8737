"""Models for benchmarks: random weights in a real shape. What they say means nothing; how fast they say it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

from corral.gguf import read_gguf
from corral.gguf.quantise import quantise
from corral.tiny import TINY_FILE


@dataclass(frozen=True)
class Shape:
    """A model of the Qwen3 family. Its vocabulary is Tiny's, with fillers up to ``vocabulary``: ``[0]``, ``[1]`` and so on.

    The first `WRITABLE` of them are tokens wherever they stand in a text; prompts are made of those.
    """

    layers: int
    width: int
    heads: int
    kv_heads: int
    head_width: int
    feed_forward: int
    vocabulary: int
    context: int = 4096

    @property
    def parameters(self) -> int:
        attention = self.width * self.head_width * (2 * self.heads + 2 * self.kv_heads)
        return self.vocabulary * self.width + self.layers * (attention + 3 * self.width * self.feed_forward)


MEDIUM = Shape(layers=28, width=1024, heads=16, kv_heads=8, head_width=128, feed_forward=3072, vocabulary=65536)
SMALL = Shape(layers=8, width=512, heads=8, kv_heads=4, head_width=64, feed_forward=1536, vocabulary=8192)

# A text is searched for each of these; with 60,000 of them that takes 34 ms for a hundred tokens, in no model that people use.
WRITABLE = 3000


FORMATS = {
    "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "F32": gguf.LlamaFileType.ALL_F32,
    "F16": gguf.LlamaFileType.MOSTLY_F16,
    "BF16": gguf.LlamaFileType.MOSTLY_BF16,
}


def make(
    shape: Shape,
    path: Path,
    number_format: str = "Q8_0",
    *,
    begins: bool = False,
    template: str | None = None,
    marks: Sequence[str] = (),
) -> Path:
    """Write the model to ``path``, unless it is there. ``number_format`` is one of `FORMATS`.

    With ``begins`` every prompt begins with a token of its own, which the template writes too. ``template`` is another one
    than Tiny's, ``marks`` are control tokens in it, which take the place of fillers.
    """
    if path.exists():
        return path
    tiny = read_gguf(TINY_FILE).metadata
    writer = gguf.GGUFWriter(path.with_suffix(".part"), "qwen3")
    writer.add_name(path.stem)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_width)
    writer.add_value_length(shape.head_width)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_file_type(FORMATS[number_format])
    fillers = shape.vocabulary - len(tiny["tokenizer.ggml.tokens"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    filling = [f"[{i}]" for i in range(fillers - len(marks))]
    written = min(WRITABLE, len(filling))
    writer.add_token_list([*tiny["tokenizer.ggml.tokens"], *marks, *filling])
    kinds = [gguf.TokenType.CONTROL] * len(marks)
    kinds += [gguf.TokenType.USER_DEFINED] * written + [gguf.TokenType.NORMAL] * (len(filling) - written)
    writer.add_token_types([*tiny["tokenizer.ggml.token_type"], *kinds])
    writer.add_token_merges(tiny["tokenizer.ggml.merges"])
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(begins)
    if begins:
        writer.add_bos_token_id(shape.vocabulary - 1)
        writer.add_chat_template("{{ bos_token }}" + tiny["tokenizer.chat_template"])
    elif template is not None:
        writer.add_chat_template(template)
    random = np.random.default_rng(1)

    def matrix(name: str, rows: int, columns: int, silent_rows: int = 0) -> None:
        if number_format != "Q8_0":
            numbers = random.standard_normal((rows, columns), np.float32) * np.float32(0.02)
            numbers[:silent_rows] = 0
            kind = gguf.GGMLQuantizationType[number_format]
            writer.add_tensor(name, gguf.quantize(numbers, kind), raw_dtype=kind)
            return
        blocks = rows * columns // 32
        data = np.empty((blocks, 34), np.uint8)
        scale = np.full(blocks, 0.02 / 40, np.float16)
        scale[: silent_rows * columns // 32] = 0
        data[:, :2] = scale.view(np.uint8).reshape(blocks, 2)
        data[:, 2:] = random.integers(0, 256, (blocks, 32), dtype=np.uint8)
        writer.add_tensor(name, data.reshape(rows, -1), raw_dtype=gguf.GGMLQuantizationType.Q8_0)

    def ones(name: str, width: int) -> None:
        writer.add_tensor(name, np.ones(width, np.float32))

    # Only fillers are ever the likeliest token: they are plain text, one chunk each, and none ends the answer.
    matrix("token_embd.weight", shape.vocabulary, shape.width, silent_rows=shape.vocabulary - fillers)
    ones("output_norm.weight", shape.width)
    for layer in range(shape.layers):
        prefix = f"blk.{layer}."
        for name, width in (("attn_norm", shape.width), ("ffn_norm", shape.width), ("attn_q_norm", shape.head_width),
                            ("attn_k_norm", shape.head_width)):  # fmt: skip
            ones(f"{prefix}{name}.weight", width)
        queries, keys = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
        matrix(f"{prefix}attn_q.weight", queries, shape.width)
        matrix(f"{prefix}attn_k.weight", keys, shape.width)
        matrix(f"{prefix}attn_v.weight", keys, shape.width)
        matrix(f"{prefix}attn_output.weight", shape.width, queries)
        matrix(f"{prefix}ffn_gate.weight", shape.feed_forward, shape.width)
        matrix(f"{prefix}ffn_up.weight", shape.feed_forward, shape.width)
        matrix(f"{prefix}ffn_down.weight", shape.width, shape.feed_forward)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    path.with_suffix(".part").rename(path)
    return path


async def make_quantised(shape: Shape, path: Path, mixture: str) -> Path:
    """Write the model to ``path`` as one of the mixtures that people download, such as ``Q4_K_M``; takes half a minute."""
    plain = make(shape, path.with_suffix(".plain"), "BF16")
    async for _ in quantise([plain], path, mixture):
        pass
    plain.unlink()
    return path
