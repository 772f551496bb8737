from __future__ import annotations

import random

import pytest

from corral.parsing import StopMatcher, ThinkingSplitter, thinking_tags


def cut(text: str, seed: int) -> list[str]:
    """``text`` in pieces of one to four characters."""
    chooser, pieces = random.Random(seed), []
    while text:
        size = chooser.randint(1, 4)
        pieces.append(text[:size])
        text = text[size:]
    return pieces


def split(splitter: ThinkingSplitter, pieces: list[str]) -> tuple[str, str]:
    found = [piece for text in pieces for piece in splitter.feed(text)] + splitter.flush()
    return "".join(t for kind, t in found if kind == "thinking"), "".join(t for kind, t in found if kind == "text")


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(
    ("text", "inside", "thinking", "answer"),
    [
        ("<think>\nhm</think>\n\nyes", False, "hm", "yes"),
        ("hm\n</think>\n\nyes", True, "hm\n", "yes"),
        ("\n hm</think>yes", True, "hm", "yes"),
        ("  no thought", False, "", "  no thought"),
        ("no thought <think>at all", False, "", "no thought <think>at all"),
        ("never closed </thin", True, "never closed </thin", ""),
        ("  \n<think>a</think>b</think>c", False, "a", "b</think>c"),
        ("<thin", False, "", "<thin"),
        ("", False, "", ""),
        ("only</think>", True, "only", ""),
    ],
)
def test_thoughts_are_told_from_answers_wherever_the_pieces_are_cut(
    text: str, inside: bool, thinking: str, answer: str, seed: int
) -> None:
    assert split(ThinkingSplitter("<think>", "</think>", inside=inside), cut(text, seed)) == (
        thinking,
        answer,
    )


@pytest.mark.parametrize("seed", range(20))
def test_a_stop_ends_the_text_before_it_and_nothing_is_shown_too_early(seed: int) -> None:
    matcher, shown, stopped = StopMatcher(["STOP", "END"]), "", False
    for piece in cut("a STo STOnope EN STOP more", seed):
        text, stopped = matcher.feed(piece)
        shown += text
        if stopped:
            break
    assert (shown, stopped) == ("a STo STOnope EN ", True)


def test_what_was_held_back_is_given_when_no_stop_came() -> None:
    matcher = StopMatcher(["STOP"])
    assert matcher.feed("half a ST") == ("half a ", False)
    assert matcher.flush() == "ST"


def test_an_empty_stop_is_none() -> None:
    assert StopMatcher([""]).feed("text") == ("text", False)


def test_an_open_thought_is_seen_at_the_end_of_a_prompt() -> None:
    assert thinking_tags("assistant\n[THINK]") == ("[THINK]", "[/THINK]")
    assert thinking_tags("assistant\n<think>\n\n</think>\n\n") is None
