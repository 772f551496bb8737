"""Images and sounds at the seam: how many tokens they take, and where a prompt has them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from corral.engine.base import ChatCall, CompletionCall, Conversation, EngineConfig, Finished, Message, Sampling
from corral.engine.llama import LlamaEngine
from corral.engine.process import run_engine
from corral.errors import EngineRefused, PromptTooLong
from corral.tiny import TINY_FILE
from tests.projectors import IMAGE_TOKENS, SOUND_TOKENS, make_both
from tests.server.media.samples import coloured, file_of, tone

pytestmark = pytest.mark.anyio

RED, BLUE = file_of(coloured("red")), file_of(coloured("blue"))
GREEDY = Sampling(temperature=0, max_tokens=1)


@asynccontextmanager
async def sensing(tmp_path: Path) -> AsyncIterator[LlamaEngine]:
    config = EngineConfig(weights=TINY_FILE, projector=make_both(tmp_path / "both.gguf"), context=512, slots=2)
    async with run_engine(config, log=tmp_path / "engine.log") as process:
        yield LlamaEngine(config, process)


async def prompt_tokens(engine: LlamaEngine, call: ChatCall | CompletionCall) -> int:
    stream = engine.chat(call) if isinstance(call, ChatCall) else engine.complete(call)
    events = [event async for batch in stream for event in batch]
    assert isinstance(events[-1], Finished)
    return events[-1].prompt_tokens


async def test_what_an_image_takes_is_told_before_and_bounds_what_it_takes(tmp_path: Path) -> None:
    async with sensing(tmp_path) as engine:
        text = Conversation((Message("user", "Hello"),))
        without = await prompt_tokens(engine, ChatCall(text, GREEDY))
        for media, least in (((RED,), IMAGE_TOKENS), ((RED, BLUE), 2 * IMAGE_TOKENS), ((tone(300),), SOUND_TOKENS)):
            counted = sum([await engine.media_tokens(data) for data in media])
            images, audio = ((), media) if media[0][:4] == b"RIFF" else (media, ())
            seen = Conversation((Message("user", "Hello", images=images, audio=audio),))
            taken = await prompt_tokens(engine, ChatCall(seen, GREEDY)) - without
            assert least <= taken <= counted <= taken + 4
        assert await engine.media_tokens(tone(300, 40)) > await engine.media_tokens(tone(300))


async def test_a_rendered_prompt_can_be_completed_as_it_stands(tmp_path: Path) -> None:
    async with sensing(tmp_path) as engine:
        turns = (Message("user", "a", images=(RED, BLUE)), Message("user", "b", audio=(tone(300),)))
        conversation = Conversation(turns)
        prompt = await engine.apply_template(conversation)
        assert [prompt.count(f"[img-{n}]") for n in range(4)] == [1, 1, 1, 0]
        as_text = CompletionCall(prompt, GREEDY, images=conversation.media)
        assert await prompt_tokens(engine, as_text) == await prompt_tokens(engine, ChatCall(conversation, GREEDY))


async def test_images_that_do_not_fit_are_a_prompt_that_is_too_long(tmp_path: Path) -> None:
    async with sensing(tmp_path) as engine:
        many = Conversation((Message("user", "a", images=(RED, BLUE) * 30),))
        with pytest.raises(PromptTooLong) as caught:
            await prompt_tokens(engine, ChatCall(many, GREEDY))
        assert caught.value.num_tokens > 512
        text = CompletionCall(await engine.apply_template(many), GREEDY, images=many.media)
        with pytest.raises(PromptTooLong):
            await prompt_tokens(engine, text)
        assert await engine.health()


async def test_an_engine_starts_with_a_least_size_of_images(tmp_path: Path) -> None:
    projector = make_both(tmp_path / "both.gguf")
    config = EngineConfig(weights=TINY_FILE, projector=projector, image_min_tokens=16, context=512)
    async with run_engine(config, log=tmp_path / "engine.log") as process:
        assert await LlamaEngine(config, process).media_tokens(RED) >= IMAGE_TOKENS


async def test_what_the_engine_cannot_read_is_a_refusal_and_not_its_end(tmp_path: Path) -> None:
    async with sensing(tmp_path) as engine:
        for data in (b"", b"hello", RED[:40]):
            with pytest.raises(EngineRefused):
                await engine.media_tokens(data)
        odd = replace(Message("user", "a"), images=(b"hello",))
        with pytest.raises(EngineRefused):
            await prompt_tokens(engine, ChatCall(Conversation((odd,)), GREEDY))
        assert await engine.media_tokens(RED) >= IMAGE_TOKENS
