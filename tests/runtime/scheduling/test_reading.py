"""Parcels of texts on their way to an engine that only reads."""

from __future__ import annotations

import asyncio

import pytest

from corral.engine.base import Parcels
from corral.errors import ServerBusy
from corral.runtime.scheduling import reading
from corral.runtime.scheduling.line import Line
from corral.runtime.scheduling.reading import ReadingLine

pytestmark = pytest.mark.anyio


class House:
    """A line, and clients whose parcels are read one after the other, each until it is told to end."""

    def __init__(self, most: int = 1, line: Line | None = None) -> None:
        self.line = line or Line(512)
        self.turns = ReadingLine(self.line, most)
        self.read: list[str] = []
        self.may_end = asyncio.Semaphore(0)

    async def client(self, name: str, parcels: int = 1, *, background: bool = False) -> None:
        request = Parcels(background)
        for _ in range(parcels):
            async with self.turns.turn(request):
                self.read.append(name)
                await self.may_end.acquire()

    def start(self, name: str, parcels: int = 1, *, background: bool = False) -> asyncio.Task[None]:
        return asyncio.create_task(self.client(name, parcels, background=background))

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    async def end(self, num: int = 1) -> None:
        for _ in range(num):
            self.may_end.release()
            await self.settle()


async def test_between_two_parcels_of_a_batch_live_requests_go_first() -> None:
    house = House()
    tasks = [house.start("batch", 3, background=True)]
    await house.settle()
    tasks += [house.start("live", 2), house.start("other")]
    await house.end(6)
    await asyncio.gather(*tasks)
    assert house.read == ["batch", "live", "other", "live", "batch", "batch"]


async def test_one_parcel_of_batches_is_read_at_a_time_so_that_there_is_room_for_others() -> None:
    house = House(most=4)
    tasks = [house.start(f"batch {number}", background=True) for number in range(3)]
    await house.settle()
    assert house.read == ["batch 0"]
    tasks.append(house.start("live"))
    await house.settle()
    assert house.read == ["batch 0", "live"]
    await house.end(4)
    await asyncio.gather(*tasks)


async def test_a_parcel_of_a_batch_that_has_waited_long_is_read_among_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reading, "BACKGROUND_PATIENCE_S", 0.0)
    house = House()
    tasks = [house.start("live")]
    await house.settle()
    tasks += [house.start("batch", background=True), house.start("later")]
    await house.settle()
    await house.end(3)
    await asyncio.gather(*tasks)
    assert house.read == ["live", "batch", "later"]


async def test_who_finds_the_line_full_is_told_his_place_and_who_has_begun_is_not_refused() -> None:
    house = House(line=Line(most=512, most_here=1))
    tasks = [house.start("long", 2)]
    await house.settle()
    tasks.append(house.start("waits"))
    await house.settle()
    with pytest.raises(ServerBusy) as refused:
        await house.client("refused")
    assert (refused.value.position, house.line.waiting) == (2, 1)
    await house.end(3)
    await asyncio.gather(*tasks)
    assert house.read == ["long", "waits", "long"]
    assert house.line.waiting == len(house.turns.waiting) == len(house.turns.running) == 0


async def test_who_hangs_up_leaves_the_line_whether_he_waits_or_is_read() -> None:
    house = House()
    first, second, third = house.start("first"), house.start("second"), house.start("third")
    await house.settle()
    second.cancel()
    await house.settle()
    assert (house.line.waiting, len(house.turns.waiting)) == (1, 1)
    first.cancel()
    await house.settle()
    assert house.read == ["first", "third"]
    await house.end()
    await asyncio.gather(first, second, third, return_exceptions=True)
    assert house.line.waiting == len(house.turns.waiting) == len(house.turns.running) == 0
