"""Who is let in, who waits, who is paused. Pure decisions over one pool of tokens: no clock, no I/O, no tasks.

The engine fails all its sequences when its pool runs full, so every ask holds the tokens it may come to use:

    waiting ──► reading ──► answering ──► gone
       ▲           │            │
       └───────────┴────────────┘             (paused, or put back for a shorter prompt)

What is broken off goes on for a while before the engine notices, an answer for a token or two, a prompt for a second: a *remnant*
holds its slot and tokens until then.

An ask that is ``open_ended`` holds its prompt and a share, and more as it grows. Any other reserves all that it may need from the
start. If it ``lends``, it holds no more of that than an open-ended one would, and open-ended ones may have the rest until it
grows into it. When an ask must grow and nothing is free, the youngest of the open-ended ones is paused, those in the background
before all others; it may be the one that grows. No reservation is ever more than the pool has besides the others, so who has one
gets it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from corral.engine.base import CPU_BATCH

SHARE = 512  # tokens that an open-ended answer begins with, and grows by
AGEING_TOKENS_PER_S = 200.0  # a prompt that has waited a second goes before one that is as much shorter
PATIENCE_S = 10.0  # after it nobody passes an ask that does not fit yet
BACKGROUND_PATIENCE_S = 60.0  # after it one call in the background at a time is as good as any other
READ_TOGETHER = 64  # tokens of prompts that are read in one go rather than one after the other
_MORE_STEPS = 4  # than a prompt has batches: the engine reads the last few tokens by themselves
_MUCH_SHORTER = 4  # so many times shorter is a prompt that interrupts another


@dataclass(eq=False, slots=True)
class Ask:
    """One request: tokens of its prompt at most, and how many it may generate; ``to_read`` is about what is still to be computed
    of the prompt.

    ``interruptible`` says that reading may be broken off and begun again. ``after`` must be gone before this may be let in.
    Who ``lends`` is heard of token by token, so that `Policy.grow` can be told.
    """

    prompt: int
    answer: int
    to_read: int
    arrived_s: float
    open_ended: bool = False
    lends: bool = False
    background: bool = False
    interruptible: bool = False
    after: Ask | None = None
    phase: Literal["waiting", "reading", "answering", "remnant", "gone"] = "waiting"
    held: int = 0
    used: int = 0

    @property
    def most(self) -> int:
        """Tokens that it may ever need."""
        return self.prompt + self.answer

    @property
    def reserved(self) -> int:
        """Tokens that it is sure to get while it runs, whoever has them now."""
        if self.phase == "remnant":
            return self.held
        return 0 if self.open_ended else self.most

    @property
    def order(self) -> float:
        """Its place: shorter prompts first, but no prompt is passed for ever by shorter ones that come later."""
        return self.to_read + AGEING_TOKENS_PER_S * self.arrived_s


@dataclass(frozen=True, slots=True)
class Growth:
    """Whether the ask that grew has its tokens, and who must be paused at once."""

    granted: bool
    paused: tuple[Ask, ...] = ()


@dataclass(slots=True)
class Policy:
    """The state of one engine's pool, and the decisions on it. Times are seconds on any clock that never goes back.

    ``batch`` is how many tokens of prompts the engine reads in a step at least, while each answer gets one more.
    """

    pool_tokens: int
    slots: int
    share: int = SHARE
    batch: int = CPU_BATCH
    waiting: list[Ask] = field(default_factory=list)
    running: list[Ask] = field(default_factory=list)
    _promoted: Ask | None = None  # it came in the background and is one of the others now
    _promotes_at_s: float = 0.0

    @property
    def free(self) -> int:
        """Tokens that nobody holds. Some may be reserved."""
        return self.pool_tokens - sum(ask.held for ask in self.running)

    @property
    def unreserved(self) -> int:
        """Tokens that can still be reserved."""
        return self.pool_tokens - sum(ask.reserved for ask in self.running)

    def enter(self, ask: Ask) -> None:
        """``ask`` waits from now on. It must be able to fit: ``ask.most`` is no more than the pool."""
        assert ask.most <= self.pool_tokens, "an ask that can never fit would wait for ever"
        ask.phase = "waiting"
        self.waiting.append(ask)

    def leave(self, ask: Ask, *, ended: bool = False) -> None:
        """Nobody wants it any more; or it has ``ended``, and nothing of it remains."""
        if ask in self.waiting:
            self.waiting.remove(ask)
        if ask in self.running and ended:
            self.running.remove(ask)
        elif ask in self.running:
            self._break_off(ask)
        ask.phase, ask.held = "gone", 0

    @property
    def has_remnants(self) -> bool:
        """Whether the engine still works on what nobody wants."""
        return any(ask.phase == "remnant" for ask in self.running)

    def sweep(self) -> None:
        """The engine works on nothing any more but what is wanted."""
        for ask in [ask for ask in self.running if ask.phase == "remnant"]:
            self.running.remove(ask)
            ask.phase, ask.held = "gone", 0

    def _break_off(self, ask: Ask, given: int = 0) -> Ask:
        """It does not run any more; what remains of it. ``given`` are tokens that another has at once, and does not use yet."""
        self.running.remove(ask)
        prompt = ask.prompt if ask.phase == "reading" else 0
        remnant = Ask(prompt, 0, 0, ask.arrived_s, phase="remnant", held=max(0, ask.held - given))
        self.running.append(remnant)
        return remnant

    def has_read(self, ask: Ask) -> None:
        """Its first token came."""
        if ask.phase == "reading":
            ask.phase = "answering"

    def put_back(self, ask: Ask, given: int = 0) -> None:
        """A running ask waits again, at its old place in time. What it has said is part of its prompt, and mostly in memory.

        It waits until the engine has noticed, so as to find what is in its slot. ``given`` is as in `_break_off`.
        """
        ask.after = self._break_off(ask, given)
        ask.held = 0
        if not ask.open_ended:
            ask.used = 0  # it begins anew
        elif ask.used > ask.prompt:
            ask.prompt, ask.answer = ask.used, ask.most - ask.used
            ask.to_read = 1 + ask.prompt // 8
        self.enter(ask)

    def position(self, ask: Ask) -> int:
        """How many are let in before ``ask``, and it, as things stand."""
        return 1 + sum(_key(other) < _key(ask) for other in self.waiting if other is not ask)

    def admit(self, now_s: float) -> list[Ask]:
        """Those that may begin now; they hold their tokens when this returns."""
        admitted: list[Ask] = []
        self._promote(now_s)
        live = any(not ask.background for ask in self.waiting)
        only_open_ended = False
        for ask in sorted(self.waiting, key=_key):
            if len(self.running) >= self.slots or (ask.background and live):
                break
            if ask.after is not None and ask.after.phase != "gone":
                continue
            if not self._may_be_read(ask) or (only_open_ended and not ask.open_ended):
                continue
            if self._fits(ask):
                self._let_in(ask)
                admitted.append(ask)
            elif now_s - ask.arrived_s >= PATIENCE_S:
                if not ask.lends or ask.most <= self.unreserved:
                    break
                only_open_ended = True  # those take nothing of what can be reserved
        return admitted

    def _promote(self, now_s: float) -> None:
        """Have the one in the background that waits longest count as one of the others, if there has been none for as long."""
        if self._promoted is not None:
            if self._promoted.phase == "gone":
                self._promoted, self._promotes_at_s = None, now_s + BACKGROUND_PATIENCE_S
            return
        patient = [ask for ask in self.waiting if ask.background and now_s - ask.arrived_s >= BACKGROUND_PATIENCE_S]
        if patient and now_s >= self._promotes_at_s:
            self._promoted = one = min(patient, key=lambda ask: ask.arrived_s)
            one.background = False
            if one.after is not None:
                one.after.background = False  # it would wait for who waits for it

    def _fits(self, ask: Ask) -> bool:
        owed = sum(self._owed(other, ask) for other in self.running)
        return self._at_first(ask) + owed <= self.free and (ask.open_ended or ask.most <= self.unreserved)

    def _let_in(self, ask: Ask) -> None:
        for other in self.running:
            other.held += self._owed(other, ask)
        self.waiting.remove(ask)
        self.running.append(ask)
        ask.phase, ask.held = "reading", self._at_first(ask)

    def _owed(self, lender: Ask, newcomer: Ask) -> int:
        """What a lender must have before another prompt is read: nobody can be paused at once while he is being read.

        In that time the lender grows by a token with each step.
        """
        if not lender.lends:
            return 0
        unread = sum(other.prompt for other in self.running if other.phase in ("reading", "remnant"))
        steps = (unread + newcomer.prompt) // self.batch + _MORE_STEPS
        least = max(lender.prompt, lender.used) + self.share // 2 + steps
        return max(0, min(lender.most, least) - lender.held)

    def interrupted(self) -> Ask | None:
        """The one whose reading is to be broken off for a much shorter prompt; it is waiting again when this returns.

        Only when the shorter one can then begin, and goes first by its age too.
        """
        reading = [ask for ask in self.running if ask.phase == "reading"]
        if len(reading) != 1 or not reading[0].interruptible or reading[0].to_read <= READ_TOGETHER:
            return None
        reader = reading[0]
        for ask in sorted(self.waiting, key=_key):
            ready = ask.after is None or ask.after.phase == "gone"
            fits = self._fits(ask) and len(self.running) < self.slots
            shorter = ask.to_read * _MUCH_SHORTER <= reader.to_read and _key(ask) < _key(reader)
            if ready and fits and shorter:
                self.put_back(reader)
                return reader
        return None

    def grow(self, ask: Ask, used: int) -> Growth:
        """``ask`` has come to ``used`` tokens. What it holds stays ahead of that by half a share, or it is paused.

        Half a share is what the engine may generate before it is heard of. While more than half of that is left, tokens of those
        who are about to end are waited for. Who lends is never paused: what he does not get now he asks for with the next token.
        """
        ask.used = used
        self.has_read(ask)
        if ask not in self.running or ask.held >= ask.most or used + self.share // 2 < ask.held:
            return Growth(granted=True)
        more = min(self.share, ask.most - ask.held)
        ending = sum(other.held for other in self.running if other.phase == "remnant")
        paused: list[Ask] = []
        if used + self.share // 4 >= ask.held or self.free + ending < more:
            while self.free < more and (victim := self._victim()) is not None:
                self.put_back(victim, 0 if victim is ask else more - self.free)
                paused.append(victim)
                if victim is ask:
                    return Growth(granted=False, paused=tuple(paused))
        ask.held += min(more, self.free)
        return Growth(granted=True, paused=tuple(paused))

    def _victim(self) -> Ask | None:
        """Who is paused next: the youngest in the background, if any. Who is being read would not end with his next token."""
        answering = [other for other in self.running if other.open_ended and other.phase == "answering"]
        return max(answering, key=lambda other: (other.background, other.arrived_s), default=None)

    def _at_first(self, ask: Ask) -> int:
        return min(ask.most, ask.prompt + self.share) if ask.open_ended or ask.lends else ask.most

    def _may_be_read(self, ask: Ask) -> bool:
        """One prompt at a time, or several very short ones: prompts in one batch all get their first token at its end."""
        reading = sum(other.to_read for other in self.running if other.phase == "reading")
        return not reading or ask.to_read + reading <= READ_TOGETHER


def _key(ask: Ask) -> tuple[bool, float]:
    return (ask.background, ask.order)
