"""How a model is loaded, where, and what has to go for it. Pure decisions: no clock, no I/O, no locks.

A plan is made for the memory that is free: as large as is useful, and if that does not fit in steps smaller (`smaller`), down
to a floor. What an engine really took at an earlier load replaces the estimate. Memory is counted by device, main memory under
the name `CPU`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from corral.gguf import MemoryShape
from corral.hardware import Device

CPU = "CPU"
MOST_SLOTS = 8
LONGEST_DEFAULT = (
    32_768  # tokens that a sequence may have when nobody says: long documents, and not all memory for one model
)
SHORTEST_DEFAULT = 4096
MOST_POOL = 65_536  # tokens that sequences share when nobody says: the engine writes the whole cache while it loads
SLOT_TOKENS = 2048  # of the pool for each slot: a question and its answer
OVERHEAD_BYTES = 64 << 20  # of an engine's process, and of a driver on its device
_CACHE_SHARE = {
    True: 0.25,
    False: 0.5,
}  # of what the weights leave free in main memory, and on a device: for one model's caches
_BATCH = 512  # the engine's own on a device; without any it is half of it, so the estimate is on the safe side
_UNKNOWN_CONTEXT = 8192

Bytes = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Shape:
    """What matters of a model: its own numbers, bytes of its files, tokens it was trained for (0: unknown)."""

    memory: MemoryShape
    weights_bytes: int
    projector_bytes: int = 0
    trained_context: int = 0


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for. ``None``, and 0 slots, leave the choice."""

    context: int | None = None
    slots: int = 0
    cache_type: str = "f16"
    batch: int | None = None
    gpu_layers: int | None = None
    main_gpu: int | None = None
    shares_pool: bool = True  # whether a sequence may take what others leave of the pool


