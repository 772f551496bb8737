from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import pytest

from corral.gguf import MemoryShape
from corral.hardware import Device
from corral.runtime.placement import (
    CPU,
    LONGEST_DEFAULT,
    MOST_POOL,
    MOST_SLOTS,
    SHORTEST_DEFAULT,
    Load,
    Loaded,
    Refuse,
    Rules,
    Shape,
    Wait,
    Wish,
    place,
    plan,
    smaller,
)

GIB = 1 << 30
FOUR = {CPU: 4 * GIB}
IDLE_LONG, IDLE = Loaded("b", FOUR, 0, 5.0), Loaded("a", FOUR, 0, 10.0)
BUSY_A, BUSY_B = Loaded("a", FOUR, 1, 0.0), Loaded("b", FOUR, 1, 0.0)
PINNED = Loaded("a", FOUR, 0, 0.0, pinned=True)
# 4 GiB of weights in 32 layers, 128 KiB of cache per token in f16.
LARGE = Shape(MemoryShape(32, 65_536, 0, 0, 0, 100_000, 4 * GIB, 4 * GIB - (GIB >> 2)), 4 * GIB, 0, 131_072)
SMALL = Shape(MemoryShape(8, 2048, 0, 0, 0, 5000, GIB >> 4, GIB >> 4), GIB >> 4, 0, 2048)
ONE = Device("CUDA0", "", 0, 24 * GIB, 24 * GIB)
TWO = (ONE, Device("CUDA1", "", 1, 24 * GIB, 24 * GIB))


@pytest.mark.parametrize(
    ("loaded", "free", "most", "expected"),
    [
        pytest.param([], 8, 0, (), id="room"),
        pytest.param([IDLE, IDLE_LONG], 2, 0, ("b",), id="the longest idle goes"),
        pytest.param([BUSY_A, replace(IDLE, key="c")], 2, 0, ("c",), id="a busy one stays"),
        pytest.param([PINNED, replace(IDLE, key="c")], 2, 0, ("c",), id="a pinned one stays"),
        pytest.param([BUSY_A, BUSY_B], 0, 0, Wait, id="all busy"),
        pytest.param([BUSY_A], 8, 1, Wait, id="the limit holds for busy ones"),
        pytest.param([PINNED], 8, 1, Refuse, id="the limit holds for pinned ones"),
        pytest.param([IDLE], 8, 1, ("a",), id="the limit evicts"),
        pytest.param([IDLE, IDLE_LONG], 6, 0, (), id="no more than needed"),
        pytest.param([replace(IDLE_LONG, need={CPU: GIB >> 8}), IDLE], 2, 0, ("a",), id="none in vain"),
        pytest.param([], 0, 0, (), id="alone it is tried"),
    ],
)
def test_placing_a_model_of_four_gib(loaded: list[Loaded], free: int, most: int, expected: object) -> None:
    found = place(LARGE, Wish(), loaded, free={CPU: free * GIB}, rules=Rules(most_models=most))
    assert (found.evict if isinstance(found, Load) else type(found)) == expected


def test_a_context_that_was_asked_for_is_given_up_to_what_was_trained() -> None:
    assert plan(SMALL, Wish(context=128), free={CPU: 8 * GIB}).context == 128
    assert plan(SMALL, Wish(context=9999), free={CPU: 8 * GIB}).context == 2048


def test_the_default_context_is_what_fits_and_not_all_that_was_trained() -> None:
    contexts = [plan(LARGE, Wish(), free={CPU: free * GIB}).context for free in (5, 9, 16, 64, 1024)]
    assert contexts == [4096, 8192, 16384, LONGEST_DEFAULT, LONGEST_DEFAULT]


def test_the_pool_is_shared_so_it_may_be_less_than_all_slots_full_but_never_less_than_one() -> None:
    for free in range(4, 64):
        made = plan(LARGE, Wish(), free={CPU: free * GIB})
        assert made.context <= made.pool_tokens <= max(MOST_POOL, made.context)
        assert made.slots >= 1 <= MOST_SLOTS
    assert plan(LARGE, Wish(), free={CPU: 12 * GIB}).pool_tokens < 8 * 8192


def test_texts_that_are_embedded_do_not_share_a_pool() -> None:
    made = plan(LARGE, Wish(context=4096, shares_pool=False), free={CPU: 12 * GIB})
    assert made.pool_tokens == made.slots * made.context
    assert 1 < made.slots < MOST_SLOTS


