"""Accuracy per skill on fresh samples, greedy, through the chat API of a running engine.

python recipes/tiny/evaluate.py --url http://127.0.0.1:11434 --model tiny
python recipes/tiny/evaluate.py --gguf tiny.gguf
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import tasks
from chat import Answer, Chat, NativeChat, serve_gguf
from conversation import Message, ToolSchema
from errors import RecipeError

FRESH_SEED = 20261122  # no training phase draws from it
SAMPLES = 60


@dataclass(frozen=True, slots=True)
class Question:
    """An assistant's turn: what comes before it, and what it should be."""

    skill: str
    before: Sequence[Message]
    tools: Sequence[ToolSchema]
    expected: Message


@dataclass(frozen=True, slots=True)
class Miss:
    question: Question
    answer: Answer


@dataclass(frozen=True, slots=True)
class Result:
    skill: str
    correct: int
    total: int
    miss: Miss | None  # the first

    @property
    def percent(self) -> float:
        return 100 * self.correct / self.total


def evaluate(chat: Chat, *, samples: int, seed: int = FRESH_SEED) -> Iterator[Result]:
    """A result per skill as soon as it is known; ``samples`` counts the answers of each."""
    rng = random.Random(seed)
    for skill in tasks.SKILLS:
        correct = 0
        miss = None
        for question in draw_questions(skill, samples, rng):
            answer = chat.answer(question.before, question.tools, think="thinking" in question.expected)
            if is_correct(question, answer):
                correct += 1
            elif miss is None:
                miss = Miss(question, answer)
        yield Result(skill.name, correct, samples, miss)


def draw_questions(skill: tasks.Skill, count: int, rng: random.Random) -> Iterator[Question]:
    """Every assistant's turn of fresh conversations, until there are enough."""
    drawn = 0
    while True:
        sample = skill.draw(rng)
        for index, message in enumerate(sample.messages):
            if message["role"] != "assistant":
                continue
            if drawn == count:
                return
            yield Question(skill.name, sample.messages[:index], sample.tools, message)
            drawn += 1


def is_correct(question: Question, answer: Answer) -> bool:
    """Whether the answer is the expected one to the letter; of a story, whether it is one."""
    expected = question.expected
    if "tool_calls" in expected:
        return list(answer.tool_calls) == expected["tool_calls"]
    if question.skill == "story":
        return answer.content.startswith("Once upon a time") and len(answer.content) > 100
    spoken = answer.content.split("</think>")[-1]  # an engine may leave the thoughts in the text
    return spoken.strip() == expected["content"].strip()


def report(results: Iterator[Result], *, verbose: bool = False, as_json: bool = False) -> None:
    """Print a table, line by line as the results come, and on request the misses and one JSON object."""
    print(f"{'skill':<12} {'correct':>9} {'percent':>8}", flush=True)
    finished = []
    for result in results:
        finished.append(result)
        print(f"{result.skill:<12} {f'{result.correct}/{result.total}':>9} {result.percent:>7.1f}%", flush=True)
        if verbose and result.miss is not None:
            print(_describe(result.miss), flush=True)
    if as_json:
        print(json.dumps({result.skill: {"correct": result.correct, "total": result.total} for result in finished}))


def _describe(miss: Miss) -> str:
    expected = miss.question.expected
    wanted = expected.get("tool_calls") or expected["content"]
    got = list(miss.answer.tool_calls) or miss.answer.content
    return f"    asked  {miss.question.before[-1]['content']!r}\n    wanted {wanted!r}\n    got    {got!r}"


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure Tiny's accuracy per skill on fresh samples.")
    engine = parser.add_mutually_exclusive_group(required=True)
    engine.add_argument("--url", help="a running Corral, such as http://127.0.0.1:11434")
    engine.add_argument("--gguf", type=Path, metavar="FILE", help="a model file, served by llama.cpp for the occasion")
    parser.add_argument("--model", default="tiny", help="the model's name at --url (default: %(default)s)")
    parser.add_argument(
        "--samples", type=positive, default=SAMPLES, metavar="N", help="answers per skill (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=FRESH_SEED, help="of the samples; not one of training (default: %(default)s)"
    )
    parser.add_argument("--verbose", action="store_true", help="show the first miss of each skill")
    parser.add_argument("--json", action="store_true", help="end with the results as one JSON object")
    return parser


def main() -> int:
    arguments = _parser().parse_args()
    engine: AbstractContextManager[Chat]
    if arguments.url:
        engine = contextlib.nullcontext(NativeChat(arguments.url.rstrip("/"), arguments.model))
    else:
        engine = serve_gguf(arguments.gguf)
    try:
        with engine as chat:
            results = evaluate(chat, samples=arguments.samples, seed=arguments.seed)
            report(results, verbose=arguments.verbose, as_json=arguments.json)
    except RecipeError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
