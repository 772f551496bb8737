"""Beginnings that several prompts share, at work: a leader computes each once, and the others have its state restored.

Where they are found and which are kept is decided by `prefixes`.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable

from corral.engine.hold import Hold, Released
from corral.engine.llama import LlamaEngine
from corral.errors import EngineError
from corral.runtime.scheduling.policy import Ask
from corral.runtime.scheduling.prefixes import LEAST_TOKENS, Prefix, Prefixes, begins_with, most_alike
from corral.runtime.scheduling.turns import Call, Job, Turns

logger = logging.getLogger(__name__)


class Sharing:
    """What the prompts on one engine have in common."""

    def __init__(self, engine: LlamaEngine, turns: Turns, tokens_of: Callable[[Call], Awaitable[list[int]]]) -> None:
        self._engine = engine
        self._turns = turns
        self._policy = turns.policy
        self._tokens_of = tokens_of
        self._prefixes = Prefixes(engine.config.prompt_cache_mib << 20)
        self._prepared: dict[int, Prefix] = {}  # idle slots that have a prefix, until another call may have got them
        self._recent: deque[list[int]] = deque(maxlen=engine.config.slots)

    @property
    def any_kept(self) -> bool:
        """Whether the state of any beginning is kept."""
        return self._prefixes.any_kept

    def share(self, job: Job, tokens: list[int]) -> None:
        """See whether what ``job`` begins with is kept, is being computed, or is to be computed for several."""
        in_slot = most_alike(tokens, ((recent, recent) for recent in self._recent))
        kept = self._prefixes.best(tokens)
        if kept is not None and len(kept.tokens) > in_slot.num:
            self._follow(job, kept, None)
            return
        peers = ((other.tokens, other) for other in self._turns.jobs.values() if other is not job and other.tokens)
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

    def _lead(self, tokens: list[int], peer: Job) -> Job:
        """Have ``tokens`` computed by themselves, before ``peer`` if that has said nothing yet."""
        prefix = self._prefixes.new(tokens)
        ask = Ask(len(tokens), 1, len(tokens), peer.ask.arrived_s, background=peer.ask.background, interruptible=True)
        leader = Job(ask, None, is_long=True, tokens=tokens, prefix=prefix)
        self._turns.jobs[ask] = leader
        self._turns.count_leader()
        if peer.ask.phase == "reading" and peer.resumed is None:
            self._policy.put_back(peer.ask)
            ask.after = peer.ask.after
            peer.hold.release()
        if peer.ask.phase == "waiting" and peer.prefix is None and len(peer.tokens or ()) > len(tokens):
            self._follow(peer, prefix, leader)
        self._policy.enter(ask)
        self._turns.start(self._computed(leader, prefix))
        return leader

    def _follow(self, job: Job, prefix: Prefix, leader: Job | None) -> None:
        job.prefix, job.leader = prefix, leader
        prefix.users += 1
        job.ask.to_read = max(1, job.ask.to_read - len(prefix.tokens))
        job.ask.after = leader.ask if leader else None
        if leader is not None and not job.ask.background:
            leader.ask.background = False  # it would wait for who waits for it

    async def _computed(self, leader: Job, prefix: Prefix) -> None:
        """Compute a prefix and keep its state. Whoever waits for it goes on in any case."""
        try:
            while prefix.users:
                await self._turns.turn(leader)
                if leader.ask.phase == "waiting":
                    continue  # nobody wanted it any more, for a moment at least
                try:
                    async with self._turns.launch(leader.hold, leader.ask):
                        leader.slot = await self._engine.read_prefix(prefix.tokens, leader.hold)
                except Released:
                    if leader.ask in self._policy.running:
                        self._policy.put_back(leader.ask)
                    continue
                if prefix.users > 1:
                    async with self._turns.launch(Hold(lambda _: None), leader.ask):
                        prefix.size_bytes = await self._engine.save_slot(leader.slot, prefix.name)
                        self._forget(self._prefixes.keep(prefix))
                        await self._prepare(prefix, prefix.users, leader.slot)
                break
        except EngineError as exc:
            logger.warning("a beginning that several prompts share could not be kept: %s", exc)
            self._discard(prefix)
        finally:
            self._policy.leave(leader.ask, ended=leader.ended)
            self._turns.jobs.pop(leader.ask, None)
            self._turns.pump()

    async def _prepare(self, prefix: Prefix, num: int, slot: int) -> None:
        """Restore a prefix into idle slots for ``num`` calls, while none of them runs: later each would wait for a batch."""
        self._prepared = {slot: prefix}
        for idle, _ in await self._engine.idle_slots():
            if len(self._prepared) >= num:
                break
            if idle != slot:
                await self._engine.restore_slot(idle, prefix.name)
                self._prepared[idle] = prefix

    async def choose_slot(self, job: Job, hold: Hold) -> None:
        """Have ``job`` run where what it shares is; nowhere in particular if it shares nothing."""
        if job.prefix is not None:
            hold.slot = await self._loaded(job, job.prefix)
        if hold.slot is None:
            self._prepared.clear()  # the engine chooses, and nobody knows what
        else:
            self._prepared.pop(hold.slot, None)

    async def _loaded(self, job: Job, prefix: Prefix) -> int | None:
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

    def let_go(self, job: Job) -> None:
        """It needs no beginning any more; who computes one for it alone may stop."""
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

    async def remember(self, job: Job) -> None:
        """Know what lies in a slot now. What a file has, but for little, is not left there: it would slow down all others."""
        try:
            if job.hold.slot is not None and self._adds_little(job):
                async with self._turns.launch(Hold(lambda _: None), Ask(0, 0, 0, 0.0)):
                    idle = {slot for slot, _ in await self._engine.idle_slots()} - self._prepared.keys()
                    if job.hold.slot in idle:
                        await self._engine.empty_slot(job.hold.slot)
                return
            if job.tokens is None and job.call is not None:
                job.tokens = await self._tokens_of(job.call)
        except EngineError:
            return  # it is gone, and its slots with it
        if job.tokens is not None:
            self._recent.append(job.tokens)

    def _adds_little(self, job: Job) -> bool:
        kept = self._prefixes.best(job.tokens or ())
        return kept is not None and len(job.tokens or ()) - len(kept.tokens) < LEAST_TOKENS
