"""The scheduler on real engines with Tiny, whose greedy answers alone are the measure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from corral.engine.base import (
    Batch,
    CompletionCall,
    EngineConfig,
    Finished,
    Sampling,
    Text,
    Thinking,
)
from corral.engine.llama import LlamaEngine
from corral.engine.process import EngineProcess, run_engine
from corral.runtime.scheduling import Line, ScheduledEngine
from corral.tiny import TINY_FILE

pytestmark = pytest.mark.anyio
CONFIG = EngineConfig(weights=TINY_FILE, context=1024, slots=8, threads=1)
GREEDY = Sampling(temperature=0)
STORY = "Once there was a dog who lived by the sea. Every day the dog walked to the water and looked at the boats. "


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


def endless(number: int, size: int = 5) -> CompletionCall:
    """Its answer goes on to the end of the context, as numbers do."""
    return CompletionCall(f"{STORY * size}\n{number}, {number + 1}, {number + 2},", GREEDY)


async def test_answers_that_outgrow_the_pool_are_paused_and_are_the_same(tmp_path: Path) -> None:
    calls = [endless(number, 1 + number % 3) for number in range(6)]
    async with scheduled(replace(CONFIG, slots=1), tmp_path / "alone") as (engine, _):
        alone = [await said(engine.complete(call)) for call in calls]
    assert all(answer.end.generated_tokens > 400 for answer in alone)
    small = replace(CONFIG, pool_tokens=2048)
    async with scheduled(small, tmp_path / "log") as (engine, _):
        together = await asyncio.gather(*(said(engine.complete(call)) for call in calls))
        assert engine.state.pauses > 0
        assert engine.state.pool_in_use == engine.state.slots_in_use == engine.state.queue == 0
    for one, other in zip(alone, together, strict=True):
        assert other.text == one.text
        assert other.end.reason == one.end.reason
        assert (other.end.prompt_tokens, other.end.generated_tokens) == (
            one.end.prompt_tokens,
            one.end.generated_tokens,
        )
