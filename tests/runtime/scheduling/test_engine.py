"""The scheduler on real engines with Tiny, whose greedy answers alone are the measure."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from corral.engine.base import (
    Batch,
    ChatCall,
    CompletionCall,
    Conversation,
    EngineConfig,
    Finished,
    Message,
    OutputFormat,
    Sampling,
    Text,
    Thinking,
    Thoughts,
)
from corral.engine.llama import LlamaEngine
from corral.engine.process import EngineProcess, run_engine
from corral.errors import EngineCrashed, PromptTooLong, ServerBusy
from corral.runtime.scheduling import Line, ScheduledEngine
from corral.tiny import TINY_FILE

pytestmark = pytest.mark.anyio
CONFIG = EngineConfig(weights=TINY_FILE, context=256, slots=8, threads=1)
GREEDY = Sampling(temperature=0)
STORY = "Once there was a dog who lived by the sea. Every day the dog walked to the water and looked at the boats. "
# What a batch computes differs in the last bits from what a sequence alone does. These answers go on to the end of the context and
# are the same all the same: each of their tokens is far likelier than any other.
ENDLESS = ("x x x x x", "la la la la la", "a b c d e f g", "ha ha ha")


@dataclass(frozen=True)
class Said:
    """A whole answer."""

    text: str
    thought: str
    end: Finished


@asynccontextmanager
async def scheduled(
    config: EngineConfig, log: Path, line: Line | None = None
) -> AsyncIterator[tuple[ScheduledEngine, EngineProcess]]:
    async with run_engine(config, log=log) as process:
        with closing(ScheduledEngine(LlamaEngine(config, process), line or Line(512))) as engine:
            yield engine, process


async def said(stream: AsyncGenerator[Batch, None]) -> Said:
    async with aclosing(stream):
        events = [event async for batch in stream for event in batch]
    end = events[-1]
    assert isinstance(end, Finished)
    text = "".join(event.text for event in events if isinstance(event, Text))
    return Said(text, "".join(event.text for event in events if isinstance(event, Thinking)), end)


def turn(question: str) -> str:
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


def endless(number: int) -> CompletionCall:
    """Its answer goes on to the end of the context."""
    return CompletionCall(ENDLESS[number % 4] * (4 + number // 4), GREEDY)


async def alone(calls: list[CompletionCall], log: Path, config: EngineConfig = CONFIG) -> list[Said]:
    """What an engine says that does one after the other."""
    async with scheduled(replace(config, slots=1), log) as (engine, _):
        return [await said(engine.complete(call)) for call in calls]


def same(one: Said, other: Said) -> bool:
    """Whether two answers are one, their counts included."""
    a, b = one.end, other.end
    counts = (a.reason, a.prompt_tokens, a.generated_tokens) == (b.reason, b.prompt_tokens, b.generated_tokens)
    return counts and (one.text, one.thought) == (other.text, other.thought)


async def test_answers_that_outgrow_the_pool_are_paused_and_are_the_same(tmp_path: Path) -> None:
    calls = [endless(number) for number in range(5)]
    expected = await alone(calls, tmp_path / "alone")
    assert all(answer.end.reason == "length" and answer.end.generated_tokens > 200 for answer in expected)
    async with scheduled(replace(CONFIG, pool_tokens=768), tmp_path / "log") as (engine, _):
        together = await asyncio.gather(*(said(engine.complete(call)) for call in calls))
        assert engine.load.pauses > 0
        assert engine.load.pool_in_use == engine.load.slots_in_use == engine.load.queue == 0
    assert [same(one, other) for one, other in zip(expected, together, strict=True)] == [True] * 5


HELD = OutputFormat(grammar="root ::= [a-z ]*")


async def test_answers_that_can_be_paused_run_in_what_reservations_do_not_use_yet(tmp_path: Path) -> None:
    """Each of those that are held to a grammar may come to have a whole context, and the pool has two."""
    calls = [replace(endless(number), output=HELD) for number in (0, 1)] + [endless(3), endless(0)]
    expected = await alone(calls, tmp_path / "alone")
    async with scheduled(replace(CONFIG, pool_tokens=512), tmp_path / "log") as (engine, _):
        async with aclosing(engine.complete(calls[0])) as one, aclosing(engine.complete(calls[1])) as two:
            batches = [[await anext(one)], [await anext(two)]]
            short = await said(engine.complete(replace(endless(2), sampling=replace(GREEDY, max_tokens=2))))
            assert short.end.generated_tokens == 2
            others = [asyncio.create_task(said(engine.complete(calls[number]))) for number in (2, 3)]
            held = [await said(_rest(*both)) for both in zip(batches, (one, two), strict=True)]
        together = [*held, *await asyncio.gather(*others)]
        assert engine.load.pauses > 0
    assert [same(one, other) for one, other in zip(expected, together, strict=True)] == [True] * 4


async def _rest(batches: list[Batch], stream: AsyncGenerator[Batch, None]) -> AsyncGenerator[Batch, None]:
    for batch in batches:
        yield batch
    async for batch in stream:
        yield batch


async def test_an_answer_of_bounded_length_reserves_no_more_than_that(tmp_path: Path) -> None:
    bounded = CompletionCall("x x x x x", GREEDY, OutputFormat(grammar="root ::= [a-z ]{1,40}"))
    async with scheduled(replace(CONFIG, pool_tokens=256), tmp_path / "log") as (engine, _):
        async with aclosing(engine.complete(bounded)) as stream:
            await anext(stream)
            assert engine.load.pool_in_use < 60
        together = await asyncio.gather(*(said(engine.complete(bounded)) for _ in range(4)))
        assert all(1 <= len(answer.text) <= 40 and answer.end.reason == "stop" for answer in together)


async def test_stop_strings_and_limits_hold_across_pauses(tmp_path: Path) -> None:
    stop = replace(
        endless(2), sampling=replace(GREEDY, stop=("never said", "d e f ga b c d e f ga b c d e f ga b c d e f ga"))
    )
    limit = replace(endless(1), sampling=replace(GREEDY, max_tokens=200))
    thought = replace(endless(3), thoughts=Thoughts("<think>", "</think>", inside=True))
    calls = [stop, limit, thought, *(endless(number) for number in range(3))]
    expected = await alone(calls, tmp_path / "alone")
    assert expected[0].end.reason == "stop"
    assert expected[1].end.generated_tokens == 200
    assert "ha ha ha" in expected[2].thought
    async with scheduled(replace(CONFIG, pool_tokens=768), tmp_path / "log") as (engine, _):
        together = await asyncio.gather(*(said(engine.complete(call)) for call in calls))
        assert engine.load.pauses > 0
    assert [(a.text, a.thought, a.end.reason) for a in together] == [
        (a.text, a.thought, a.end.reason) for a in expected
    ]


async def test_thirty_two_clients_of_whom_some_hang_up_get_their_undisturbed_answers(tmp_path: Path) -> None:
    rng = random.Random(1)
    calls = [
        endless(rng.randrange(8))
        if rng.random() < 0.3
        else CompletionCall(turn("Hello, who are you?"), replace(GREEDY, max_tokens=rng.randrange(1, 40)))
        for _ in range(32)
    ]
    expected = await alone(calls, tmp_path / "alone")

    async def client(number: int) -> bool:
        if number % 5 != 4:
            return same(await said(engine.complete(calls[number])), expected[number])
        async with aclosing(engine.complete(calls[number])) as stream:  # this one hangs up
            async for _ in stream:
                break
        return True

    async with scheduled(replace(CONFIG, pool_tokens=1024), tmp_path / "log") as (engine, _):
        assert await asyncio.gather(*map(client, range(32))) == [True] * 32
        state = engine.load
        assert state.slots_in_use == state.queue == state.pool_in_use == 0


async def test_when_the_engine_is_killed_all_who_wait_hear_of_it(tmp_path: Path) -> None:
    async with scheduled(replace(CONFIG, slots=2, pool_tokens=512), tmp_path / "log") as (engine, process):

        async def client(number: int) -> None:
            async with aclosing(engine.complete(endless(number))) as stream:
                async for _ in stream:
                    os.kill(process.pid, signal.SIGKILL)

        found = await asyncio.gather(*map(client, range(6)), return_exceptions=True)
        assert all(isinstance(error, EngineCrashed | ProcessLookupError) for error in found), found
        assert engine.load.queue == engine.load.slots_in_use == 0


async def test_a_prompt_that_can_never_fit_is_refused_at_once_with_the_numbers(tmp_path: Path) -> None:
    async with scheduled(replace(CONFIG, slots=1), tmp_path / "log") as (engine, _):
        async with aclosing(engine.complete(endless(0))) as busy:
            await anext(busy)
            with pytest.raises(PromptTooLong) as refused:
                await said(engine.complete(CompletionCall(STORY * 20, GREEDY)))
        assert refused.value.num_ctx == 256
        assert refused.value.num_tokens == len(await engine.tokenise(STORY * 20, add_special=True))


async def test_who_finds_the_queue_full_is_told_its_place(tmp_path: Path) -> None:
    line = Line(most=1)
    async with scheduled(replace(CONFIG, slots=1), tmp_path / "log", line) as (engine, _):
        async with aclosing(engine.complete(endless(0))) as busy:
            await anext(busy)
            waiting = asyncio.create_task(said(engine.complete(endless(1))))
            await until_queued(engine, 1)
            with pytest.raises(ServerBusy) as refused:
                await said(engine.complete(endless(2)))
            assert refused.value.position == 2
            assert refused.value.retry_after_s >= 1
            assert engine.load.queue == line.waiting == 1
        assert (await waiting).end.generated_tokens > 200
        assert line.waiting == 0


async def until_queued(engine: ScheduledEngine, num: int) -> None:
    """Until ``num`` calls wait; the event loop goes round in the meantime."""
    while engine.load.queue < num:  # noqa: ASYNC110
        await asyncio.sleep(0)


async def test_who_hangs_up_leaves_the_queue_at_once(tmp_path: Path) -> None:
    async with (
        scheduled(replace(CONFIG, slots=1), tmp_path / "log") as (engine, _),
        aclosing(engine.complete(endless(0))) as busy,
    ):
        await anext(busy)
        waiting = asyncio.create_task(said(engine.complete(endless(1))))
        await until_queued(engine, 1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert engine.load.queue == 0


async def test_background_calls_wait_while_others_do(tmp_path: Path) -> None:
    ended: list[str] = []

    async def client(name: str, call: CompletionCall) -> None:
        await said(engine.complete(call))
        ended.append(name)

    async with scheduled(replace(CONFIG, slots=1), tmp_path / "log") as (engine, _):
        async with aclosing(engine.complete(endless(0))) as busy:
            await anext(busy)
            work = CompletionCall("x", replace(GREEDY, max_tokens=1), background=True)
            clients = [asyncio.create_task(client("work", work))]
            clients += [asyncio.create_task(client("live", replace(endless(n), background=False))) for n in (1, 2)]
            await until_queued(engine, 3)
        await asyncio.gather(*clients)
    assert ended == ["live", "live", "work"]


async def test_what_prompts_have_in_common_is_computed_once(tmp_path: Path) -> None:
    config = replace(CONFIG, context=1024)
    calls = [CompletionCall(STORY * 25 + turn(f"{n * 7} dogs?"), replace(GREEDY, max_tokens=4)) for n in range(8)]
    async with scheduled(config, tmp_path / "log") as (engine, process):
        answers = await asyncio.gather(*(said(engine.complete(call)) for call in calls))
        assert engine.load.prefix_leaders == 1
        common = len(await engine.tokenise(STORY * 25, add_special=True))
        assert common > 500
        assert all(answer.end.cached_tokens >= common - 2 for answer in answers)
        assert [answer.end.prompt_tokens for answer in answers] == [
            len(await engine.tokenise(call.prompt, add_special=True)) for call in calls
        ]
        again = await said(engine.complete(CompletionCall(STORY * 25 + turn("Why?"), replace(GREEDY, max_tokens=4))))
        assert again.end.cached_tokens >= common - 2
        folder = process.states
        assert list(folder.iterdir())
    assert not folder.exists()
    expected = await alone(calls, tmp_path / "alone", config)
    assert [answer.text for answer in answers] == [answer.text for answer in expected]


async def test_a_growing_conversation_is_read_where_it_has_grown(tmp_path: Path) -> None:
    async with scheduled(replace(CONFIG, context=1024), tmp_path / "log") as (engine, _):
        prompt, before = STORY * 12, 0
        for number in range(4):
            answer = await said(engine.complete(CompletionCall(prompt, replace(GREEDY, max_tokens=4))))
            assert answer.end.cached_tokens >= before - 4
            prompt, before = prompt + answer.text + turn(f"And then {number}?"), answer.end.prompt_tokens
        assert engine.load.prefix_leaders == 0


async def test_chats_wait_their_turn_and_are_the_engines_own(tmp_path: Path) -> None:
    questions = ["Hello, who are you?", "What can you do?", "Hello!"] * 3
    calls = [
        ChatCall(Conversation((Message("user", q),), thinking=True), replace(GREEDY, max_tokens=60)) for q in questions
    ]
    async with run_engine(CONFIG, log=tmp_path / "bare") as process:
        bare = [await said(LlamaEngine(CONFIG, process).chat(call)) for call in calls[:3]] * 3
    async with scheduled(replace(CONFIG, slots=2), tmp_path / "log") as (engine, _):
        answers = await asyncio.gather(*(said(engine.chat(call)) for call in calls))
    assert [same(one, other) for one, other in zip(bare, answers, strict=True)] == [True] * 9


CHATS = ("Hello, who are you?", "What can you do?", "Hello!", "Thank you", "Tell me about Corral")


async def test_chats_that_are_paused_are_the_engines_own(tmp_path: Path, endless_weights: Path) -> None:
    """With a template that thinks, and with one that does not, whose answers have no end of their own."""
    thinking = [ChatCall(Conversation((Message("user", q),), thinking=True), GREEDY) for q in CHATS]
    endless_chats = [
        ChatCall(Conversation((Message("user", q),)), replace(GREEDY, stop=("never said",))) for q in CHATS
    ]
    for name, weights, calls in (("tiny", TINY_FILE, thinking), ("endless", endless_weights, endless_chats)):
        config = replace(CONFIG, weights=weights)
        async with run_engine(config, log=tmp_path / f"bare-{name}") as process:
            bare = [await said(LlamaEngine(config, process).chat(call)) for call in calls]
        async with scheduled(replace(config, pool_tokens=512), tmp_path / name) as (engine, _):
            answers = await asyncio.gather(*(said(engine.chat(call)) for call in calls))
            assert name == "tiny" or engine.load.pauses > 0
        assert [(a.text, a.thought, a.end.reason) for a in answers] == [(a.text, a.thought, a.end.reason) for a in bare]
        assert [a.end.generated_tokens for a in answers] == [a.end.generated_tokens for a in bare]