@dataclass(frozen=True, slots=True)
class Rules:
    """What the operator wants. ``most_models`` of 0 is no limit."""

    most_models: int = 0
    spread: bool = False
    device_reserve_bytes: int = 0  # of each device, for others
    small_cache_type: str | None = None  # that the cache may get when memory runs out
    processor_instead: bool = True  # whether a model may leave its device when memory runs out


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model is loaded: tokens per sequence, sequences, tokens they share, where its layers are, and the memory this takes.

    ``fixed_bytes`` is the part of main memory that no weights are in: the kernel can drop those and read them again.
    ``lowered`` says what was given up after memory ran out, in order.
    """

    context: int
    slots: int
    pool_tokens: int
    cache_type: str
    gpu_layers: int = 0
    devices: tuple[str, ...] = ()
    need: Bytes = field(default_factory=dict)
    fixed_bytes: int = 0
    lowered: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What a measurement of this plan is remembered under."""
        where = "+".join(self.devices) or CPU
        return f"{self.context}/{self.slots}/{self.pool_tokens}/{self.cache_type}/{self.gpu_layers}@{where}"

    @property
    def need_bytes(self) -> int:
        """On all devices together."""
        return sum(self.need.values())


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory. ``leases`` counts the requests that hold it; one that is pinned never goes."""

    key: str
    need: Bytes
    leases: int
    idle_since: float  # seconds on the monotonic clock; meaningless while leases > 0
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Load:
    """Load like this, after these have gone."""

    plan: Plan
    evict: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can go yet: ask again when a request ends."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """It can never be: everything that can go would not be enough."""

    need_bytes: int
    free_bytes: int
    by_count: bool = False  # it is not memory, but the number of models that may be loaded


def place(
    shape: Shape,
    wish: Wish,
    loaded: Sequence[Loaded],
    *,
    free: Bytes,
    devices: Sequence[Device] = (),
    rules: Rules = Rules(),
    measured: Mapping[str, Bytes] | None = None,
) -> Load | Wait | Refuse:
    """Decide how a model is loaded and what goes for it.

    Only idle models go, longest idle first, and only as many as needed. With nothing left that could go a model is always
    tried: the estimate may be wrong, and the engine's own error is better than a refusal. But a context that was asked for, and
    whose caches are larger than memory, is refused: the kernel would end whatever it likes.
    """
    known = measured or {}
    idle = sorted((m for m in loaded if not m.leases and not m.pinned), key=lambda m: m.idle_since)

    def found(evict: Sequence[Loaded]) -> Plan | None:
        if rules.most_models and len(loaded) - len(evict) >= rules.most_models:
            return None
        room = _after(free, evict)
        made = plan(shape, wish, free=room, devices=devices, rules=rules, measured=known)
        return made if _fits(made.need, room) else None

    for count in range(len(idle) + 1):
        evict = idle[:count]
        if (fitting := found(evict)) is None:
            continue
        for spared in reversed(evict):  # who was used last is worth most
            rest = [model for model in evict if model is not spared]
            if (other := found(rest)) is not None:
                evict, fitting = rest, other
        return Load(fitting, tuple(model.key for model in evict))
    if any(model.leases and not model.pinned for model in loaded):
        return Wait()
    room = _after(free, idle)
    last = plan(shape, wish, free=room, devices=devices, rules=rules, measured=known)
    if rules.most_models and len(loaded) - len(idle) >= rules.most_models:
        return Refuse(last.need_bytes, room.get(CPU, 0), by_count=True)
    if wish.context is not None and last.fixed_bytes > room.get(CPU, 0):
        return Refuse(last.fixed_bytes, room.get(CPU, 0))
    return Load(last, tuple(model.key for model in idle))


def plan(
    shape: Shape,
    wish: Wish,
    *,
    free: Bytes,
    devices: Sequence[Device] = (),
    rules: Rules = Rules(),
    measured: Mapping[str, Bytes] | None = None,
) -> Plan:
    """The largest useful plan that fits into ``free``; if none does, the smallest, with most of it on the processor."""
    best: Plan | None = None
    for names, layers in _places(shape, wish, free, devices, rules):
        room = {**free, **{name: max(0, free.get(name, 0) - rules.device_reserve_bytes) for name in names}}
        tried = _with_need(_preferred(shape, wish, names, layers, room), shape, wish, room, measured)
        while not _fits(tried.need, room) and (step := _fewer_tokens(tried, shape, wish)) is not None:
            tried = _with_need(step, shape, wish, room, measured)
        if _fits(tried.need, room):
            return tried
        best = tried
    assert best is not None, "the processor is always a place"
    return best


def smaller(made: Plan, shape: Shape, wish: Wish, rules: Rules, free: Bytes) -> Plan | None:
    """What to try after memory ran out with ``made``: the pool shrinks first, then what nobody asked for, one step at a time.

    ``None`` when everything that may be given up has been.
    """
    step = _fewer_tokens(made, shape, wish)
    if step is not None:
        what = "pool" if step.context == made.context else "context"
        before, after = (made.pool_tokens, step.pool_tokens) if what == "pool" else (made.context, step.context)
        text = f"{what} {before} to {after} tokens"
    elif rules.small_cache_type and rules.small_cache_type != made.cache_type:
        step = replace(made, cache_type=rules.small_cache_type)
        text = f"cache {made.cache_type} to {step.cache_type}"
    elif made.gpu_layers and wish.gpu_layers is None:
        layers = 0 if made.gpu_layers <= 2 else made.gpu_layers // 2
        if not layers and not rules.processor_instead:
            return None
        step = replace(made, gpu_layers=layers, devices=made.devices if layers else ())
        text = f"layers on {'+'.join(made.devices)} {made.gpu_layers} to {layers}"
    else:
        return None
    return _with_need(replace(step, lowered=(*made.lowered, text)), shape, wish, free, None)


def _fewer_tokens(made: Plan, shape: Shape, wish: Wish) -> Plan | None:
    """One step less of what requests share, then of what one may have if nobody asked for it."""
    if made.pool_tokens > made.context:
        return _sized(made, made.context, max(made.context, made.pool_tokens // 2), wish)
    if wish.context is None and made.context > min(SHORTEST_DEFAULT, _trained(shape)):
        context = max(min(SHORTEST_DEFAULT, _trained(shape)), made.context // 2)
        return _sized(made, context, context, wish)
    return None


def _sized(made: Plan, context: int, pool_tokens: int, wish: Wish) -> Plan:
    slots = wish.slots or max(
        1, min(MOST_SLOTS, pool_tokens // (min(SLOT_TOKENS, context) if wish.shares_pool else context))
    )
    if not wish.shares_pool:
        slots = max(1, min(slots, pool_tokens // context))
        pool_tokens = context * slots
    return replace(made, context=context, pool_tokens=pool_tokens, slots=slots)


def _preferred(shape: Shape, wish: Wish, names: tuple[str, ...], layers: int, room: Bytes) -> Plan:
    """As much context and pool as is useful, and as a share of the memory that the weights leave allows."""
    empty = Plan(0, wish.slots or 1, 0, wish.cache_type, layers, names)
    weights = _with_need(empty, shape, wish, room, None).need
    left = sum(max(0, room.get(name, 0) - weights[name]) for name in names or (CPU,))
    budget = int(left * _CACHE_SHARE[not names])
    token_bytes = shape.memory.token_bytes(wish.cache_type)
    affordable = budget // token_bytes if token_bytes else 1 << 40
    trained = _trained(shape)
    if wish.context is not None:
        context = min(wish.context, trained)
    else:
        context = min(LONGEST_DEFAULT, trained)
        while context > affordable and context > SHORTEST_DEFAULT:
            context = max(SHORTEST_DEFAULT, context // 2)
    most = context * (wish.slots or MOST_SLOTS)
    if not wish.slots:
        most = min(most, max(context, MOST_POOL))
    return _sized(empty, context, max(context, min(most, affordable)), wish)


def _places(
    shape: Shape, wish: Wish, free: Bytes, devices: Sequence[Device], rules: Rules
) -> list[tuple[tuple[str, ...], int]]:
    """Devices and layers to try, the best first: one device, all, as many layers as fit, the processor."""
    everything = shape.memory.layers + 1  # the last is the output
    if wish.gpu_layers == 0 or not devices:
        return [((), 0)]
    ranked = sorted(devices, key=lambda device: (device.shared, -free.get(device.name, 0)))
    if wish.main_gpu is not None:
        ranked = [device for device in devices if device.index == wish.main_gpu] or ranked
    singles = [(device.name,) for device in ranked]
    group = tuple(device.name for device in devices)
    sets = [group] if rules.spread and wish.main_gpu is None else singles
    if len(devices) > 1 and wish.main_gpu is None and group not in sets:
        sets = [*sets, group]
    if wish.gpu_layers is not None:
        return [(names, min(wish.gpu_layers, everything)) for names in sets]
    partly = sets[-1]
    layers = _layers_that_fit(shape, wish, partly, free, rules)
    found = [(names, everything) for names in sets]
    if 0 < layers < everything:
        found.append((partly, layers))
    return [*found, ((), 0)] if rules.processor_instead or not layers else found


def _layers_that_fit(shape: Shape, wish: Wish, names: tuple[str, ...], free: Bytes, rules: Rules) -> int:
    context = min(wish.context or SHORTEST_DEFAULT, _trained(shape))
    room = {name: max(0, free.get(name, 0) - rules.device_reserve_bytes) for name in names}
    for layers in range(shape.memory.layers, 0, -1):
        tried = Plan(context, wish.slots or 1, context, wish.cache_type, layers, names)
        need = _with_need(tried, shape, wish, {**free, **room}, None).need
        if all(need[name] <= room[name] for name in names):
            return layers
    return 0


def _with_need(made: Plan, shape: Shape, wish: Wish, room: Bytes, measured: Mapping[str, Bytes] | None) -> Plan:
    """``made`` with the memory it takes: as it was measured, else as it is estimated. Devices share by what is free on them."""
    memory, batch = shape.memory, wish.batch or _BATCH
    pool = made.pool_tokens
    cache = memory.cache_bytes(made.cache_type, pool_tokens=pool, slots=made.slots, batch=batch) if pool else 0
    # Activations of a batch, and its mask over a context.
    compute = batch * (memory.buffer_values * 4 + made.context * 2)
    on_device = min(made.gpu_layers, memory.layers) / memory.layers if memory.layers else 0.0
    rest = max(0, shape.weights_bytes - memory.layer_bytes)
    moved = int(memory.layer_bytes * on_device) + (rest if made.gpu_layers > memory.layers else 0)
    moved_cache = int(cache * on_device)
    fixed = cache - moved_cache + OVERHEAD_BYTES + (0 if on_device == 1 else compute)
    projector_moves = made.gpu_layers > 0
    need = {CPU: shape.weights_bytes - moved + fixed + (0 if projector_moves else shape.projector_bytes)}
    total = sum(room.get(name, 0) for name in made.devices)
    for position, name in enumerate(made.devices):
        part = room.get(name, 0) / total if total else 1 / len(made.devices)
        need[name] = int((moved + moved_cache) * part) + compute + OVERHEAD_BYTES
        if position == 0 and projector_moves:
            need[name] += shape.projector_bytes
    if measured and (known := measured.get(made.key)):
        need = {name: known.get(name, 0) for name in need}
    return replace(made, need=need, fixed_bytes=fixed)


def _trained(shape: Shape) -> int:
    return shape.trained_context or _UNKNOWN_CONTEXT


def _after(free: Bytes, gone: Sequence[Loaded]) -> dict[str, int]:
    return {name: size + sum(model.need.get(name, 0) for model in gone) for name, size in free.items()}


def _fits(need: Bytes, free: Bytes) -> bool:
    return all(size <= free.get(name, 0) for name, size in need.items())
