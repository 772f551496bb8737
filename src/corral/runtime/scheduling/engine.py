"""An engine that many ask at once: each call waits for its turn, holds its tokens, and may be paused; the rest is the engine's.

The decisions are those of `policy`; here they are carried out. What a caller sees is an `Engine` whose answers begin later
when others are before it. See ``docs/design/scheduling.md``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress

from corral.engine.base import (
    CPU_BATCH,
    Batch,
    ChatCall,
    CompletionCall,
    Conversation,
    Embeddings,
    EngineConfig,
    EngineLoad,
    Finished,
    Parcels,
    Reading,
    Scores,
)
from corral.engine.hold import Released
from corral.engine.llama import LlamaEngine
from corral.errors import EngineRefused, PromptTooLong
from corral.grammar import longest
from corral.runtime.numbers import RuntimeNumbers
from corral.runtime.scheduling.answering import AnswerSoFar
from corral.runtime.scheduling.decoupled import decoupled
from corral.runtime.scheduling.line import Line
from corral.runtime.scheduling.plainchat import as_completion
from corral.runtime.scheduling.policy import SHARE, Ask, Policy
from corral.runtime.scheduling.prefixes import LEAST_TOKENS
from corral.runtime.scheduling.sharing import Sharing
from corral.runtime.scheduling.turns import Call, Job, Turns

logger = logging.getLogger(__name__)

_TEMPLATE_BYTES = 4096  # what a template adds to a conversation at most, as a rule
_BYTES_PER_TOKEN = 4  # or so; prompts of fewer than `LEAST_TOKENS` are not looked at unless tokens are scarce
# Part of the time that a prompt takes to read, and seconds at most, that it waits for shorter ones that come together with it.
_TOGETHER, _TOGETHER_S, _WORTH_WAITING_S = 0.02, 0.02, 0.001
_ENOUGH_READ = 32  # tokens, to know from how long one takes
_OVERFLOW = "Context size has been exceeded"


class ScheduledEngine:
    """An `Engine` over another, whose slots and pool of tokens it gives out."""

    def __init__(self, engine: LlamaEngine, line: Line, numbers: RuntimeNumbers | None = None, model: str = "") -> None:
        """``numbers`` are counted under ``model``."""
        config = engine.config
        self._engine = engine
        self._line = line
        self._clock = time.monotonic
        self._context = config.rounded_context
        self._tight = config.pool < config.slots * self._context
        share = min(SHARE, max(64, config.pool // config.slots))
        at_once = max(1, (config.batch or CPU_BATCH) - config.slots)
        self._policy = Policy(config.pool, config.slots, share, at_once)
        self._turns = Turns(engine, self._policy, line, numbers or RuntimeNumbers(), model)
        self._jobs = self._turns.jobs
        self._sharing = Sharing(engine, self._turns, self._tokens)
        self._turn_s = 1.0
        self._read_s = 0.0  # a token of a prompt, as far as is known

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
            queue=self._turns.num_waiting,
            paused=sum(job.resumed is not None for ask, job in self._jobs.items() if ask.phase == "waiting"),
            pauses=self._turns.pauses,
            prefix_leaders=self._turns.leaders,
        )

    def chat(self, call: ChatCall) -> AsyncGenerator[Batch, None]:
        """As the protocol has it; may raise `ServerBusy` before the first batch."""
        return self._run(call)

    def complete(self, call: CompletionCall) -> AsyncGenerator[Batch, None]:
        """As the protocol has it; may raise `ServerBusy` before the first batch."""
        return self._run(call)

    async def embed(self, inputs: Sequence[str | Sequence[int]], request: Parcels | None = None) -> Embeddings:
        return await self._engine.embed(inputs, request)

    async def rerank(self, query: str, documents: Sequence[str], request: Parcels | None = None) -> Scores:
        return await self._engine.rerank(query, documents, request)

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
        self._turns.close()
        self._engine.close()

    # -- one call ---------------------------------------------------------------------------------------------------

    async def _run(self, call: Call) -> AsyncGenerator[Batch, None]:
        job = await self._job(call)
        started = 0.0
        self._jobs[job.ask] = job
        try:
            await self._let_shorter_ones_come(job)
            self._enter(job)
            sent = False
            while True:
                await self._turns.turn(job)
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

    async def _let_shorter_ones_come(self, job: Job) -> None:
        """Where nobody is before ``job``, a moment for those that come with it: the shorter a prompt the less it waits."""
        if self._policy.running or self._policy.waiting:
            return
        moment_s = min(_TOGETHER_S, _TOGETHER * self._read_s * job.ask.to_read)
        if moment_s > _WORTH_WAITING_S:
            await asyncio.sleep(moment_s)

    async def _job(self, call: Call) -> Job:
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
        others = bool(self._jobs) or self._sharing.any_kept  # alone a prompt is the engine's business
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
        if self._tight and isinstance(call, CompletionCall) and _resumable(call):
            so_far = AnswerSoFar.of(call, tokens)
        ask = Ask(
            bound,
            answer,
            (len(tokens) if tokens else 1 + size // per_token) + (media or 0),
            now,
            open_ended=so_far is not None,
            lends=self._tight and so_far is None and answer > self._policy.share and isinstance(call, CompletionCall),
            background=call.background,
            interruptible=not pictured,
        )
        return Job(ask, call, is_long, tokens, so_far)

    async def _media_tokens(self, call: Call) -> int | None:
        """The most tokens that its images and sounds take; ``None`` if it has none."""
        media = call.images if isinstance(call, CompletionCall) else call.conversation.media
        if not media:
            return None
        try:
            return sum([await self._engine.media_tokens(data) for data in media])
        except EngineRefused:  # the engine says why when it is asked
            return self._context

    async def _tokens(self, call: Call) -> list[int]:
        if isinstance(call, ChatCall):
            prompt: str | tuple[int, ...] = (await self.apply_template(call.conversation)).removeprefix(
                await self.beginning()
            )
        else:
            prompt = call.prompt
        if not isinstance(prompt, str):
            return list(prompt)
        return await self._engine.tokenise(prompt, add_special=True)

    def _enter(self, job: Job) -> None:
        """Get into the queue, behind or with those whose beginning it shares. Raises `ServerBusy`."""
        if job.is_long and job.tokens is not None:
            self._sharing.share(job, job.tokens)
        self._policy.enter(job.ask)
        self._turns.pump()
        if job.ask.phase == "waiting":
            waiting = self._turns.num_waiting - 1
            self._line.check(waiting, self._turn_s, self._policy.slots)

    def _part(self, job: Job) -> AsyncGenerator[Batch, None]:
        """One request to the engine for ``job``."""
        if job.so_far is not None:
            job.hold.answer, job.hold.resumed = job.so_far.answer, job.resumed
        if job.so_far is not None or job.ask.lends:  # its tokens are counted
            return decoupled(self._launched(job))
        return self._launched(job)

    async def _launched(self, job: Job) -> AsyncGenerator[Batch, None]:
        hold, call = job.hold, job.call
        assert call is not None
        async with self._turns.launch(hold, job.ask):
            await self._sharing.choose_slot(job, hold)
            stream = self._engine.chat(call, hold) if isinstance(call, ChatCall) else self._engine.complete(call, hold)
            async with aclosing(stream):
                async for batch in stream:
                    yield batch

    def _counted(self, job: Job, batch: Batch) -> Batch:
        end = batch[-1]
        if not isinstance(end, Finished):
            return batch
        if (num_read := end.prompt_tokens - end.cached_tokens) >= _ENOUGH_READ:
            self._read_s = end.prompt_ns / 1e9 / num_read
        return batch if job.so_far is None else [*batch[:-1], job.so_far.whole(end)]

    def _gone(self, job: Job) -> None:
        self._policy.leave(job.ask, ended=job.ended)
        self._jobs.pop(job.ask, None)
        if job.is_long and job.was_read:
            self._turns.start(self._sharing.remember(job))
        self._sharing.let_go(job)
        self._turns.pump()


def _num_bytes(call: Call) -> int:
    """About the size of the prompt: no token is shorter than a byte, as a rule."""
    if isinstance(call, CompletionCall):
        return len(call.prompt.encode()) if isinstance(call.prompt, str) else len(call.prompt)
    conversation = call.conversation
    size = sum(len(m.content.encode()) + len(m.thinking.encode()) + 64 for m in conversation.messages)
    size += sum(len(c.arguments) + len(c.name) for m in conversation.messages for c in m.tool_calls)
    return size + sum(len(str(tool)) for tool in conversation.tools)


def _resumable(call: Call) -> bool:
    """Whether the text would be no other for having been paused: nothing is lost with the sampler's state."""
    sampling = call.sampling
    chance = sampling.seed is not None and sampling.temperature > 0 and sampling.top_k != 1
    in_parts = isinstance(call, CompletionCall) and call.limit_each is not None
    pictured = isinstance(call, CompletionCall) and bool(call.images)
    return call.output is None and not chance and not sampling.mirostat and not in_parts and not pictured


def _most_generated(call: Call, context: int) -> int:
    """How many tokens the answer may have. A grammar takes no token without a text, and then the one that ends the answer."""
    most = call.sampling.max_tokens
    if most is None and isinstance(call, CompletionCall) and call.output is not None and call.output.grammar:
        longest_bytes = longest(call.output.grammar)
        return context if longest_bytes is None else min(context, longest_bytes + 1)
    if most is None:
        return context
    twice = isinstance(call, CompletionCall) and call.limit_each is not None
    return max(1, 2 * most if twice else most)
