"""Which number format each tensor of a model gets, by the name of a mixture such as ``Q4_K_M``. Pure.

The rules are llama.cpp's (``llama-quant.cpp``): most tensors get the format that the mixture is named for, and those that
suffer most get a better one: what goes out of the model, values of the attention, the way down in some layers. They are
tables here: a tensor's *role* comes from its name, and the first rule that fits decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from corral.errors import QuantizationError
from corral.gguf.reader import ArraySummary, GgufFile, TensorInfo, Value, printable
from corral.gguf.types import FILE_TYPES, TENSOR_TYPES

# A mixture's name, and the format of most of its tensors.
MIXTURES: dict[str, str] = {
    "F32": "F32",
    "F16": "F16",
    "BF16": "BF16",
    "Q8_0": "Q8_0",
    "Q6_K": "Q6_K",
    "Q5_K_M": "Q5_K",
    "Q5_K_S": "Q5_K",
    "Q5_0": "Q5_0",
    "Q4_K_M": "Q4_K",
    "Q4_K_S": "Q4_K",
    "Q4_0": "Q4_0",
    "IQ4_XS": "IQ4_XS",
    "Q3_K_M": "Q3_K",
    "Q2_K": "Q2_K",
}
ALIASES = {"Q5_K": "Q5_K_M", "Q4_K": "Q4_K_M", "Q3_K": "Q3_K_M"}
PLAIN = ("F32", "F16", "BF16")

_NUMBERS = {name: number for number, name in FILE_TYPES.items()}
_BLOCKS = {kind.name: kind.block for kind in TENSOR_TYPES.values()}


@dataclass(frozen=True, slots=True)
class Mixture:
    """A mixture: its name, its number in ``general.file_type``, the format of most of its tensors."""

    name: str
    number: int
    tensor_type: str


def mixture(name: str) -> Mixture:
    """The mixture that users call ``name``. Raises `QuantizationError` with the list of those there are.

    >>> mixture("q4_k")
    Mixture(name='Q4_K_M', number=15, tensor_type='Q4_K')
    """
    upper = name.upper()
    known = ALIASES.get(upper, upper)
    if known not in MIXTURES:
        supported = ", ".join(MIXTURES)
        raise QuantizationError(f"unsupported quantization type {upper} - supported types are {supported}")
    return Mixture(known, _NUMBERS[known], MIXTURES[known])


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """What the rules want to know of a model: architecture, layers, experts, and query heads that share a value."""

    architecture: str
    layers: int = 0
    experts: int = 0
    heads: int = 1
    kv_heads: int = 1

    @property
    def queries_per_value(self) -> int:
        """Query heads that share one value head; 0 where a layer has none."""
        return self.heads // self.kv_heads if self.kv_heads else 0

    @property
    def counts_as_70b(self) -> bool:
        """Whether it is one of the models of about 70 billion parameters, whose values are few and dear."""
        if self.architecture == "llama":
            return self.layers == 80 and self.experts != 8 and self.heads != self.kv_heads
        return self.layers == {"qwen2": 80, "deci": 80, "olmo": 80, "jais2": 68}.get(self.architecture)


def hyperparameters(file: GgufFile) -> Hyperparameters:
    """Those of ``file``, which may have been read without its arrays; of those with one element per layer the first counts."""
    architecture = file.metadata.get("general.architecture")
    architecture = architecture if isinstance(architecture, str) else "unknown"

    def number(key: str, default: int) -> int:
        value: Value | None = file.metadata.get(f"{architecture}.{key}")
        if isinstance(value, ArraySummary):
            value = value.first
        elif isinstance(value, list):
            value = value[0] if value else None
        return value if isinstance(value, int) else default

    heads = number("attention.head_count", 1)
    return Hyperparameters(
        architecture=architecture,
        layers=number("block_count", 0),
        experts=number("expert_count", 0),
        heads=heads,
        kv_heads=number("attention.head_count_kv", heads),
    )


class Role(Enum):
    """What a tensor does in a model, as far as the rules tell apart."""

    OUTPUT = auto()
    EMBEDDING = auto()
    VALUE = auto()
    KEY = auto()
    ATTENTION_OUTPUT = auto()
    DOWN = auto()
    OTHER = auto()


# The first that is part of the name decides. Keys and values made together count as values.
_ROLES = (
    ("attn_qkv.weight", Role.VALUE),
    ("attn_kv_b.weight", Role.VALUE),
    ("attn_v.weight", Role.VALUE),
    ("attn_k.weight", Role.KEY),
    ("attn_output.weight", Role.ATTENTION_OUTPUT),
    ("ffn_down", Role.DOWN),
)
_ROLES_OF_WHOLE_NAMES = {
    "output.weight": Role.OUTPUT,
    "token_embd.weight": Role.EMBEDDING,
    "per_layer_token_embd.weight": Role.EMBEDDING,
}

# Tensors that stay as they are: small, or hurt by any rounding. Parts of names, and whole names.
_KEPT_PARTS = (
    "_norm.weight", "ffn_gate_inp.weight", "ffn_gate_tid2eid.weight", "altup", "laurel", "per_layer_model_proj",
    "ssm_conv1d", "shortconv.conv.weight", "indexer.k_proj.weight", "indexer.q_proj.weight", "attn_rel_b.weight",
    "time_mix_first.weight", "time_mix_w0.weight", "time_mix_w1.weight", "time_mix_w2.weight", "time_mix_v0.weight",
    "time_mix_v1.weight", "time_mix_v2.weight", "time_mix_a0.weight", "time_mix_a1.weight", "time_mix_a2.weight",
    "time_mix_g1.weight", "time_mix_g2.weight", "time_mix_decay_w1.weight", "time_mix_decay_w2.weight",
    "time_mix_lerp_fused.weight", ".position_embd", "sam.pos_embd", "sam.neck.", "sam.net_", ".rel_pos", ".patch_embd",
    ".patch_merger", "a.rvq.codebook", "mm.a.code_embd",
)  # fmt: skip
_KEPT_NAMES = ("position_embd.weight", "token_types.weight")
_KEPT_PARTS_OF = {
    "glm5-next": (
        "hc_", "indexer.attn_q_b", "indexer.attn_k", "indexer.proj", "indexer_compressor_gate",
        "indexer_compressor_ape", "ssm_f_a.weight", "ssm_f_b.weight", "ssm_g_a.weight", "ssm_g_b.weight",
        "ssm_beta.weight", "attn_kv_a_mqa.weight", "attn_k_b.weight", "attn_v_b.weight",
    ),
}  # fmt: skip
_NEVER_BELOW_Q8_0 = {"glm5-next": ("attn_q_a", "attn_q_b", "nextn.eh_proj")}

# What takes the place of a format whose blocks do not divide a tensor's rows; where that does not either, F16.
_FALLBACKS = {
    "Q2_K": "Q4_0",
    "Q3_K": "Q4_0",
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
    "IQ4_XS": "IQ4_NL",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor stands among those of its role: the how-manieth of how many, in which model."""

    index: int
    count: int
    model: Hyperparameters

    @property
    def among_the_first_eighth(self) -> bool:
        """Whether it is in the first eighth."""
        return self.index < self.count // 8

    @property
    def deserves_more(self) -> bool:
        """Whether it is in the first or last eighth, or every third between."""
        eighth = self.count // 8
        return self.index < eighth or self.index >= 7 * self.count // 8 or (self.index - eighth) % 3 == 2

    @property
    def falcon(self) -> bool:
        """Whether the model is one of the first Falcons, whose tensors other rules hold for."""
        return self.model.architecture == "falcon"


