"""How a model is loaded, and what has to go for it. Pure decisions: no clock, no I/O, no locks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

DEFAULT_CONTEXT = 8192
SMALL_CONTEXT = 4096
MOST_SLOTS = 8
OVERHEAD_BYTES = 64 << 20  # interpreter, compute buffers of small models
_KV_SHARE = 0.25  # of the memory that is free: what the caches of one model may take by themselves


@dataclass(frozen=True, slots=True)
class Shape:
    """What matters of a model: bytes of its files, bytes of cache per token, tokens it was trained for (0: unknown)."""

    weights_bytes: int
    kv_bytes_per_token: int
    trained_context: int


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model is loaded: tokens of context per sequence, sequences, and the memory this takes."""

    context: int
    slots: int
    need_bytes: int


def plan(shape: Shape, *, context: int | None, slots: int, free_bytes: int) -> Plan:
    """Choose context and slots. ``context`` and ``slots`` are what was asked for; ``None`` and 0 leave the choice.

    A context that was asked for is given up to what the model was trained for; the default one shrinks before the slots do.
    """
    trained = shape.trained_context or DEFAULT_CONTEXT
    budget = int(free_bytes * _KV_SHARE)
    chosen = min(context or DEFAULT_CONTEXT, trained)
    if context is None and chosen * shape.kv_bytes_per_token > budget:
        chosen = min(SMALL_CONTEXT, trained)
    per_slot = chosen * shape.kv_bytes_per_token
    if slots == 0:
        slots = max(1, min(MOST_SLOTS, budget // per_slot if per_slot else MOST_SLOTS))
    return Plan(chosen, slots, shape.weights_bytes + slots * per_slot + OVERHEAD_BYTES)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory. ``leases`` counts the requests that hold it."""

    key: str
    need_bytes: int
    leases: int
    idle_since: float  # seconds on the monotonic clock; meaningless while leases > 0


@dataclass(frozen=True, slots=True)
class Load:
    """Load now, after these have gone."""

    evict: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can go yet: ask again when a request ends."""


def place(need_bytes: int, loaded: Sequence[Loaded], *, free_bytes: int, most_models: int) -> Load | Wait:
    """Decide what goes so that a model of ``need_bytes`` fits. ``most_models`` of 0 is no limit.

    Only idle models go, longest idle first, and only as many as needed. Alone in memory a model is always tried: the estimate
    may be wrong, and the engine's own error is better than a refusal.
    """
    evict: list[str] = []
    for victim in sorted((m for m in loaded if not m.leases), key=lambda m: m.idle_since):
        if _fits(need_bytes, free_bytes, len(loaded) - len(evict), most_models):
            break
        evict.append(victim.key)
        free_bytes += victim.need_bytes
    remaining = len(loaded) - len(evict)
    if remaining == 0 or _fits(need_bytes, free_bytes, remaining, most_models):
        return Load(tuple(evict))
    return Wait()


def _fits(need_bytes: int, free_bytes: int, others: int, most_models: int) -> bool:
    return need_bytes <= free_bytes and (not most_models or others < most_models)