def test_the_users_number_of_slots_wins() -> None:
    assert plan(SMALL, Wish(slots=3), free={CPU: 8 * GIB}).slots == 3
    assert plan(LARGE, Wish(slots=64), free={CPU: 8 * GIB}).slots == 64


def test_what_was_measured_replaces_the_estimate() -> None:
    made = plan(SMALL, Wish(), free={CPU: 8 * GIB})
    measured = {made.key: {CPU: made.need[CPU] + 7}}
    assert plan(SMALL, Wish(), free={CPU: 8 * GIB}, measured=measured).need[CPU] == made.need[CPU] + 7
    measured = {made.key: {CPU: 9 * GIB}}
    assert plan(SMALL, Wish(), free={CPU: 8 * GIB}, measured=measured).pool_tokens < made.pool_tokens


def test_a_context_whose_caches_are_larger_than_memory_is_refused_with_numbers() -> None:
    found = place(LARGE, Wish(context=131_072), [IDLE], free={CPU: 4 * GIB})
    assert isinstance(found, Refuse)
    assert found.free_bytes == 8 * GIB
    assert found.need_bytes > 16 * GIB
    assert isinstance(place(LARGE, Wish(), [], free={CPU: 2 * GIB}), Load)


def test_one_device_with_room_is_enough_and_more_are_used_where_it_is_not() -> None:
    free = {CPU: 64 * GIB, "CUDA0": 10 * GIB, "CUDA1": 20 * GIB}
    alone = plan(LARGE, Wish(), free=free, devices=TWO)
    assert (alone.devices, alone.gpu_layers) == (("CUDA1",), 33)
    assert plan(LARGE, Wish(), free=free, devices=TWO, rules=Rules(spread=True)).devices == ("CUDA0", "CUDA1")
    assert plan(LARGE, Wish(main_gpu=0), free=free, devices=TWO).devices == ("CUDA0",)
    tight = {CPU: 64 * GIB, "CUDA0": 3 * GIB, "CUDA1": 4 * GIB}
    split = plan(LARGE, Wish(), free=tight, devices=TWO)
    assert (split.devices, split.gpu_layers) == (("CUDA0", "CUDA1"), 33)
    assert split.need["CUDA0"] < split.need["CUDA1"]


def test_a_model_that_is_too_large_for_a_device_has_some_of_its_layers_there() -> None:
    made = plan(LARGE, Wish(), free={CPU: 64 * GIB, "CUDA0": 3 * GIB}, devices=(ONE,))
    assert 0 < made.gpu_layers < 32
    assert made.need["CUDA0"] <= 3 * GIB
    nowhere = {CPU: 64 * GIB, "CUDA0": GIB >> 4}
    assert plan(LARGE, Wish(), free=nowhere, devices=(ONE,)).gpu_layers == 0
    reserved = Rules(device_reserve_bytes=22 * GIB)
    assert (
        0 < plan(LARGE, Wish(), free={CPU: 64 * GIB, "CUDA0": 24 * GIB}, devices=(ONE,), rules=reserved).gpu_layers < 32
    )


def test_the_layers_that_were_asked_for_are_kept() -> None:
    free = {CPU: 64 * GIB, "CUDA0": 3 * GIB}
    for layers in (0, 7, 33):
        assert plan(LARGE, Wish(gpu_layers=layers), free=free, devices=(ONE,)).gpu_layers == layers


def test_after_memory_ran_out_the_pool_shrinks_first_then_what_nobody_asked_for() -> None:
    free = {CPU: 64 * GIB, "CUDA0": 24 * GIB}
    rules = Rules(small_cache_type="q8_0")
    made = plan(LARGE, Wish(), free=free, devices=(ONE,))
    steps = [made]
    while (step := smaller(steps[-1], LARGE, Wish(), rules, free)) is not None:
        steps.append(step)
    words = [text.split()[0] for text in steps[-1].lowered]
    assert words == sorted(words, key=["pool", "context", "cache", "layers"].index)
    assert set(words) == {"pool", "context", "cache", "layers"}
    assert (steps[-1].context, steps[-1].gpu_layers, steps[-1].devices) == (SHORTEST_DEFAULT, 0, ())
    assert all(after.need["CUDA0"] <= before.need["CUDA0"] for before, after in pairwise(steps[:-1]))