@dataclass(frozen=True, slots=True)
class Rule:
    """Tensors of ``role`` in one of ``mixtures`` get ``tensor_type`` if ``when`` holds."""

    role: Role
    mixtures: tuple[str, ...]
    tensor_type: str
    when: Callable[[Place], bool] = lambda at: True


_RULES = (
    # Eight experts share few keys and values: the best there is costs next to nothing.
    Rule(Role.VALUE, tuple(MIXTURES), "Q8_0", lambda at: at.model.experts == 8),
    Rule(Role.KEY, tuple(MIXTURES), "Q8_0", lambda at: at.model.experts == 8),
    # So are values that many queries share.
    Rule(Role.VALUE, ("Q2_K",), "Q5_K", lambda at: at.model.counts_as_70b),
    Rule(Role.VALUE, ("Q2_K",), "Q4_K", lambda at: at.model.queries_per_value >= 4),
    Rule(Role.VALUE, ("Q2_K",), "Q3_K"),
    Rule(Role.VALUE, ("Q3_K_M",), "Q5_K", lambda at: at.index < 2 or at.model.counts_as_70b),
    Rule(Role.VALUE, ("Q3_K_M",), "Q4_K"),
    Rule(Role.VALUE, ("IQ4_XS",), "Q5_K", lambda at: at.model.queries_per_value >= 4),
    Rule(Role.VALUE, ("Q4_K_M", "Q5_K_M"), "Q6_K", lambda at: at.deserves_more),
    Rule(Role.VALUE, ("Q4_K_S",), "Q5_K", lambda at: at.index < 4),
    Rule(Role.VALUE, ("Q4_K_S", "Q4_K_M"), "Q5_K", lambda at: at.model.counts_as_70b),
    Rule(Role.DOWN, ("Q2_K",), "Q3_K"),
    Rule(Role.DOWN, ("Q3_K_M",), "Q5_K", lambda at: at.index < at.count // 16),
    Rule(Role.DOWN, ("Q3_K_M",), "Q4_K", lambda at: not at.falcon or at.deserves_more),
    Rule(Role.DOWN, ("Q4_K_S",), "Q5_K", lambda at: not at.falcon and at.among_the_first_eighth),
    Rule(Role.DOWN, ("Q4_K_M",), "Q6_K", lambda at: at.index < at.count // 16),
    Rule(Role.DOWN, ("Q4_K_M",), "Q5_K", lambda at: at.falcon and at.deserves_more),
    Rule(Role.DOWN, ("Q4_K_M",), "Q6_K", lambda at: not at.falcon and at.deserves_more),
    Rule(Role.DOWN, ("Q5_K_M",), "Q6_K", lambda at: at.deserves_more),
    Rule(Role.DOWN, ("IQ4_XS",), "Q5_K", lambda at: at.among_the_first_eighth),
    Rule(
        Role.ATTENTION_OUTPUT,
        ("Q2_K", "Q3_K_M", "Q4_K_S", "Q4_K_M", "IQ4_XS"),
        "Q5_K",
        lambda at: at.model.experts == 8 and not at.falcon,
    ),
    Rule(Role.ATTENTION_OUTPUT, ("Q2_K",), "Q3_K", lambda at: at.model.experts != 8 and not at.falcon),
    Rule(Role.ATTENTION_OUTPUT, ("Q3_K_M",), "Q4_K", lambda at: at.model.experts != 8 and not at.falcon),
)


def tensor_types(tensors: Sequence[TensorInfo], model: Hyperparameters, target: Mixture) -> dict[str, str]:
    """The format of each of ``tensors``, by name, in a file of the mixture ``target``.

    Tensors that stay as they are have their own. Raises `QuantizationError` for a model with experts whose layers cannot be told.
    """
    roles = {tensor.name: _role(tensor.name) for tensor in tensors}
    tied = Role.OUTPUT not in roles.values()
    counts = {Role.VALUE: sum(role is Role.VALUE for role in roles.values()), Role.DOWN: model.layers}
    seen: dict[Role, int] = {}
    types: dict[str, str] = {}
    for tensor in sorted(tensors, key=_layer_and_name):
        if not _is_converted(tensor, model):
            types[tensor.name] = tensor.type_name
            continue
        if target.tensor_type in PLAIN:
            types[tensor.name] = target.tensor_type
            continue
        role = roles[tensor.name]
        index = seen.get(role, 0)
        seen[role] = index + 1
        if role is Role.DOWN and model.experts > 1:
            index = _layer_of_experts(tensor.name, model)
        chosen = _chosen(tensor, role, tied, Place(index, counts.get(role, 0), model), target)
        types[tensor.name] = _fitting(tensor, chosen)
    return types


def _is_converted(tensor: TensorInfo, model: Hyperparameters) -> bool:
    """Whether ``tensor`` is one of the matrices that a mixture is about."""
    name = tensor.name
    return (
        any(length > 1 for length in tensor.shape[1:])
        and name.endswith("weight")
        and name not in _KEPT_NAMES
        and not any(part in name for part in _KEPT_PARTS)
        and not any(part in name for part in _KEPT_PARTS_OF.get(model.architecture, ()))
    )


def _chosen(tensor: TensorInfo, role: Role, tied: bool, place: Place, target: Mixture) -> str:
    """The format by the rules, whether or not it fits the tensor's rows."""
    if any(part in tensor.name for part in _NEVER_BELOW_Q8_0.get(place.model.architecture, ())):
        return "Q8_0"
    if role is Role.OUTPUT or (tied and role is Role.EMBEDDING):
        coarse = place.falcon or tensor.shape[0] % _BLOCKS[target.tensor_type] or target.tensor_type == "Q8_0"
        return "Q8_0" if coarse else "Q6_K"
    for rule in _RULES:
        if rule.role is role and target.name in rule.mixtures and rule.when(place):
            return rule.tensor_type
    return target.tensor_type


def _fitting(tensor: TensorInfo, chosen: str) -> str:
    """``chosen``, or what takes its place where its blocks do not divide the rows."""
    for candidate in (chosen, _FALLBACKS.get(chosen, chosen)):
        if tensor.shape[0] % _BLOCKS[candidate] == 0:
            return candidate
    return "F16"


def _role(name: str) -> Role:
    if name in _ROLES_OF_WHOLE_NAMES:
        return _ROLES_OF_WHOLE_NAMES[name]
    return next((role for part, role in _ROLES if part in name), Role.OTHER)


def _layer(name: str) -> int | None:
    found = re.match(r"blk\.(\d{1,9})\.", name, re.ASCII)
    return int(found[1]) if found else None


def _layer_and_name(tensor: TensorInfo) -> tuple[int, str]:
    """The order in which llama.cpp goes through a model, and so counts."""
    layer = _layer(tensor.name)
    return (-1 if layer is None else layer, tensor.name)


def _layer_of_experts(name: str, model: Hyperparameters) -> int:
    """With experts a layer may have several ways down: the name says which layer it is."""
    layer = _layer(name)
    if layer is None or layer >= model.layers:
        raise QuantizationError(
            f'the layer of the tensor "{printable(name[:80])}" cannot be told in {model.layers} layers'
        )
    return layer
