"""The rules of admission: tables of single decisions, and properties of thousands of random arrivals in a simulated engine."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from corral.runtime.scheduling.policy import (
    AGEING_TOKENS_PER_S,
    BACKGROUND_PATIENCE_S,
    PATIENCE_S,
    READ_TOGETHER,
    Ask,
    Policy,
)


def ask(prompt: int, answer: int = 100, at: float = 0.0, **more: bool) -> Ask:
    return Ask(prompt, answer, prompt, at, **more)


def filled(policy: Policy, *asks: Ask) -> Policy:
    for one in asks:
        policy.enter(one)
    return policy


def run(policy: Policy, now_s: float = 0.0) -> list[Ask]:
    """Let in one after the other, each read at once."""
    admitted: list[Ask] = []
    while some := policy.admit(now_s):
        for one in some:
            policy.has_read(one)
        admitted += some
    return admitted


def test_an_ask_holds_its_prompt_and_all_that_it_may_generate() -> None:
    policy = filled(Policy(1000, 4), ask(300, 200))
    run(policy)
    assert policy.free == 500


def test_the_shortest_prompt_goes_first() -> None:
    long, short, middle = ask(900), ask(100), ask(500)
    assert run(filled(Policy(10_000, 4), long, short, middle)) == [short, middle, long]


def test_a_prompt_that_has_waited_goes_before_one_that_is_shorter_by_less() -> None:
    old, young = ask(900, at=0), ask(500, at=1 + 400 / AGEING_TOKENS_PER_S)
    assert run(filled(Policy(10_000, 4), young, old), 3.0) == [old, young]


def test_one_prompt_is_read_at_a_time() -> None:
    first, second = ask(500), ask(600)
    policy = filled(Policy(10_000, 4), first, second)
    assert policy.admit(0) == [first]
    assert policy.admit(0) == []
    policy.has_read(first)
    assert policy.admit(0) == [second]


def test_very_short_prompts_are_read_together() -> None:
    asks = [ask(READ_TOGETHER // 4, at=n) for n in range(6)]
    assert Policy.admit(filled(Policy(10_000, 8), *asks), 0) == asks[:4]


def test_no_more_run_than_there_are_slots() -> None:
    policy = filled(Policy(10_000, 2), *(ask(n) for n in (100, 200, 300)))
    assert len(run(policy)) == 2
    assert policy.position(policy.waiting[0]) == 1


def test_one_that_fits_passes_one_that_does_not_fit_yet() -> None:
    running, large, small = ask(100, 500), ask(500), ask(600, 50, at=0.5)
    policy = filled(Policy(1250, 4), running)
    run(policy)
    assert run(filled(policy, ask(600, 500, at=0.1), small), 1.0) == [small]
    assert large.phase == "waiting"


def test_nobody_passes_one_that_has_waited_long() -> None:
    policy = filled(Policy(1000, 4), ask(100, 500))
    run(policy)
    large, small = ask(500, 400, at=0), ask(1000 - 600 - 100, 50, at=PATIENCE_S)
    assert run(filled(policy, large, small), PATIENCE_S) == []
    assert policy.position(large) == 1


def test_background_begins_only_when_nobody_else_waits() -> None:
    work, live = ask(10, background=True), ask(500, at=5)
    policy = filled(Policy(10_000, 4), work, live)
    assert policy.admit(5) == [live]
    policy.has_read(live)
    assert policy.admit(5) == [work]


def test_who_follows_waits_for_its_leader() -> None:
    leader, follower = ask(1000), ask(1040)
    follower.after, follower.to_read = leader, 40
    policy = filled(Policy(10_000, 4), follower, leader)
    assert policy.admit(0) == [leader]
    policy.leave(leader)
    policy.sweep()
    assert policy.admit(0) == [follower]


def test_a_much_shorter_prompt_interrupts_a_long_one_which_goes_on_when_it_has_ended() -> None:
    long, short = ask(4000, interruptible=True), ask(200, at=1)
    policy = filled(Policy(10_000, 4), long)
    policy.admit(0)
    policy.enter(short)
    assert policy.interrupted() is long
    assert policy.admit(1) == [short]
    assert policy.free == 10_000 - 4100 - 300  # the engine still works on the long one
    policy.has_read(short)
    assert policy.admit(1) == []
    policy.sweep()
    assert policy.admit(1) == [long]


@pytest.mark.parametrize(
    ("reader", "newcomer"),
    [
        pytest.param(ask(4000), ask(200, at=1), id="it may not be interrupted"),
        pytest.param(ask(700, interruptible=True), ask(200, at=1), id="the other is not much shorter"),
        pytest.param(ask(4000, interruptible=True), ask(200, at=1 + 3900 / AGEING_TOKENS_PER_S), id="it is old"),
    ],
)
def test_a_prompt_is_not_interrupted_when(reader: Ask, newcomer: Ask) -> None:
    policy = filled(Policy(10_000, 4), reader)
    policy.admit(0)
    policy.enter(newcomer)
    assert policy.interrupted() is None


def test_an_open_ended_answer_begins_with_a_share_and_grows() -> None:
    one = ask(100, 5000, open_ended=True)
    policy = filled(Policy(6000, 4, share=200), one)
    run(policy)
    assert one.held == 300
    assert policy.grow(one, 150).granted
    assert one.held == 300  # half a share is left
    assert policy.grow(one, 201).granted
    assert one.held == 500


def test_the_youngest_is_paused_when_the_pool_is_full() -> None:
    old, young = ask(100, 800, at=0, open_ended=True), ask(100, 800, at=1, open_ended=True)
    policy = filled(Policy(900, 4, share=300), old, young)
    run(policy, 2)
    assert policy.free == 100
    growth = policy.grow(old, 390)
    assert growth.granted
    assert growth.paused == (young,)
    assert young in policy.waiting


def test_the_youngest_pauses_itself_for_its_elders() -> None:
    old, young = ask(100, 800, at=0, open_ended=True), ask(100, 800, at=1, open_ended=True)
    policy = filled(Policy(900, 4, share=300), old, young)
    run(policy, 2)
    growth = policy.grow(young, 390)
    assert not growth.granted
    assert growth.paused == (young,)
    assert (young.prompt, young.answer) == (390, 510)  # what it said is part of its prompt now


def test_an_open_ended_answer_begins_in_what_a_reservation_does_not_use_yet() -> None:
    sure, other = ask(100, 900, lends=True), ask(100, 800, at=1, open_ended=True)
    policy = filled(Policy(1000, 4, share=200), sure, other)
    assert run(policy, 1) == [sure, other]
    assert (sure.held, sure.reserved, other.held) == (300, 1000, 300)


def test_who_has_a_reservation_gets_it_from_those_who_had_it_in_the_meantime() -> None:
    sure, other = ask(100, 900, at=1, lends=True), ask(100, 800, at=0, open_ended=True)
    policy = filled(Policy(1000, 4, share=200), sure, other)
    run(policy, 1)
    paused: list[Ask] = []
    for used in range(101, 1000):
        growth = policy.grow(sure, used)
        assert growth.granted
        paused += growth.paused
        policy.sweep()
        assert used + 100 <= sure.held or sure.held == 1000
    assert paused == [other]  # although it is the elder


def test_what_is_reserved_is_reserved_for_one_however_little_of_it_is_in_use() -> None:
    first, second = ask(100, 900, lends=True), ask(100, 500, at=1, lends=True)
    policy = filled(Policy(1500, 4, share=100), first, second)
    assert run(policy, 1) == [first]
    policy.leave(first)
    assert run(policy, 2) == [second]


def test_a_reservation_is_made_over_answers_that_can_be_paused() -> None:
    others = [ask(100, 800, at=number, open_ended=True) for number in (0, 1)]
    policy = filled(Policy(1000, 4, share=200), *others)
    run(policy, 1)
    sure = ask(100, 900, at=2, lends=True)
    assert run(filled(policy, sure), 2) == [sure]


def test_nobody_is_read_for_so_long_that_a_reservation_outgrows_what_it_holds() -> None:
    """He cannot be paused in the meantime."""
    sure, long = ask(100, 9900, lends=True), ask(4000, 100, at=1, open_ended=True)
    policy = filled(Policy(10_000, 4, share=20, batch=100), sure)
    run(policy)
    policy.grow(sure, 101)
    assert run(filled(policy, long), 1) == [long]
    assert sure.held >= 101 + 10 + 40
    policy.leave(long)
    policy.sweep()
    sure.used, sure.held = 5930, 5945
    assert run(filled(policy, ask(4000, 60, at=2, open_ended=True)), 2) == []


def test_one_that_waits_for_another_reservation_to_end_holds_up_reservations_only() -> None:
    running, waits = ask(100, 900, lends=True), ask(100, 900, at=0, lends=True)
    policy = filled(Policy(1500, 4, share=100), running)
    run(policy)
    small, passes = ask(100, 50, at=PATIENCE_S, lends=True), ask(100, 800, at=PATIENCE_S, open_ended=True)
    assert run(filled(policy, waits, small, passes), PATIENCE_S) == [passes]


def test_a_reservation_that_begins_anew_begins_with_its_prompt() -> None:
    sure = ask(100, 900, lends=True)
    policy = filled(Policy(1000, 4, share=200), sure)
    run(policy)
    policy.grow(sure, 250)
    policy.put_back(sure)
    assert (sure.prompt, sure.answer, sure.to_read) == (100, 900, 100)


def test_who_is_in_the_background_is_paused_before_all_others() -> None:
    old = ask(100, 800, at=0, open_ended=True, background=True)
    young, grows = ask(100, 800, at=1, open_ended=True), ask(100, 800, at=2, open_ended=True)
    policy = filled(Policy(1250, 4, share=300), old, young, grows)
    run(policy, 2)
    growth = policy.grow(grows, 390)
    assert growth.granted
    assert growth.paused == (old,)


def test_under_constant_load_one_background_call_a_minute_begins() -> None:
    """Two live calls are always there, each of which takes a second of the one slot, and a background call takes ten."""
    policy = Policy(10_000, 1)
    work = [ask(50, background=True, at=number / 10) for number in range(20)]
    filled(policy, *work)
    begun: list[float] = []
    lives = 0
    busy_until = now = 0.0
    while now < 600:
        while sum(one not in work for one in policy.waiting) < 2:
            policy.enter(ask(50, at=now))
        for one in policy.admit(now):
            policy.has_read(one)
            in_background = one in work
            begun += [now] * in_background
            lives += not in_background
            busy_until = now + (10 if in_background else 1)
        now += 0.5
        if now >= busy_until:
            for one in list(policy.running):
                policy.leave(one, ended=True)
    apart = [later - earlier for earlier, later in pairwise(begun)]
    assert begun[0] >= BACKGROUND_PATIENCE_S
    assert min(apart) >= BACKGROUND_PATIENCE_S + 10
    assert max(apart) <= BACKGROUND_PATIENCE_S + 10 + 2
    assert lives > 450


def test_who_leads_one_that_has_waited_long_in_the_background_does_not_stay_there() -> None:
    leader, follower = ask(1000, background=True), ask(1040, background=True)
    follower.after = leader
    policy = filled(Policy(10_000, 4), follower, leader)
    leader.arrived_s = 1.0
    policy.enter(ask(500, at=BACKGROUND_PATIENCE_S))
    policy.admit(BACKGROUND_PATIENCE_S)
    assert not follower.background
    assert not leader.background


SAID_AT_MOST = 7  # tokens of an answer in a step of the simulation
READ = 100  # of a prompt


@dataclass
class Engine:
    """A simulated one: it reads what is let in a hundred tokens a step, then each answer grows a few tokens a step.

    What it says is heard of late, and who is paused goes on for a step.
    """

    policy: Policy
    rng: random.Random
    lengths: dict[Ask, int] = field(default_factory=dict)
    said: Counter[Ask] = field(default_factory=Counter)
    heard: Counter[Ask] = field(default_factory=Counter)
    read: Counter[Ask] = field(default_factory=Counter)
    begun: dict[Ask, float] = field(default_factory=dict)
    entered: dict[Ask, float] = field(default_factory=dict)
    total: dict[Ask, int] = field(default_factory=dict)
    ending: list[Ask] = field(default_factory=list)
    lent: int = 0  # steps in which more was reserved and held than there is

    def arrive(self, now: float) -> None:
        prompt = int(self.rng.paretovariate(0.7) * 20)
        prompt = min(prompt, 1500)
        answer = self.rng.randrange(1, 2048 - prompt)
        kind = self.rng.choice(("open_ended", "open_ended", "lends", ""))
        one = ask(
            prompt,
            answer,
            at=now,
            background=self.rng.random() < 0.1,
            interruptible=self.rng.random() < 0.7,
            **({kind: True} if kind else {}),
        )
        self.lengths[one] = self.rng.randrange(1, answer + 1)
        self.entered[one], self.total[one] = now, prompt
        self.policy.enter(one)

    def step(self, now: float) -> None:
        policy = self.policy
        while policy.interrupted() is not None:
            self.admit(now)
        self.admit(now)
        self.check(now)
        self.ending.clear()
        if self.rng.random() < 0.3:
            policy.sweep()
        for one in list(policy.running):
            if one not in policy.running:
                self.said[one] += one in self.ending  # paused by another
                continue
            if one.phase == "reading":
                self.read[one] += READ
                if self.read[one] >= one.to_read:
                    policy.has_read(one)
                    self.begun.setdefault(one, now)
                    self.read[one] = 0
            elif one.phase == "answering":
                self.said[one] += self.rng.randrange(1, SAID_AT_MOST + 1)
                if self.said[one] >= self.lengths[one]:
                    policy.leave(one, ended=True)
                elif one.open_ended or one.lends:
                    self.hear(one)
            if self.rng.random() < 0.0005 and one.phase != "remnant":
                self.ending += [one] * (one.phase == "answering")
                policy.leave(one)  # its client hung up

    def hear(self, one: Ask) -> None:
        """The engine is ahead of what is heard of it, by a quarter of a share at most."""
        unheard = self.said[one] - self.heard[one]
        if unheard + SAID_AT_MOST <= self.policy.share // 4 and self.rng.random() < 0.3:
            return
        self.heard[one] = self.said[one]
        self.ending += self.policy.grow(one, self.total[one] + self.said[one]).paused

    def admit(self, now: float) -> None:
        self.policy.admit(now)

    def in_use(self) -> int:
        """Tokens that the engine has really in use."""
        running = sum(
            self.total[one] + self.said[one] if one in self.total else one.prompt for one in self.policy.running
        )
        return running + sum(self.total[one] + self.said[one] for one in self.ending)

    def check(self, now: float) -> None:
        policy = self.policy
        assert policy.free >= 0, "more was given than there is"
        promised = sum(one.reserved for one in policy.running if one.phase != "remnant")
        assert promised <= policy.pool_tokens, "more was promised than there is"
        assert self.in_use() <= policy.pool_tokens, "the pool ran full"
        assert len(policy.running) <= policy.slots
        held = sum(one.held for one in policy.running if one.open_ended)
        self.lent += held > policy.unreserved
        for one in policy.running:
            if one.phase == "answering":
                assert self.total[one] + self.said[one] <= one.held, "an answer outgrew what it holds"
        reading = any(one.phase in ("reading", "remnant") for one in policy.running)
        if reading or len(policy.running) == policy.slots:
            return
        overdue = any(now - one.arrived_s >= PATIENCE_S for one in policy.waiting)
        live = any(not one.background for one in policy.waiting)
        for one in policy.waiting:
            first = min(one.most, one.prompt + policy.share) if one.open_ended or one.lends else one.most
            ready = one.after is None or one.after.phase == "gone"
            ahead = policy.share // 2 + one.prompt // policy.batch + 4
            owed = sum(
                max(0, min(other.most, max(other.used, other.prompt) + ahead) - other.held)
                for other in policy.running
                if other.lends
            )
            kept = not one.open_ended and one.most > policy.unreserved
            if ready and not overdue and not (one.background and live):
                assert kept or first + owed > policy.free, "somebody waits for nothing"
        assert policy.running or not any(one.after is None or one.after.phase == "gone" for one in policy.waiting)


@pytest.mark.parametrize("seed", range(8))
def test_thousands_of_arrivals_never_overbook_and_nobody_starves(seed: int) -> None:
    rng = random.Random(seed)
    pool, slots, share = rng.choice((2048, 4096, 10_000)), rng.choice((2, 4, 8)), rng.choice((64, 200, 512))
    policy = Policy(pool, slots, share, batch=READ // SAID_AT_MOST)
    engine = Engine(policy, rng)
    now, arrived = 0.0, 0
    while arrived < 600 or policy.waiting or policy.running:
        now += 0.05
        # Bursts, and pauses in which the queue gets shorter, so that waiting has an end.
        if arrived < 600 and len(policy.waiting) < 30 and rng.random() < 0.2:
            for _ in range(rng.randrange(1, 6)):
                engine.arrive(now)
                arrived += 1
        engine.step(now)
        assert now < 30_000, f"{len(policy.waiting)} wait for ever"
    assert policy.free == policy.pool_tokens
    live = [one for one in engine.begun if not one.background]
    longest = max(engine.begun[one] - engine.entered[one] for one in live)
    assert longest < 3000
    assert engine.lent or pool >= slots * 2048, "nothing was lent"


def test_under_a_flood_of_short_prompts_a_long_one_has_its_turn() -> None:
    policy, rng = Policy(100_000, 4), random.Random(1)
    long = ask(5000, 10, at=0, interruptible=True)
    policy.enter(long)
    now, read = 0.0, Counter[Ask]()
    while long.phase != "answering":
        now += 0.1
        policy.enter(ask(80 + rng.randrange(50), 5, at=now))
        while policy.interrupted() is not None:
            policy.admit(now)
        policy.admit(now)
        for one in list(policy.running):
            read[one] += 20  # more come than can be read
            if one.phase == "answering":
                policy.leave(one)
            elif one.phase == "reading" and read[one] >= one.to_read:
                policy.has_read(one)
        policy.sweep()
        assert now < 200
    assert now >= 5000 / AGEING_TOKENS_PER_S - 1