def test_what_was_asked_for_is_not_given_up() -> None:
    free = {CPU: 64 * GIB, "CUDA0": 24 * GIB}
    wish = Wish(context=65_536, gpu_layers=33, slots=2)
    made = plan(LARGE, wish, free=free, devices=(ONE,))
    while (step := smaller(made, LARGE, wish, Rules(), free)) is not None:
        made = step
    assert (made.context, made.gpu_layers, made.slots, made.cache_type) == (65_536, 33, 2, "f16")
    kept = Rules(processor_instead=False)
    made = plan(LARGE, Wish(), free=free, devices=(ONE,))
    while (step := smaller(made, LARGE, Wish(), kept, free)) is not None:
        made = step
    assert made.gpu_layers > 0


def any_shape(dice: random.Random) -> Shape:
    layers = dice.randrange(1, 80)
    weights = dice.randrange(1 << 20, 80 * GIB)
    memory = MemoryShape(
        layers,
        dice.choice([0, 128, 4096, 65_536, 500_000]),
        dice.choice([0, 4096, 65_536]),
        dice.choice([32, 1024, 8192]),
        dice.choice([0, 0, 1 << 20]),
        dice.randrange(1000, 300_000),
        weights,
        int(weights * dice.random()),
    )
    return Shape(memory, weights, dice.choice([0, 0, GIB]), dice.choice([0, 512, 8192, 131_072, 1 << 20]))


@pytest.mark.parametrize("seed", range(300))
def test_whatever_the_fleet_a_placement_keeps_its_promises(seed: int) -> None:
    dice = random.Random(seed)
    shape = any_shape(dice)
    devices = tuple(Device(f"CUDA{n}", "", n, 80 * GIB, 80 * GIB) for n in range(dice.choice([0, 0, 1, 2, 4])))
    names = (CPU, *(device.name for device in devices))
    free = {name: dice.randrange(0, 80 * GIB) for name in names}
    loaded = [
        Loaded(
            str(n),
            {name: dice.randrange(0, 10 * GIB) for name in dice.sample(names, dice.randrange(1, len(names) + 1))},
            dice.choice([0, 0, 0, 1, 5]),
            dice.random(),
            dice.random() < 0.2,
        )
        for n in range(dice.randrange(6))
    ]
    rules = Rules(dice.choice([0, 0, 1, 3]), dice.random() < 0.3, dice.choice([0, GIB]), None, dice.random() < 0.8)
    wish = Wish(
        dice.choice([None, None, 4, 8192, 1 << 20]),
        dice.choice([0, 0, 1, 16]),
        dice.choice(["f16", "q8_0", "q4_0"]),
        None,
        dice.choice([None, None, 0, 5, 99]),
        dice.choice([None, None, 0, 3]),
        dice.random() < 0.8,
    )
    by_key = {model.key: model for model in loaded}
    found = place(shape, wish, loaded, free=free, devices=devices, rules=rules)
    if isinstance(found, Wait):
        assert any(model.leases and not model.pinned for model in loaded), "nobody will ever wake it"
        return
    if isinstance(found, Refuse):
        assert found.by_count or wish.context is not None
        assert all(model.pinned for model in loaded if model.leases)
        return
    made, evicted = found.plan, [by_key[key] for key in found.evict]
    assert not [model for model in evicted if model.leases or model.pinned]
    room = {name: size + sum(model.need.get(name, 0) for model in evicted) for name, size in free.items()}
    fits = all(size <= room[name] for name, size in made.need.items())
    stayed = len(loaded) - len(evicted)
    assert not rules.most_models or stayed < rules.most_models
    evictable = [model for model in loaded if not model.leases and not model.pinned]
    assert fits or len(evicted) == len(evictable), "it was tried although more could have gone"
    if fits:
        for spared in evicted:
            rest = [model for model in loaded if model not in evicted or model is spared]
            less = {name: size - spared.need.get(name, 0) for name, size in room.items()}
            again = place(shape, wish, rest, free=less, devices=devices, rules=rules)
            assert not isinstance(again, Load) or again.evict, "one of them went in vain"
    assert made.slots >= 1
    assert not wish.slots or made.slots == wish.slots or not wish.shares_pool
    assert made.context <= (shape.trained_context or 8192)
    assert wish.context is None or made.context == min(wish.context, shape.trained_context or 8192)
    assert made.pool_tokens >= made.context
    assert bool(made.devices) == bool(made.gpu_layers)
    assert wish.gpu_layers is None or not devices or made.gpu_layers == min(wish.gpu_layers, shape.memory.layers + 1)
