"""An engine that many ask at once: each call waits for its turn, holds its tokens, and may be paused; the rest is the engine's.

The decisions are those of `policy`; here they are carried out. What a caller sees is an `Engine` whose answers begin later
when others are before it. See ``docs/design/scheduling.md``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from corral.engine.base import (
    Batch,
    ChatCall,
    CompletionCall,
    Conversation,
    Embeddings,
    EngineConfig,
    EngineLoad,
    Finished,
    Reading,
    Scores,
)
from corral.engine.hold import Hold, Released, Resumed
from corral.engine.llama import LlamaEngine
from corral.errors import EngineError, EngineRefused, PromptTooLong
from corral.runtime.numbers import RuntimeNumbers
from corral.runtime.scheduling.answering import AnswerSoFar
from corral.runtime.scheduling.decoupled import decoupled
from corral.runtime.scheduling.line import Line
from corral.runtime.scheduling.plainchat import as_completion
from corral.runtime.scheduling.policy import SHARE, Ask, Policy
from corral.runtime.scheduling.prefixes import LEAST_TOKENS, Prefix, Prefixes, begins_with, most_alike

logger = logging.getLogger(__name__)

_TEMPLATE_BYTES = 4096  # what a template adds to a conversation at most, as a rule
_BYTES_PER_TOKEN = 4  # or so; prompts of fewer than `LEAST_TOKENS` are not looked at unless tokens are scarce
_LOOK_S = 0.02
SMALLEST_BATCH = 256  # of the engine, where it has the choice
_OVERFLOW = "Context size has been exceeded"
_Call = ChatCall | CompletionCall


@dataclass(eq=False, slots=True)
class _Job:
    """A call and where it stands. ``is_long`` ones may share their beginning with others."""

    ask: Ask
    call: _Call | None
    is_long: bool = False
    tokens: list[int] | None = field(default=None, repr=False)
    so_far: AnswerSoFar | None = None
    resumed: Resumed | None = None
    hold: Hold = field(default_factory=lambda: Hold(lambda _: None))
    turn: asyncio.Future[None] | None = None
    prefix: Prefix | None = None  # what it loads, once it is kept
    leader: _Job | None = None  # who computes that
    slot: int = -1  # of a leader: where its prefix still lies
    was_read: bool = False  # the whole prompt, so that a slot has it


class ScheduledEngine:
    """An `Engine` over another, whose slots and pool of tokens it gives out."""

    def __init__(self, engine: LlamaEngine, line: Line, numbers: RuntimeNumbers | None = None, model: str = "") -> None:
        """``numbers`` are counted under ``model``."""
        config = engine.config
        self._engine = engine
        self._line = line
        self._clock = time.monotonic
        self._numbers = numbers or RuntimeNumbers()
        self._model = model
        self._context = config.rounded_context
        self._tight = config.pool < config.slots * self._context
        share = min(SHARE, max(64, config.pool // config.slots))
        self._policy = Policy(config.pool, config.slots, share)
        self._prefixes = Prefixes(config.prompt_cache_mib << 20)
        self._jobs: dict[Ask, _Job] = {}
        self._prepared: dict[int, Prefix] = {}  # idle slots that have a prefix, until another call may have got them
        self._recent: deque[list[int]] = deque(maxlen=config.slots)
        self._launching = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeping = False
        self._begun = 0
        self._at_once = (config.batch or SMALLEST_BATCH) - config.slots
        self._turn_s = 1.0
        self._pauses = self._leaders = 0

    # -- an engine ------------------------------------------------------------------------------------------------

    @property
    def config(self) -> EngineConfig:
        return self._engine.config

    @property
    def load(self) -> EngineLoad:
        """How full it is."""
        policy = self._policy
        return EngineLoad(
            slots=policy.slots,
            slots_in_use=len(policy.running),
            pool_tokens=policy.pool_tokens,
            pool_in_use=policy.pool_tokens - policy.free,
            queue=len(policy.waiting),
            paused=sum(job.resumed is not None for ask, job in self._jobs.items() if ask.phase == "waiting"),
            pauses=self._pauses,
            prefix_leaders=self._leaders,
        )

    def chat(self, call: ChatCall) -> AsyncGenerator[Batch, None]:
        """As the protocol has it; may raise `ServerBusy` before the first batch."""
        return self._run(call)

    def complete(self, call: CompletionCall) -> AsyncGenerator[Batch, None]:
        """As the protocol has it; may raise `ServerBusy` before the first batch."""
        return self._run(call)

    async def embed(self, inputs: Sequence[str | Sequence[int]]) -> Embeddings:
        return await self._engine.embed(inputs)

    async def rerank(self, query: str, documents: Sequence[str]) -> Scores:
        return await self._engine.rerank(query, documents)

    async def pieces(self, text: str, *, add_special: bool = False) -> list[tuple[int, bytes]]:
        return await self._engine.pieces(text, add_special=add_special)

    async def media_tokens(self, data: bytes) -> int:
        return await self._engine.media_tokens(data)

    async def tokenise(self, text: str, *, add_special: bool = False) -> list[int]:
        return await self._engine.tokenise(text, add_special=add_special)

    async def detokenise(self, tokens: Sequence[int]) -> str:
        return await self._engine.detokenise(tokens)

    async def apply_template(self, conversation: Conversation) -> str:
        return await self._engine.apply_template(conversation)

    async def beginning(self) -> str:
        return await self._engine.beginning()

    async def end_of_turn(self) -> str:
        return await self._engine.end_of_turn()

    async def slots(self) -> list[bool]:
        return await self._engine.slots()

    async def health(self) -> bool:
        return await self._engine.health()

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._engine.close()

    # -- one call ---------------------------------------------------------------------------------------------------

    async def _run(self, call: _Call) -> AsyncGenerator[Batch, None]:
        job = await self._job(call)
        started = 0.0
        self._jobs[job.ask] = job
        try:
            self._enter(job)
            sent = False
            while True:
                await self._turn(job)
                started = started or self._clock()
                try:
                    async with aclosing(self._part(job)) as stream:
                        async for batch in stream:
                            sent = sent or not all(isinstance(event, Reading) for event in batch)
                            yield self._counted(job, batch)
                    self._turn_s += 0.1 * (self._clock() - started - self._turn_s)
                    return
                except Released:
                    pass  # paused, or put back for another
                except EngineRefused as exc:
                    if _OVERFLOW not in str(exc) or (sent and job.so_far is None):
                        raise
                    logger.warning("the engine's pool of tokens ran full; a request goes on from where it was")
                    if job.ask in self._policy.running:
                        self._policy.put_back(job.ask)
                if job.so_far is not None and job.so_far.num_tokens:
                    job.resumed = await job.so_far.resumed(self._engine)
        finally:
            self._gone(job)

    async def _job(self, call: _Call) -> _Job:
        """What ``call`` needs. It is tokenised only where that matters. Raises `PromptTooLong` for what can never fit."""
        if self._tight and isinstance(call, ChatCall) and _resumable(call):
            call = await as_completion(self._engine, call) or call
        size = _num_bytes(call)
        now = self._clock()
        limited = _most_generated(call, self._context)
        media = await self._media_tokens(call)
        pictured = media is not None
        bound = min(self._context, size + (media or 0) + (_TEMPLATE_BYTES if isinstance(call, ChatCall) else 8))
        per_token = 1 if isinstance(call, CompletionCall) and not isinstance(call.prompt, str) else _BYTES_PER_TOKEN
        tokens, is_long = None, size >= per_token * LEAST_TOKENS and not pictured
        scarce = self._tight and (bool(self._policy.waiting) or bound + limited > self._policy.free)
        others = bool(self._jobs) or self._prefixes.any_kept  # alone a prompt is the engine's business
        if scarce or (others and (is_long or size >= self._context)):
            tokens = await self._tokens(call)
            if len(tokens) >= self._context:
                raise PromptTooLong(len(tokens), self._context)
            bound = min(self._context, len(tokens) + (media or 0))
            for other in list(self._jobs.values()):
                if other.is_long and other.tokens is None and other.call is not None:
                    with suppress(EngineRefused):  # which its own caller is told
                        other.tokens = await self._tokens(other.call)
        ends = self._context
        if isinstance(call, CompletionCall) and call.limit_each is not None:  # it is ended from here, a little later
            ends = min(ends, call.limit_each + self._policy.share // 2)
        answer = max(0, min(limited, ends - bound))
        so_far = None
        if self._tight and answer > self._policy.share and isinstance(call, CompletionCall) and _resumable(call):
            so_far = AnswerSoFar.of(call, tokens)
        ask = Ask(
            bound,
            answer,
            (len(tokens) if tokens else 1 + size // per_token) + (media or 0),
            now,
            open_ended=so_far is not None,
            background=call.background,
            interruptible=not pictured,
        )
        return _Job(ask, call, is_long, tokens, so_far)

    async def _media_tokens(self, call: _Call) -> int | None:
        """The most tokens that its images and sounds take; ``None`` if it has none."""
        media = call.images if isinstance(call, CompletionCall) else call.conversation.media
        if not media:
            return None
        try:
            return sum([await self._engine.media_tokens(data) for data in media])
        except EngineRefused:  # the engine says why when it is asked
            return self._context

    async def _tokens(self, call: _Call) -> list[int]:
        if isinstance(call, ChatCall):
            prompt: str | tuple[int, ...] = (await self.apply_template(call.conversation)).removeprefix(
                await self.beginning()
            )
        else:
            prompt = call.prompt
        if not isinstance(prompt, str):
            return list(prompt)
        return await self._engine.tokenise(prompt, add_special=True)

    def _enter(self, job: _Job) -> None:
        """Get into the queue, behind or with those whose beginning it shares. Raises `ServerBusy`."""
        if job.is_long and job.tokens is not None:
            self._share(job, job.tokens)
        self._policy.enter(job.ask)
        self._pump()
        if job.ask.phase == "waiting":
            waiting = len(self._policy.waiting) - 1
            self._line.check(waiting, self._turn_s, self._policy.slots)

    async def _turn(self, job: _Job) -> None:
        """Wait until ``job`` may begin, or go on."""
        self._pump()
        if job.ask.phase != "waiting":
            return
        job.turn = asyncio.get_running_loop().create_future()
        self._line.waiting += 1
        try:
            await job.turn
        finally:
            self._line.waiting -= 1
            job.turn = None

    def _pump(self) -> None:
        """Carry out what may happen now."""
        if self._policy.has_remnants and not self._sweeping:
            self._sweeping = True
            self._start(self._swept())
        while (interrupted := self._policy.interrupted()) is not None:
            self._jobs[interrupted].hold.release()
            self._let_in()
        self._let_in()

    def _let_in(self) -> None:
        for ask in self._policy.admit(self._clock()):
            job = self._jobs[ask]
            job.hold = Hold(lambda objects, job=job: self._heard(job, objects))  # type: ignore[misc]
            if job.turn is not None and not job.turn.done():
                job.turn.set_result(None)

    def _adds_little(self, job: _Job) -> bool:
        kept = self._prefixes.best(job.tokens or ())
        return kept is not None and len(job.tokens or ()) - len(kept.tokens) < LEAST_TOKENS

    async def _swept(self) -> None:
        """Wait until the engine works on nothing any more that nobody wants. It looks once a second while it reads a prompt."""
        try:
            while self._policy.has_remnants:
                if sum(await self._engine.slots()) <= self._begun:
                    self._policy.sweep()
                else:
                    await asyncio.sleep(_LOOK_S)
        except EngineError:
            self._policy.sweep()  # it is gone, and they with it
        finally:
            self._sweeping = False
            self._pump()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="scheduling")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _part(self, job: _Job) -> AsyncGenerator[Batch, None]:
        """One request to the engine for ``job``."""
        if job.so_far is not None:
            job.hold.answer, job.hold.resumed = job.so_far.answer, job.resumed
            return decoupled(self._launched(job))
        return self._launched(job)

    async def _launched(self, job: _Job) -> AsyncGenerator[Batch, None]:
        hold, call = job.hold, job.call
        assert call is not None
        async with self._launch(hold, job.ask):
            if job.prefix is not None:
                hold.slot = await self._loaded(job, job.prefix)
            if hold.slot is None:
                self._prepared.clear()  # the engine chooses, and nobody knows what
            else:
                self._prepared.pop(hold.slot, None)
            stream = self._engine.chat(call, hold) if isinstance(call, ChatCall) else self._engine.complete(call, hold)
            async with aclosing(stream):
                async for batch in stream:
                    yield batch

    @asynccontextmanager
    async def _launch(self, hold: Hold, ask: Ask) -> AsyncIterator[None]:
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
                    self._policy.has_read(ask)
                    self._pump()

        hold.begun = begun
        try:
            if hold.released:
                raise Released
            yield
        finally:
            begun()
            self._begun -= 1

    def _heard(self, job: _Job, objects: Sequence[Mapping[str, object]]) -> None:
        """The engine has said something to ``job``."""
        ask = job.ask
        said = [data for data in objects if "prompt_progress" not in data]
        if not said:
            return
        job.was_read = True
        if ask.phase == "reading":
            self._policy.has_read(ask)
            self._pump()
        if job.so_far is None:
            return
        job.so_far.hear(said)
        if used := job.so_far.num_tokens:
            for victim in self._policy.grow(ask, used).paused:
                self._pauses += 1
                self._numbers.pauses[self._model] += 1
                self._jobs[victim].hold.release()

    def _counted(self, job: _Job, batch: Batch) -> Batch:
        end = batch[-1]
        if job.so_far is None or not isinstance(end, Finished):
            return batch
        return [*batch[:-1], job.so_far.whole(end)]

    def _gone(self, job: _Job) -> None:
        self._policy.leave(job.ask)
        self._jobs.pop(job.ask, None)
        if job.is_long and job.was_read:
            self._start(self._remembered(job))
        self._let_go(job)
        self._pump()

    async def _remembered(self, job: _Job) -> None:
        """Know what lies in a slot now. What a file has, but for little, is not left there: it would slow down all others."""
        try:
            if job.hold.slot is not None and self._adds_little(job):
                async with self._launch(Hold(lambda _: None), Ask(0, 0, 0, 0.0)):
                    idle = {slot for slot, _ in await self._engine.idle_slots()} - self._prepared.keys()
                    if job.hold.slot in idle:
                        await self._engine.empty_slot(job.hold.slot)
                return
            if job.tokens is None and job.call is not None:
                job.tokens = await self._tokens(job.call)
        except EngineError:
            return  # it is gone, and its slots with it
        if job.tokens is not None:
            self._recent.append(job.tokens)

    # -- prefixes that several share --------------------------------------------------------------------------------

    def _share(self, job: _Job, tokens: list[int]) -> None:
        """See whether what ``job`` begins with is kept, is being computed, or is to be computed for several."""
        in_slot = most_alike(tokens, ((recent, recent) for recent in self._recent))
        kept = self._prefixes.best(tokens)
        if kept is not None and len(kept.tokens) > in_slot.num:
            self._follow(job, kept, None)
            return
        peers = ((other.tokens, other) for other in self._jobs.values() if other is not job and other.tokens)
        alike = most_alike(tokens, peers)
        if alike.what is None or alike.num < LEAST_TOKENS or alike.num <= in_slot.num:
            if in_slot.what is not None:  # the engine finds it there; nobody else does any more
                self._recent.remove(in_slot.what)
                job.ask.to_read = max(1, job.ask.to_read - in_slot.num)
            return
        peer = alike.what
        leader = peer.leader if peer.call else peer
        if leader is None or leader.ask.phase == "gone" or not begins_with(tokens, leader.tokens or ()):
            leader = self._lead(tokens[: alike.num], peer)
        assert leader.prefix is not None
        self._follow(job, leader.prefix, leader)

    def _lead(self, tokens: list[int], peer: _Job) -> _Job:
        """Have ``tokens`` computed by themselves, before ``peer`` if that has said nothing yet."""
        prefix = self._prefixes.new(tokens)
        ask = Ask(len(tokens), 1, len(tokens), peer.ask.arrived_s, background=peer.ask.background, interruptible=True)
        leader = _Job(ask, None, is_long=True, tokens=tokens, prefix=prefix)
        self._jobs[ask] = leader
        self._leaders += 1
        self._numbers.prefix_leaders[self._model] += 1
        if peer.ask.phase == "reading" and peer.resumed is None:
            self._policy.put_back(peer.ask)
            ask.after = peer.ask.after
            peer.hold.release()
        if peer.ask.phase == "waiting" and peer.prefix is None and len(peer.tokens or ()) > len(tokens):
            self._follow(peer, prefix, leader)
        self._policy.enter(ask)
        self._start(self._computed(leader, prefix))
        return leader

    def _follow(self, job: _Job, prefix: Prefix, leader: _Job | None) -> None:
        job.prefix, job.leader = prefix, leader
        prefix.users += 1
        job.ask.to_read = max(1, job.ask.to_read - len(prefix.tokens))
        job.ask.after = leader.ask if leader else None
        if leader is not None and not job.ask.background:
            leader.ask.background = False  # it would wait for who waits for it

    async def _computed(self, leader: _Job, prefix: Prefix) -> None:
        """Compute a prefix and keep its state. Whoever waits for it goes on in any case."""
        try:
            while prefix.users:
                await self._turn(leader)
                if leader.ask.phase == "waiting":
                    continue  # nobody wanted it any more, for a moment at least
                try:
                    async with self._launch(leader.hold, leader.ask):
                        leader.slot = await self._engine.read_prefix(prefix.tokens, leader.hold)
                except Released:
                    if leader.ask in self._policy.running:
                        self._policy.put_back(leader.ask)
                    continue
                if prefix.users > 1:
                    async with self._launch(Hold(lambda _: None), leader.ask):
                        prefix.size_bytes = await self._engine.save_slot(leader.slot, prefix.name)
                        self._forget(self._prefixes.keep(prefix))
                        await self._prepare(prefix, prefix.users, leader.slot)
                break
        except EngineError as exc:
            logger.warning("a beginning that several prompts share could not be kept: %s", exc)
            self._discard(prefix)
        finally:
            self._policy.leave(leader.ask)
            self._jobs.pop(leader.ask, None)
            self._pump()

    async def _prepare(self, prefix: Prefix, num: int, slot: int) -> None:
        """Restore a prefix into idle slots for ``num`` calls, while none of them runs: later each would wait for a batch."""
        self._prepared = {slot: prefix}
        for idle, _ in await self._engine.idle_slots():
            if len(self._prepared) >= num:
                break
            if idle != slot:
                await self._engine.restore_slot(idle, prefix.name)
                self._prepared[idle] = prefix

    async def _loaded(self, job: _Job, prefix: Prefix) -> int | None:
        """A slot that has the prefix now; ``None`` leaves it to the engine to find one."""
        job.prefix = None
        try:
            ready = next((slot for slot, prepared in self._prepared.items() if prepared is prefix), None)
            if ready is not None:
                return ready
            if not prefix.size_bytes:
                return None  # where it was computed the engine finds it by itself
            idle = await self._engine.idle_slots()
            if not idle:
                return None
            slot = idle[0][0]
            await self._engine.restore_slot(slot, prefix.name)
            return slot
        except EngineError as exc:
            logger.warning("a beginning that several prompts share could not be loaded: %s", exc)
            self._discard(prefix)
            return None
        finally:
            prefix.users -= 1
            self._forget(self._prefixes.trim())

    def _let_go(self, job: _Job) -> None:
        if job.prefix is not None:
            job.prefix.users -= 1
            self._forget(self._prefixes.trim())
            if not job.prefix.users and job.leader is not None:
                job.leader.hold.release()
                if job.leader.turn is not None and not job.leader.turn.done():
                    job.leader.turn.set_result(None)
            job.prefix = None

    def _discard(self, prefix: Prefix) -> None:
        """Its state cannot be had: whoever was going to load it computes it."""
        prefix.size_bytes = 0
        self._prefixes.drop(prefix)
        self._forget((prefix,))

    def _forget(self, prefixes: Iterable[Prefix]) -> None:
        for prefix in prefixes:
            self._engine.forget_slot(prefix.name)


def _num_bytes(call: _Call) -> int:
    """About the size of the prompt: no token is shorter than a byte, as a rule."""
    if isinstance(call, CompletionCall):
        return len(call.prompt.encode()) if isinstance(call.prompt, str) else len(call.prompt)
    conversation = call.conversation
    size = sum(len(m.content.encode()) + len(m.thinking.encode()) + 64 for m in conversation.messages)
    size += sum(len(c.arguments) + len(c.name) for m in conversation.messages for c in m.tool_calls)
    return size + sum(len(str(tool)) for tool in conversation.tools)


def _resumable(call: _Call) -> bool:
    """Whether the text would be no other for having been paused: nothing is lost with the sampler's state."""
    sampling = call.sampling
    chance = sampling.seed is not None and sampling.temperature > 0 and sampling.top_k != 1
    in_parts = isinstance(call, CompletionCall) and call.limit_each is not None
    pictured = isinstance(call, CompletionCall) and bool(call.images)
    return call.output is None and not chance and not sampling.mirostat and not in_parts and not pictured


def _most_generated(call: _Call, context: int) -> int:
    """How many tokens the answer may have."""
    most = call.sampling.max_tokens
    if most is None:
        return context
    twice = isinstance(call, CompletionCall) and call.limit_each is not None
    return max(1, 2 * most if twice else most)
