"""Lists of texts on their way to an engine, which here only notes what it is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import anyio
import pytest

from corral.engine.base import Embeddings, Engine, Parcels
from corral.errors import InputTooLong, PromptTooLong
from corral.library import ModelSpec
from corral.runtime.embedding import embed, packed
from corral.runtime.requests import EmbedRequest, in_background

pytestmark = pytest.mark.anyio


class Noting:
    """An engine whose tokens are bytes, and whose vectors are how many there are of them. A batch has room for ``batch``."""

    def __init__(self, batch: int = 10_000) -> None:
        self.batch = batch
        self.calls: list[int] = []
        self.requests: list[Parcels | None] = []
        self.asked = anyio.Event()
        self.answers = True

    async def embed(self, inputs: Sequence[str | Sequence[int]], request: Parcels | None = None) -> Embeddings:
        self.calls.append(len(inputs))
        self.requests.append(request)
        longest = max(map(len, inputs))
        if longest > self.batch:
            raise PromptTooLong(longest, self.batch)
        if not self.answers:
            self.asked.set()
            await anyio.sleep_forever()
        return Embeddings([[float(len(text))] for text in inputs], sum(map(len, inputs)))

    async def tokenise(self, text: str, *, add_special: bool = False) -> list[int]:
        return list(text.encode())


def request(texts: Sequence[str], **fields: Any) -> EmbedRequest:
    return EmbedRequest(spec=cast(ModelSpec, None), texts=tuple(texts), **fields)


async def test_thousands_of_texts_are_several_calls_and_keep_their_order() -> None:
    engine = Noting()
    texts = ["x" * (number % 40) for number in range(3000)]
    found = await embed(cast(Engine, engine), request(texts), 100)
    assert [vector[0] for vector in found.vectors] == [float(len(text)) for text in texts]
    assert found.tokens == sum(map(len, texts))
    assert sum(engine.calls) == 3000
    assert max(engine.calls) == 256


async def test_the_parcels_of_a_batch_are_one_request_in_the_background() -> None:
    engine = Noting()
    token = in_background.set(True)
    try:
        asked = request(["x"] * 300)
    finally:
        in_background.reset(token)
    await embed(cast(Engine, engine), asked, 100)
    first, second = engine.requests
    assert first is second
    assert first is not None
    assert first.background


def test_a_parcel_is_bounded_by_bytes_too() -> None:
    assert [len(parcel) for parcel in packed(["é" * 10_000] * 7)] == [3, 3, 1]
    assert packed(["x" * 1_000_000]) == [range(1)]
    assert packed([]) == []


async def test_what_is_cut_is_told_by_its_place_in_the_whole_list() -> None:
    texts = ["short"] * 300
    texts[299] = "x" * 500
    found = await embed(cast(Engine, Noting()), request(texts), 100)
    assert (found.cut, found.vectors[299]) == ((299,), [100.0])
    with pytest.raises(InputTooLong) as caught:
        await embed(cast(Engine, Noting()), request(texts, truncate=False), 100)
    assert (caught.value.position, caught.value.num_tokens) == (299, 500)


async def test_a_batch_that_is_smaller_than_the_context_is_found_out_once() -> None:
    engine = Noting(batch=50)
    texts = ["x" * 60] * 600
    found = await embed(cast(Engine, engine), request(texts), 100)
    assert found.cut == tuple(range(600))
    assert engine.calls == [256, 256, 256, 88]


async def test_a_client_that_hangs_up_ends_the_rest() -> None:
    engine = Noting()
    engine.answers = False
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(embed, cast(Engine, engine), request(["x"] * 5000), 100)
        await engine.asked.wait()
        tasks.cancel_scope.cancel()
    assert engine.calls == [256]
