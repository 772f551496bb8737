"""Turns at an engine: what the policy decides is carried out here, for calls and for beginnings that several share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from corral.engine.base import ChatCall, CompletionCall
from corral.engine.hold import Hold, Released, Resumed
from corral.engine.llama import LlamaEngine
from corral.errors import EngineError
from corral.runtime.numbers import RuntimeNumbers
from corral.runtime.scheduling.answering import AnswerSoFar
from corral.runtime.scheduling.line import Line
from corral.runtime.scheduling.policy import Ask, Policy
from corral.runtime.scheduling.prefixes import Prefix

_LOOK_S = 0.02
Call = ChatCall | CompletionCall


@dataclass(eq=False, slots=True)
class Job:
    """A call and where it stands. ``is_long`` ones may share their beginning with others."""

    ask: Ask
    call: Call | None
    is_long: bool = False
    tokens: list[int] | None = field(default=None, repr=False)
    so_far: AnswerSoFar | None = None
    resumed: Resumed | None = None
    hold: Hold = field(default_factory=lambda: Hold(lambda _: None))
    turn: asyncio.Future[None] | None = None
    prefix: Prefix | None = None  # what it loads, once it is kept
    leader: Job | None = None  # who computes that
    slot: int = -1  # of a leader: where its prefix still lies
    was_read: bool = False  # the whole prompt, so that a slot has it
    ended: bool = False  # by the engine


class Turns:
    """Who runs on an engine now. Jobs are known from when they are put into ``jobs`` until they are taken out."""

    def __init__(self, engine: LlamaEngine, policy: Policy, line: Line, numbers: RuntimeNumbers, model: str) -> None:
        """``numbers`` are counted under ``model``."""
        self.policy = policy
        self.jobs: dict[Ask, Job] = {}
        self.pauses = self.leaders = 0
        self._engine = engine
        self._line = line
        self._numbers = numbers
        self._model = model
        self._launching = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeping = False
        self._begun = 0
        self._at_once = policy.batch

    def close(self) -> None:
        """Whatever is under way beside the calls is ended."""
        for task in self._tasks:
            task.cancel()

    @property
    def num_waiting(self) -> int:
        """Calls that wait; who computes a beginning for them is not one more."""
        return sum(self.jobs[ask].call is not None for ask in self.policy.waiting)

    def count_leader(self) -> None:
        """A beginning that several share is going to be computed."""
        self.leaders += 1
        self._numbers.prefix_leaders[self._model] += 1

    async def turn(self, job: Job) -> None:
        """Wait until ``job`` may begin, or go on."""
        self.pump()
        if job.ask.phase != "waiting":
            return
        job.turn = asyncio.get_running_loop().create_future()
        counts = job.call is not None
        self._line.waiting += counts
        try:
            await job.turn
        finally:
            self._line.waiting -= counts
            job.turn = None

    def pump(self) -> None:
        """Carry out what may happen now."""
        if self.policy.has_remnants and not self._sweeping:
            self._sweeping = True
            self.start(self._swept())
        while (interrupted := self.policy.interrupted()) is not None:
            self.jobs[interrupted].hold.release()
            self._let_in()
        self._let_in()

    def _let_in(self) -> None:
        for ask in self.policy.admit(time.monotonic()):
            job = self.jobs[ask]
            job.hold = Hold(lambda objects, job=job: self._heard(job, objects), counted=ask.lends)  # type: ignore[misc]
            if job.turn is not None and not job.turn.done():
                job.turn.set_result(None)

    async def _swept(self) -> None:
        """Wait until the engine works on nothing any more that nobody wants. It looks once a second while it reads a prompt."""
        try:
            while self.policy.has_remnants:
                if sum(await self._engine.slots()) <= self._begun:
                    self.policy.sweep()
                else:
                    await asyncio.sleep(_LOOK_S)
        except EngineError:
            self.policy.sweep()  # it is gone, and they with it
        finally:
            self._sweeping = False
            self.pump()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Have ``work`` done beside the calls."""
        task = asyncio.create_task(work, name="scheduling")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @asynccontextmanager
    async def launch(self, hold: Hold, ask: Ask) -> AsyncIterator[None]:
        """Until the request of the block has its slot nobody else gets one: a state that was put into a slot is still there.

        The engine takes requests between batches. So a prompt that is in one batch counts as read when it has its slot: the
        next comes just in time for the batch behind it.
        """
        await self._launching.acquire()
        launched = False

        def begun() -> None:
            nonlocal launched
            if not launched:
                launched = True
                self._begun += 1
                self._launching.release()
                if ask.to_read <= self._at_once and ask.phase == "reading":
                    self.policy.has_read(ask)
                    self.pump()

        hold.begun = begun
        try:
            if hold.released:
                raise Released
            yield
        finally:
            begun()
            self._begun -= 1

    def _heard(self, job: Job, objects: Sequence[Mapping[str, Any]]) -> None:
        """The engine has said something to ``job``."""
        ask = job.ask
        said = [data for data in objects if "prompt_progress" not in data]
        if not said:
            return
        job.was_read = True
        job.ended = job.ended or any(map(_is_end, said))
        if ask.phase == "reading":
            self.policy.has_read(ask)
            self.pump()
        if job.so_far is not None:
            job.so_far.hear(said)
            self._grow(ask, job.so_far.num_tokens)
        elif ask.lends:
            self._grow(ask, max(map(_num_tokens, said)))

    def _grow(self, ask: Ask, used: int) -> None:
        victims = self.policy.grow(ask, used).paused if used else ()
        for victim in victims:
            self.pauses += 1
            self._numbers.pauses[self._model] += 1
            self.jobs[victim].hold.release()
        if victims:
            self.pump()


def _is_end(data: Mapping[str, Any]) -> bool:
    """Whether the engine says no more after an object, of a completion or a chat."""
    return bool(data.get("stop")) or any(choice.get("finish_reason") for choice in data.get("choices") or ())


def _num_tokens(data: Mapping[str, Any]) -> int:
    """Tokens of prompt and answer by the engine's counts; 0 where it has none."""
    timings = data.get("timings") or {}
    return sum(int(timings.get(name, 0)) for name in ("cache_n", "prompt_n", "predicted_n"))
