"""Who is let in, who waits, who is paused. Pure decisions over one pool of tokens: no clock, no I/O, no tasks.

The engine fails all its sequences when its pool runs full, so every ask holds the tokens it may come to use:

    waiting ──► reading ──► answering ──► gone
       ▲           │            │
       └───────────┴────────────┘             (paused, or put back for a shorter prompt)

A prompt that is broken off is read on for a while before the engine notices: a *remnant* holds its slot and tokens until then.

An ask that is ``open_ended`` holds its prompt and a share, and more as it grows; any other holds all it may need from the start.
When an ask must grow and nothing is free, the youngest of the open-ended ones is paused, which may be the one that grows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

SHARE = 512  # tokens that an open-ended answer begins with, and grows by
AGEING_TOKENS_PER_S = 200.0  # a prompt that has waited a second goes before one that is as much shorter
PATIENCE_S = 10.0  # after it nobody passes an ask that does not fit yet
READ_TOGETHER = 64  # tokens of prompts that are read in one go rather than one after the other
_MUCH_SHORTER = 4  # so many times shorter is a prompt that interrupts another


@dataclass(eq=False, slots=True)
class Ask:
    """One request: tokens of its prompt at most, and how many it may generate; ``to_read`` is about what is still to be computed
    of the prompt.

    ``interruptible`` says that reading may be broken off and begun again. ``after`` must be gone before this may be let in.
    """

    prompt: int
    answer: int
    to_read: int
    arrived_s: float
    open_ended: bool = False
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
    """The state of one engine's pool, and the decisions on it. Times are seconds on any clock that never goes back."""

    pool_tokens: int
    slots: int
    share: int = SHARE
    waiting: list[Ask] = field(default_factory=list)
    running: list[Ask] = field(default_factory=list)

    @property
    def free(self) -> int:
        """Tokens that nobody holds."""
        return self.pool_tokens - sum(ask.held for ask in self.running)

    def enter(self, ask: Ask) -> None:
        """``ask`` waits from now on. It must be able to fit: ``ask.most`` is no more than the pool."""
        assert ask.most <= self.pool_tokens, "an ask that can never fit would wait for ever"
        ask.phase = "waiting"
        self.waiting.append(ask)

    def leave(self, ask: Ask) -> None:
        """It is done, or nobody wants it any more."""
        if ask in self.waiting:
            self.waiting.remove(ask)
        if ask in self.running:
            self._stop(ask)
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

    def _stop(self, ask: Ask) -> Ask | None:
        """It does not run any more; what remains of it."""
        self.running.remove(ask)
        if ask.phase != "reading":
            return None
        remnant = Ask(ask.prompt, 0, 0, ask.arrived_s, phase="remnant", held=ask.held)
        self.running.append(remnant)
        return remnant

    def has_read(self, ask: Ask) -> None:
        """Its first token came."""
        if ask.phase == "reading":
            ask.phase = "answering"

    def put_back(self, ask: Ask) -> None:
        """A running ask waits again, at its old place in time. What it has said is part of its prompt, and mostly in memory.

        If its prompt was being read it waits until that has ended, so as to find what was read.
        """
        ask.after = self._stop(ask) or ask.after
        ask.held = 0
        if ask.used > ask.prompt:
            ask.prompt, ask.answer = ask.used, ask.most - ask.used
            ask.to_read = 1 + ask.prompt // 8
        self.enter(ask)

    def position(self, ask: Ask) -> int:
        """How many are let in before ``ask``, and it, as things stand."""
        return 1 + sum(_key(other) < _key(ask) for other in self.waiting if other is not ask)

    def admit(self, now_s: float) -> list[Ask]:
        """Those that may begin now; they hold their tokens when this returns."""
        admitted: list[Ask] = []
        live = any(not ask.background for ask in self.waiting)
        for ask in sorted(self.waiting, key=_key):
            if len(self.running) >= self.slots or (ask.background and live):
                break
            if ask.after is not None and ask.after.phase != "gone":
                continue
            if not self._may_be_read(ask):
                continue
            need = self._at_first(ask)
            if need <= self.free:
                self.waiting.remove(ask)
                self.running.append(ask)
                ask.phase, ask.held = "reading", need
                admitted.append(ask)
            elif now_s - ask.arrived_s >= PATIENCE_S:
                break
        return admitted

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
            fits = self._at_first(ask) <= self.free and len(self.running) < self.slots
            shorter = ask.to_read * _MUCH_SHORTER <= reader.to_read and _key(ask) < _key(reader)
            if ready and fits and shorter:
                self.put_back(reader)
                return reader
        return None

    def grow(self, ask: Ask, used: int) -> Growth:
        """``ask`` has come to ``used`` tokens. What it holds stays ahead of that by half a share at least, or it is paused.

        Half a share is what the engine may generate before it is heard of.
        """
        ask.used = used
        self.has_read(ask)
        if ask not in self.running or ask.held >= ask.most or used + self.share // 2 < ask.held:
            return Growth(granted=True)
        more = min(self.share, ask.most - ask.held)
        paused: list[Ask] = []
        while self.free < more:
            # These are ended at their next token; a prompt that is being read is not.
            answering = (other for other in self.running if other.open_ended and other.phase == "answering")
            victim = max(answering, key=lambda other: other.arrived_s)
            self.put_back(victim)
            paused.append(victim)
            if victim is ask:
                return Growth(granted=False, paused=tuple(paused))
        ask.held += more
        return Growth(granted=True, paused=tuple(paused))

    def _at_first(self, ask: Ask) -> int:
        return min(ask.most, ask.prompt + self.share) if ask.open_ended else ask.most

    def _may_be_read(self, ask: Ask) -> bool:
        """One prompt at a time, or several very short ones: prompts in one batch all get their first token at its end."""
        reading = sum(other.to_read for other in self.running if other.phase == "reading")
        return not reading or ask.to_read + reading <= READ_TOGETHER


def _key(ask: Ask) -> tuple[bool, float]:
    return (ask.background, ask.order)
