"""Several answers as one stream: their order, what one failure does, and what is left when nobody listens any more."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import anyio
import pytest

from corral.engine.base import Batch, Finished, Text
from corral.errors import EngineCrashed
from corral.runtime.choices import AT_A_TIME, Said, together

pytestmark = pytest.mark.anyio


class Counted:
    """Answers that know how many of them are under way."""

    def __init__(self) -> None:
        self.now = self.most = self.begun = 0

    async def answer(self, words: int, *, fails: bool = False) -> AsyncGenerator[Batch, None]:
        self.now += 1
        self.begun += 1
        self.most = max(self.most, self.now)
        try:
            for number in range(words):
                await anyio.lowlevel.checkpoint()
                yield [Text(str(number))]
            if fails:
                raise EngineCrashed("it died")
            yield [Finished("stop")]
        finally:
            await anyio.lowlevel.checkpoint()
            self.now -= 1


def texts(said: list[Said], index: int) -> str:
    return "".join(e.text for s in said if s.index == index for e in s.batch if isinstance(e, Text))


@pytest.mark.parametrize("count", [1, 3, 40])
async def test_every_answer_is_whole_in_its_own_order_and_one_piece_is_the_last(count: int) -> None:
    counted = Counted()
    said = [piece async for piece in together([counted.answer(index % 5) for index in range(count)])]
    assert [texts(said, index) for index in range(count)] == ["0123"[: index % 5] for index in range(count)]
    assert [piece.last for piece in said] == [False] * (len(said) - 1) + [True]
    assert (counted.now, counted.begun) == (0, count)
    assert counted.most <= AT_A_TIME


@pytest.mark.parametrize("count", [1, 3, 40])
async def test_the_first_failure_ends_all_answers(count: int) -> None:
    counted = Counted()
    answers = [counted.answer(100), *(counted.answer(2, fails=True) for _ in range(count))]
    with pytest.raises(EngineCrashed, match="it died"):
        async for _ in together(answers):
            pass
    assert counted.now == 0


@pytest.mark.parametrize("count", [1, 3, 40])
async def test_nothing_goes_on_when_the_stream_is_closed(count: int) -> None:
    counted = Counted()
    async with aclosing(together([counted.answer(100) for _ in range(count)])) as stream:
        async for _ in stream:
            break
        assert counted.now > 0
    assert counted.now == 0


async def test_nothing_goes_on_when_whoever_listens_is_cancelled() -> None:
    counted = Counted()
    with anyio.CancelScope() as scope:
        async with aclosing(together([counted.answer(100) for _ in range(5)])) as stream:
            async for _ in stream:
                scope.cancel()
    assert scope.cancelled_caught
    assert counted.now == 0
