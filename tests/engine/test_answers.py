"""What the engine streams, read as events. The objects are those that llama.cpp's server sends."""

from __future__ import annotations

import random
from typing import Any

import pytest

from corral.engine.answers import CompletionAnswer
from corral.engine.base import CompletionCall, Event, Finished, Sampling, Text, Thinking, Thoughts

THINK = Thoughts("<think>", "</think>", inside=True)


def objects(text: str, chooser: random.Random, stop_type: str = "eos") -> list[dict[str, Any]]:
    """A stream of ``text`` in pieces, each a token with its log-probability."""
    sent: list[dict[str, Any]] = []
    while text:
        size = chooser.randint(1, 5)
        piece, text = text[:size], text[size:]
        logprob = {"token": piece, "bytes": list(piece.encode()), "logprob": -0.5, "top_logprobs": []}
        sent.append(
            {"content": piece, "completion_probabilities": [logprob], "timings": {"predicted_n": len(sent) + 1}}
        )
    return [*sent, {"content": "", "stop": True, "stop_type": stop_type, "timings": {"predicted_n": len(sent)}}]


def read(call: CompletionCall, sent: list[dict[str, Any]]) -> tuple[str, str, list[str], Finished]:
    """The thought, the answer, the tokens that log-probabilities tell of, and the end."""
    answer = CompletionAnswer(call)
    events: list[Event] = [event for data in sent for event in answer.read(data)]
    assert answer.finished
    end = events[-1]
    assert isinstance(end, Finished)
    thought = "".join(event.text for event in events if isinstance(event, Thinking))
    text = "".join(event.text for event in events if isinstance(event, Text))
    tokens = [entry.token for event in events if isinstance(event, Text | Thinking) for entry in event.logprobs]
    return thought, text, tokens, end


@pytest.mark.parametrize("seed", range(20))
def test_thought_and_answer_are_told_apart_and_all_that_was_written_is_known(seed: int) -> None:
    written = "a STOP b\n</think>\n\nthe answer"
    call = CompletionCall("", Sampling(stop=("STOP",), top_logprobs=0), thoughts=THINK)
    thought, text, tokens, end = read(call, objects(written, random.Random(seed)))
    assert (thought, text, end.written) == ("a STOP b\n", "the answer", written)
    assert "".join(tokens) == written
    assert end.reason == "stop"


@pytest.mark.parametrize("seed", range(20))
def test_a_stop_string_ends_the_answer_and_what_is_said_to_be_written(seed: int) -> None:
    call = CompletionCall("", Sampling(stop=("STOP", "nowhere")), thoughts=THINK)
    thought, text, _, end = read(call, objects("hm</think> one STO STOP two", random.Random(seed), "limit"))
    assert (thought, text) == ("hm", "one STO ")
    assert end.written == "hm</think> one STO "
    assert end.reason == "stop"


@pytest.mark.parametrize("seed", range(20))
def test_tokens_of_a_thought_are_those_before_the_first_of_the_answer(seed: int) -> None:
    sent = objects("hm\n</think>\n\nanswer", random.Random(seed))
    _, _, _, end = read(CompletionCall("", Sampling(), thoughts=THINK), sent)
    before = length = 0
    while length + len(sent[before]["content"]) <= len("hm\n</think>\n\n"):
        length += len(sent[before]["content"])
        before += 1
    assert end.thinking_tokens == before
    assert end.generated_tokens == len(sent) - 1


def test_an_answer_that_is_all_thought_counts_as_one_and_one_without_as_none() -> None:
    _, _, _, cut = read(CompletionCall("", Sampling(), thoughts=THINK), objects("hmm hmm", random.Random(1), "limit"))
    assert cut.thinking_tokens == cut.generated_tokens > 0
    plain = CompletionCall("", Sampling(), thoughts=Thoughts("<think>", "</think>"))
    assert read(plain, objects("an answer", random.Random(1)))[3].thinking_tokens == 0


def test_an_answer_without_a_thought_is_all_answer_even_if_it_begins_like_a_tag() -> None:
    call = CompletionCall("", Sampling(stop=("zzz",)), thoughts=Thoughts("<think>", "</think>"))
    thought, text, _, end = read(call, objects("<thin zz", random.Random(0)))
    assert (thought, text, end.written) == ("", "<thin zz", "<thin zz")


def test_a_limit_is_told_from_an_end() -> None:
    _, _, _, end = read(CompletionCall("", Sampling(), thoughts=THINK), objects("hm", random.Random(0), "limit"))
    assert end.reason == "length"
