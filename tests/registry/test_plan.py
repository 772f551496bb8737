"""The plan of a download: every piece is given out, whatever becomes of those who took it."""

from __future__ import annotations

import random

import pytest

from corral.registry.plan import Claim, Plan


@pytest.mark.parametrize("seed", range(40))
def test_every_piece_is_fetched_whatever_happens_to_the_claims(seed: int) -> None:
    dice = random.Random(seed)
    num_pieces, done = dice.randrange(1, 300), set[int]()
    done |= {piece for piece in range(num_pieces) if dice.random() < 0.2}
    plan, claims, now = Plan(num_pieces, done.__contains__), list[Claim](), 0.0
    for _ in range(20_000):
        now += dice.random()
        action = dice.random()
        if action < 0.2 and len(claims) < 6 and (claim := plan.take(now)) is not None:
            claims.append(claim)
        elif claims and action < 0.9:
            claim = dice.choice(claims)
            if claim.next < claim.end:
                done.add(claim.next)
                plan.fetched(claim, now)
            else:
                claims.remove(claim)
                plan.release(claim, now)
        elif claims and action < 0.95:
            claim = claims.pop(dice.randrange(len(claims)))
            plan.release(claim, now)
        elif done and action < 0.955 and len(done) < num_pieces:
            piece = dice.choice(sorted(done))
            done.remove(piece)
            plan.lost(piece)
        elif claims and action < 0.957:
            claim = dice.choice(claims)
            plan.take_all(claim)
        if len(done) == num_pieces:
            break
    assert len(done) == num_pieces


def test_pieces_are_given_out_from_the_beginning() -> None:
    plan = Plan(100, lambda piece: False)
    first, second = plan.take(0), plan.take(0)
    assert first is not None
    assert second is not None
    assert (first.next, second.next) == (0, first.end)


def test_who_has_nothing_to_do_takes_half_of_the_longest_rest() -> None:
    plan = Plan(8, lambda piece: False)
    first = plan.take(0)
    assert first is not None
    assert first.end == 8
    assert plan.take(0.1) is None  # it may be done in no time
    second = plan.take(2)
    assert second is not None
    assert (first.end, second.next, second.end) == (4, 4, 8)


def test_a_piece_that_somebody_is_stuck_with_is_fetched_twice_and_not_at_once() -> None:
    plan = Plan(1, lambda piece: False)
    first = plan.take(0)
    assert first is not None
    assert plan.take(1) is None
    second = plan.take(10)
    assert second is not None
    assert second.next == 0


def test_a_piece_of_which_a_byte_comes_now_and_then_is_fetched_by_another_too() -> None:
    plan = Plan(2, lambda piece: False)
    first = plan.take(0)
    assert first is not None
    plan.fetched(first, 0.5)
    for now in range(1, 10):
        first.touched = now
        assert plan.take(now) is None
    first.touched = 11
    second = plan.take(11)
    assert second is not None
    assert second.next == 1
    assert plan.take(11) is None


def test_where_every_piece_takes_long_none_is_fetched_twice() -> None:
    plan = Plan(2, lambda piece: False)
    first = plan.take(0)
    assert first is not None
    plan.fetched(first, 30)
    first.touched = 60
    assert plan.take(60) is None
