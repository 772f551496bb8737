"""What a model keeps in memory while it works, by the numbers in its own description. Pure functions.

Three kinds of layers keep something: those that attend to everything (keys and values of every token), those that attend to a
window (of the last tokens only), and recurrent ones (one state per sequence, whatever its length). Which layers of an
architecture are which is llama.cpp's choice (``load_arch_hparams`` and ``create_memory`` there); where it is not known here, a
layer counts as one that attends to everything, so that an estimate errs upwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from corral.gguf.reader import GgufFile, Value
from corral.gguf.types import TENSOR_TYPES

_BY_NAME = {kind.name: kind for kind in TENSOR_TYPES.values()}
_CELLS = 256  # the engine rounds the tokens of a cache up to a multiple of these
_FLOAT_BYTES = 4  # of recurrent states and of what is computed with

# Of how many layers one attends to everything, where the file has no pattern of its own: the last of them, or the first.
_PERIODS = {"gemma2": 2, "gemma3": 6, "gemma3n": 5, "cohere2": 4, "gpt-oss": 2, "llama4": 4, "olmo2": 4, "exaone4": 4,
            "exaone-moe": 4, "smallthinker": 4, "afmoe": 4, "plamo3": 8}  # fmt: skip
_DENSE_FIRST = frozenset({"smallthinker"})
_CHUNKS = {"llama4": 8192}  # a window that the file does not name
_WITHOUT_CACHE = frozenset(
    {"bert", "modern-bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3", "neo-bert", "eurobert",
     "gemma-embedding", "t5encoder", "dream", "llada", "llada-moe", "wavtokenizer-dec", "rnd1"}
)  # fmt: skip
_RECURRENT = frozenset({"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"})
_BOTH_AT_ONCE = frozenset({"falcon-h1"})  # every layer attends and is recurrent
_INTERVALS = frozenset({"qwen3next", "qwen35", "qwen35moe"})  # one layer of four attends


@dataclass(frozen=True, slots=True)
class MemoryShape:
    """What matters for memory. All are counts of numbers, not bytes, but for ``state_bytes`` and ``tensor_bytes``.

    ``full_values`` are kept for every token, ``window_values`` for the last ``window`` tokens of a sequence, ``state_bytes``
    once per sequence. ``buffer_values`` are computed with for each token of a batch. ``layer_bytes`` are the weights of all
    layers, which can go to a GPU one by one; the other tensors are the rest of ``tensor_bytes``.
    """

    layers: int = 0
    full_values: int = 0
    window_values: int = 0
    window: int = 0
    state_bytes: int = 0
    buffer_values: int = 0
    tensor_bytes: int = 0
    layer_bytes: int = 0

    def cache_bytes(self, cache_type: str, *, pool_tokens: int, slots: int, batch: int) -> int:
        """Of all caches, which share a pool of tokens, in a number format such as ``f16``."""
        kind = _BY_NAME[cache_type.upper()]
        pool = _rounded(pool_tokens)
        window = min(pool, _rounded(self.window * slots + batch)) if self.window_values else 0
        values = self.full_values * pool + self.window_values * window
        return -(-values * kind.bytes // kind.block) + self.state_bytes * slots

    def token_bytes(self, cache_type: str) -> int:
        """What one more token of the pool costs. Windows do not grow with it."""
        kind = _BY_NAME[cache_type.upper()]
        return -(-self.full_values * kind.bytes // kind.block)


def memory_shape(file: GgufFile, architecture: str, number: Callable[[Value | None], int | None]) -> MemoryShape:
    """The shape of ``file``. ``number`` reads a value that must be a sensible whole number."""

    def value(key: str) -> Value | None:
        return file.metadata.get(f"{architecture}.{key}")

    def counted(key: str, otherwise: int = 0) -> int:
        found = number(value(key))
        return otherwise if found is None else found

    def of_layers(key: str, otherwise: int) -> list[int]:
        found = value(key)
        if isinstance(found, list):
            return [number(item) or 0 for item in found[:layers]] + [otherwise] * (layers - len(found))
        return [counted(key, otherwise)] * layers

    layers = min(counted("block_count"), 4096)
    width = counted("embedding_length")
    queries = counted("attention.head_count", 1) or 1
    kv_heads = of_layers("attention.head_count_kv", queries)
    head = width // queries
    keys, values = counted("attention.key_length", head), counted("attention.value_length", head)
    if value("attention.key_length_mla") is not None:  # compressed: the values are in the keys
        values = 0
    window_head = counted("attention.key_length_swa", keys) + counted("attention.value_length_swa", values)

    attends = _attending(architecture, layers, kv_heads, counted("full_attention_interval", 4))
    keeps = layers - counted("attention.shared_kv_layers")  # the last ones use what earlier ones keep
    window, windowed = _windows(architecture, layers, value("attention.sliding_window_pattern"), counted)
    full_values = sum(kv_heads[n] * (keys + values) for n in range(keeps) if attends[n] and not windowed[n])
    window_values = sum(kv_heads[n] * window_head for n in range(keeps) if attends[n] and windowed[n])
    recurrent = layers if architecture in _BOTH_AT_ONCE else layers - sum(attends)
    if architecture in _WITHOUT_CACHE:
        full_values = window_values = recurrent = 0

    vocabulary = max((t.shape[-1] for t in file.tensors if t.name == "token_embd.weight" and t.shape), default=0)
    return MemoryShape(
        layers=layers,
        full_values=full_values,
        window_values=window_values,
        window=window if window_values else 0,
        state_bytes=recurrent * _state_values(width, counted) * _FLOAT_BYTES,
        buffer_values=vocabulary + 6 * width + 2 * counted("feed_forward_length") + 2 * queries * head,
        tensor_bytes=sum(tensor.size_bytes for tensor in file.tensors),
        layer_bytes=sum(tensor.size_bytes for tensor in file.tensors if tensor.name.startswith("blk.")),
    )


def _attending(architecture: str, layers: int, kv_heads: list[int], interval: int) -> list[bool]:
    if architecture in _RECURRENT:
        return [False] * layers
    if architecture in _INTERVALS:
        return [(n + 1) % max(1, interval) == 0 for n in range(layers)]
    return [heads > 0 for heads in kv_heads]


def _windows(
    architecture: str, layers: int, pattern: Value | None, counted: Callable[[str, int], int]
) -> tuple[int, list[bool]]:
    """The tokens of a window, and which layers have one."""
    window = counted("attention.sliding_window", 0) or _CHUNKS.get(architecture, 0)
    if not window or (architecture not in _PERIODS and not isinstance(pattern, list)):
        return 0, [False] * layers
    if isinstance(pattern, list):
        flags = [bool(flag) for flag in pattern]
        return window, [flags[n % len(flags)] if flags else False for n in range(layers)]
    period = pattern if isinstance(pattern, int) and pattern > 0 else _PERIODS[architecture]
    dense = 0 if architecture in _DENSE_FIRST else period - 1
    return window, [n % period != dense for n in range(layers)]


def _state_values(width: int, counted: Callable[[str, int], int]) -> int:
    """Numbers that a recurrent layer keeps for a sequence."""
    if head := counted("wkv.head_size", 0):
        return width * head + 2 * width
    if taps := counted("shortconv.l_cache", 0):
        return width * (taps - 1)
    inner, state = counted("ssm.inner_size", 0), counted("ssm.state_size", 0)
    groups, taps = counted("ssm.group_count", 0), counted("ssm.conv_kernel", 0)
    return max(0, taps - 1) * (inner + 2 * groups * state) + state * inner


def _rounded(tokens: int) -> int:
    return -(-tokens // _CELLS) * _CELLS
