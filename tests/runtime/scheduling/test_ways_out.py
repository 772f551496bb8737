"""Calls that end in every way they can: who waits for them goes on, and nothing is kept of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import cast

import pytest
from PIL import Image

from bench.models import Shape, make
from corral.engine.base import (
    Batch,
    ChatCall,
    CompletionCall,
    Conversation,
    EngineConfig,
    Finished,
    Message,
    Text,
    Thoughts,
)
from corral.engine.hold import Hold, Released
from corral.engine.llama import LlamaEngine
from corral.engine.process import run_engine
from corral.errors import EngineRefused, ServerBusy
from corral.runtime.scheduling import Line, ScheduledEngine
from corral.tiny import TINY_FILE
from tests.projectors import IMAGE_TOKENS, make_vision
from tests.runtime.scheduling.test_engine import (
    CONFIG,
    ENDLESS,
    GREEDY,
    alone,
    endless,
    said,
    same,
    scheduled,
    until_queued,
)

pytestmark = pytest.mark.anyio


@dataclass
class Stage:
    """An engine on which nothing happens until it is told; a token of its vocabulary is a word."""

    config: EngineConfig = field(default_factory=lambda: EngineConfig(TINY_FILE, context=4096, slots=4))
    go: asyncio.Event = field(default_factory=asyncio.Event)
    read: list[int] = field(default_factory=list)  # the length of each prompt that was read, prefixes too
    kept: set[str] = field(default_factory=set)
    emptied: list[int] = field(default_factory=list)
    refuses_to_restore: bool = False

    async def _until_told(self, hold: Hold) -> None:
        released = asyncio.Event()
        hold.begin(released.set)
        waits = [asyncio.ensure_future(event.wait()) for event in (self.go, released)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if hold.released:
            raise Released

    async def complete(self, call: CompletionCall, hold: Hold) -> AsyncGenerator[Batch, None]:
        self.read.append(len(str(call.prompt).split()))
        await self._until_told(hold)
        hold.hear([{"content": "a"}])
        yield [Text("a")]
        yield [Finished("stop")]

    async def read_prefix(self, tokens: Sequence[int], hold: Hold) -> int:
        self.read.append(len(tokens))
        await self._until_told(hold)
        hold.hear([{"stop": True}])
        return 0

    async def tokenise(self, text: str, *, add_special: bool = False) -> list[int]:
        return [hash(word) for word in text.split()]

    async def slots(self) -> list[bool]:
        return [False]

    async def idle_slots(self) -> list[tuple[int, int]]:
        return [(slot, 0) for slot in range(self.config.slots)]

    async def save_slot(self, slot: int, name: str) -> int:
        self.kept.add(name)
        return 1

    async def restore_slot(self, slot: int, name: str) -> None:
        if self.refuses_to_restore:
            raise EngineRefused("Unable to restore slot", 400)

    async def empty_slot(self, slot: int) -> None:
        self.emptied.append(slot)

    def forget_slot(self, name: str) -> None:
        self.kept.discard(name)

    def close(self) -> None:
        pass


def on(stage: Stage, line: Line | None = None) -> ScheduledEngine:
    return ScheduledEngine(cast(LlamaEngine, stage), line or Line(512))


def about(subject: str, *, background: bool = False) -> CompletionCall:
    """A call whose beginning is that of all others."""
    return CompletionCall("word " * 400 + subject, replace(GREEDY, max_tokens=4), background=background)


async def until_read(stage: Stage, num: int) -> None:
    while len(stage.read) < num:  # noqa: ASYNC110
        await asyncio.sleep(0)


async def test_a_live_call_that_shares_its_beginning_with_one_in_the_background_does_not_wait_for_ever() -> None:
    stage = Stage()
    engine = on(stage)
    background = asyncio.create_task(said(engine.complete(about("work", background=True))))
    await until_read(stage, 1)
    live = asyncio.create_task(said(engine.complete(about("talk"))))
    await until_queued(engine, 2)
    stage.go.set()
    await asyncio.gather(live, background)
    assert engine.load.prefix_leaders == 1
    assert engine.load.queue == engine.load.pool_in_use == 0


async def test_a_leader_that_was_let_go_and_is_wanted_again_at_once_begins_again() -> None:
    stage = Stage()
    engine = on(stage)
    clients = [asyncio.create_task(said(engine.complete(about("one"))))]
    await until_read(stage, 1)
    clients.append(asyncio.create_task(said(engine.complete(about("two")))))
    await until_read(stage, 2)
    for client in clients:
        client.cancel()
    another = asyncio.create_task(said(engine.complete(about("three"))))
    await asyncio.gather(*clients, return_exceptions=True)
    await until_read(stage, 3)
    stage.go.set()
    await another
    assert engine.load.queue == engine.load.pool_in_use == 0


async def test_nobody_computes_a_beginning_that_nobody_waits_for_any_more() -> None:
    stage = Stage(EngineConfig(TINY_FILE, context=4096, slots=1))
    engine = on(stage)
    busy = asyncio.create_task(said(engine.complete(CompletionCall("other", replace(GREEDY, max_tokens=4)))))
    await until_read(stage, 1)
    clients = [asyncio.create_task(said(engine.complete(about(subject)))) for subject in ("one", "two")]
    await until_queued(engine, 2)
    for client in clients:
        client.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert engine.load.queue == 0
    stage.go.set()
    await busy
    assert stage.read == [1]


async def test_who_computes_a_beginning_takes_nobodys_place_in_the_queue() -> None:
    stage, line = Stage(EngineConfig(TINY_FILE, context=4096, slots=1)), Line(most=3)
    engine = on(stage, line)
    small = CompletionCall("other", replace(GREEDY, max_tokens=4))
    clients = [asyncio.create_task(said(engine.complete(small)))]
    await until_read(stage, 1)
    clients += [asyncio.create_task(said(engine.complete(call))) for call in (about("one"), about("two"), small)]
    await until_queued(engine, 3)
    assert line.waiting == 3
    with pytest.raises(ServerBusy) as refused:
        await said(engine.complete(small))
    assert refused.value.position == 4
    stage.go.set()
    await asyncio.gather(*clients)
    assert engine.load.prefix_leaders == 1


async def test_a_state_that_cannot_be_restored_is_forgotten_and_all_are_answered() -> None:
    stage = Stage(refuses_to_restore=True)
    engine = on(stage)
    clients = [asyncio.create_task(said(engine.complete(about(subject)))) for subject in ("one", "two", "three")]
    await until_queued(engine, 1)
    stage.go.set()
    await asyncio.gather(*clients)
    assert engine.load.prefix_leaders == 1
    assert stage.kept == set()
    assert engine.load.queue == engine.load.pool_in_use == 0


async def test_a_prompt_that_nobody_read_is_not_thought_to_be_in_a_slot() -> None:
    stage = Stage(EngineConfig(TINY_FILE, context=4096, slots=1))
    engine = on(stage)
    busy = asyncio.create_task(said(engine.complete(CompletionCall("other", replace(GREEDY, max_tokens=4)))))
    await until_read(stage, 1)
    waiting = asyncio.create_task(said(engine.complete(about("none"))))
    await until_queued(engine, 1)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    stage.go.set()
    await busy
    await asyncio.gather(*(said(engine.complete(about(subject))) for subject in ("one", "two")))
    assert engine.load.prefix_leaders == 1


async def test_who_asks_for_progress_is_counted_as_the_engine_counts(tmp_path: Path) -> None:
    """The prompts are longer than a batch, and the pool is too small for all answers."""
    config = replace(CONFIG, context=768, slots=4, pool_tokens=1280)
    progress = replace(GREEDY, progress=True)
    calls = [CompletionCall(ENDLESS[number] * 48, progress) for number in range(3)]
    expected = await alone(calls, tmp_path / "alone", config)
    assert sum(answer.end.prompt_tokens > 256 and answer.end.reason == "length" for answer in expected) >= 1
    async with scheduled(config, tmp_path / "log") as (engine, _):
        together = await asyncio.gather(*(said(engine.complete(call)) for call in calls))
        assert engine.load.pauses > 0
    for one, other in zip(expected, together, strict=True):
        assert (other.end.prompt_tokens, other.end.generated_tokens) == (
            one.end.prompt_tokens,
            one.end.generated_tokens,
        )


async def test_the_tokens_of_a_thought_are_counted_across_pauses(tmp_path: Path) -> None:
    calls = [replace(endless(number), thoughts=Thoughts("<think>", "</think>", inside=True)) for number in range(5)]
    expected = await alone(calls, tmp_path / "alone")
    assert all(answer.end.thinking_tokens > 200 for answer in expected)
    async with scheduled(replace(CONFIG, pool_tokens=768), tmp_path / "log") as (engine, _):
        together = await asyncio.gather(*(said(engine.complete(call)) for call in calls))
        assert engine.load.pauses > 0
    assert [a.end.thinking_tokens for a in together] == [a.end.thinking_tokens for a in expected]


async def test_an_image_holds_the_tokens_that_it_takes_and_not_a_whole_context(tmp_path: Path) -> None:
    config = replace(CONFIG, context=1024, pool_tokens=1024, projector=make_vision(tmp_path / "vision.gguf"))
    image = image_bytes()
    call = CompletionCall("[img-0] What is it?", replace(GREEDY, max_tokens=20), images=(image,))
    async with scheduled(config, tmp_path / "log") as (engine, _):
        async with aclosing(engine.complete(call)) as stream:
            await anext(stream)
            assert IMAGE_TOKENS <= engine.load.pool_in_use - 20 < 100
        together = await asyncio.gather(*(said(engine.complete(call)) for _ in range(3)))
        assert {answer.text for answer in together} == {together[0].text}


async def test_a_chat_of_a_model_whose_prompts_begin_with_a_token_is_the_engines_own(tmp_path: Path) -> None:
    """As a completion of its prompt the engine would begin it twice."""
    shape = Shape(2, 128, 2, 1, 64, 256, vocabulary=4096)
    config = replace(CONFIG, weights=make(shape, tmp_path / "begins.gguf", begins=True), slots=2, pool_tokens=256)
    calls = [ChatCall(Conversation((Message("user", text),)), replace(GREEDY, max_tokens=150)) for text in ("a", "b")]
    async with run_engine(config, log=tmp_path / "log") as process:
        bare = LlamaEngine(config, process)
        assert await bare.beginning()
        expected = [await said(bare.chat(call)) for call in calls]
        with closing(ScheduledEngine(bare, Line(512))) as engine:
            together = await asyncio.gather(*(said(engine.chat(call)) for call in calls))
    assert [same(one, other) for one, other in zip(expected, together, strict=True)] == [True, True]


def image_bytes() -> bytes:
    """A small image."""
    file = BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "PNG")
    return file.getvalue()
