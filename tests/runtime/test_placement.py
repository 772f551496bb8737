from __future__ import annotations

import pytest

from corral.runtime.placement import Load, Loaded, Plan, Shape, Wait, place, plan

GIB = 1 << 30
IDLE_LONG, IDLE = Loaded("b", 4 * GIB, 0, 5.0), Loaded("a", 4 * GIB, 0, 10.0)
BUSY_A, BUSY_B = Loaded("a", 4 * GIB, 1, 0.0), Loaded("b", 4 * GIB, 1, 0.0)


@pytest.mark.parametrize(
    ("loaded", "free", "most", "expected"),
    [
        pytest.param([], 8 * GIB, 0, Load(()), id="room"),
        pytest.param([IDLE, IDLE_LONG], 0, 0, Load(("b",)), id="the longest idle goes"),
        pytest.param([BUSY_A, IDLE], 0, 0, Load(("a",)), id="a busy one stays"),
        pytest.param([BUSY_A, BUSY_B], 0, 0, Wait(), id="all busy"),
        pytest.param([BUSY_A], 8 * GIB, 1, Wait(), id="the limit holds for busy ones"),
        pytest.param([IDLE], 8 * GIB, 1, Load(("a",)), id="the limit evicts"),
        pytest.param([IDLE, IDLE_LONG], 4 * GIB, 0, Load(()), id="no more than needed"),
        pytest.param([], 0, 0, Load(()), id="alone it is tried"),
    ],
)
def test_placing_a_model_of_four_gib(loaded: list[Loaded], free: int, most: int, expected: object) -> None:
    assert place(4 * GIB, loaded, free_bytes=free, most_models=most) == expected


def test_a_context_that_was_asked_for_is_given_up_to_what_was_trained() -> None:
    shape = Shape(GIB, 1024, 2048)
    assert plan(shape, context=128, slots=1, free_bytes=8 * GIB).context == 128
    assert plan(shape, context=9999, slots=1, free_bytes=8 * GIB).context == 2048


def test_slots_follow_from_memory_and_there_is_always_one() -> None:
    shape = Shape(4 * GIB, 128 << 10, 131072)
    assert plan(shape, context=None, slots=0, free_bytes=16 * GIB) == Plan(8192, 4, 8 * GIB + (64 << 20))
    assert plan(shape, context=None, slots=0, free_bytes=2 * GIB).context == 4096
    assert plan(shape, context=None, slots=0, free_bytes=0).slots == 1


def test_the_users_number_of_slots_wins() -> None:
    assert plan(Shape(GIB, 1024, 2048), context=None, slots=3, free_bytes=8 * GIB).slots == 3
