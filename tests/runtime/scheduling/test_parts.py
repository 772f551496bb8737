"""What the scheduler is made of, by itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, cast

import pytest

from corral.engine.base import Batch, CompletionCall, Engine, Finished, Sampling, Text
from corral.errors import EngineCrashed, ServerBusy
from corral.runtime.scheduling.answering import AnswerSoFar
from corral.runtime.scheduling.decoupled import decoupled
from corral.runtime.scheduling.line import Line
from corral.runtime.scheduling.prefixes import Prefixes, most_alike

pytestmark = pytest.mark.anyio


class Tokeniser:
    """An engine that knows a few texts."""

    def __init__(self, texts: Mapping[str, list[int]]) -> None:
        self._texts = texts

    async def tokenise(self, text: str, *, add_special: bool = False) -> list[int]:
        return self._texts[text]


def piece(content: str, tokens: list[int], predicted: int) -> dict[str, Any]:
    timings = {"cache_n": 2, "prompt_n": 3, "prompt_ms": 5.0, "predicted_n": predicted, "predicted_ms": 2.0 * predicted}
    return {"content": content, "tokens": tokens, "stop": False, "timings": timings}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param([195, 169], [20, 195, 169, 21], id="the tokeniser spells it as the model did"),
        pytest.param([9, 195, 169], [20, 195, 169, 21], id="behind a space that some vocabularies add"),
        pytest.param([77], [20, 77, 21], id="in another way: the text is the same"),
    ],
)
async def test_tokens_of_an_unfinished_character_are_found_by_its_text(found: list[int], expected: list[int]) -> None:
    engine = cast(Engine, Tokeniser({"p": [1, 2, 3, 4, 5], "é": found}))
    so_far = AnswerSoFar.of(CompletionCall("p", Sampling(max_tokens=10)), None)
    so_far.hear([piece("a", [20], 1), piece("é", [169], 3), piece("b", [21], 4)])
    assert so_far.num_tokens == 5 + 4
    resumed = await so_far.resumed(engine)
    assert resumed.tokens == [1, 2, 3, 4, 5, *expected]
    assert resumed.room == 6


async def test_the_parts_of_an_answer_are_counted_as_one() -> None:
    so_far = AnswerSoFar.of(CompletionCall("p", Sampling()), [1, 2, 3, 4, 5])
    so_far.hear([piece("a", [20], 1), piece("b", [21], 2)])
    resumed = await so_far.resumed(cast(Engine, Tokeniser({})))
    assert resumed.room is None
    so_far.hear([piece("c", [22], 1)])
    end = Finished("stop", prompt_tokens=7, cached_tokens=6, prompt_ns=1, generated_tokens=3, generated_ns=6_000_000)
    assert so_far.whole(end) == Finished(
        "stop", prompt_tokens=5, cached_tokens=2, prompt_ns=5_000_000, generated_tokens=5, generated_ns=10_000_000
    )


def test_the_longest_beginning_in_common_leaves_a_token_to_compute() -> None:
    found = most_alike([1, 2, 3, 4], [([1, 2, 9], "two"), ([1, 2, 3, 4], "all"), ([7], "none")])
    assert (found.num, found.what) == (3, "all")
    assert most_alike([1], [([2], "other")]).what is None


def test_states_are_kept_up_to_a_size_and_those_in_use_in_any_case() -> None:
    prefixes = Prefixes(100)
    first, second, third = (prefixes.new([n, n, n]) for n in (1, 2, 3))
    for prefix in (first, second):
        prefix.size_bytes = 50
        assert prefixes.keep(prefix) == []
    assert prefixes.best([1, 1, 1, 5]) is first  # used, so the second is the oldest now
    assert prefixes.best([1, 1, 1]) is None  # nothing would be left to compute
    third.size_bytes, first.users = 60, 1
    assert prefixes.keep(third) == [second, third]
    first.users = 0
    assert prefixes.trim() == []
    assert prefixes.best([3, 3, 3, 3]) is None


@pytest.mark.parametrize(
    ("line", "here", "refused"),
    [
        pytest.param(Line(2, waiting=1), 0, False, id="room"),
        pytest.param(Line(2, waiting=2), 0, True, id="the server is full"),
        pytest.param(Line(2, elsewhere=lambda: 2), 0, True, id="those who wait for a model count"),
        pytest.param(Line(100, 3), 3, True, id="the model is full"),
    ],
)
def test_a_queue_is_full_when(line: Line, here: int, refused: bool) -> None:
    if not refused:
        line.check(here, turn_s=10.0, slots=2)
        return
    with pytest.raises(
        ServerBusy, match=r"^server busy, please try again\.  maximum pending requests exceeded"
    ) as busy:
        line.check(here, turn_s=10.0, slots=2)
    assert (busy.value.position, busy.value.retry_after_s) == (here + 1, 5 * (here + 1))


async def test_a_slow_consumer_gets_what_has_come_as_one_and_then_the_error() -> None:
    async def stream() -> AsyncGenerator[Batch, None]:
        yield [Text("a")]
        yield [Text("b")]
        yield [Text("c")]
        raise EngineCrashed("gone")

    batches: list[Batch] = []

    async def consume() -> None:
        async for batch in decoupled(stream()):
            batches.append(batch)

    with pytest.raises(EngineCrashed):
        await consume()
    assert [[event.text for event in batch if isinstance(event, Text)] for batch in batches] == [["a", "b", "c"]]
