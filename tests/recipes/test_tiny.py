"""The recipe of Tiny belongs to the file that ships, and its evaluation measures."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from corral.engine.base import Conversation, EngineConfig, Message
from corral.engine.llama import LlamaEngine
from corral.engine.process import run_engine
from corral.gguf import read_gguf
from corral.tiny import TINY_FILE
from tests.conftest import RunningServer

RECIPE = Path(__file__).parents[2] / "recipes" / "tiny"


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """Its modules, which are scripts and import each other by bare names."""
    monkeypatch.syspath_prepend(str(RECIPE))
    names = ["tasks", "render", "evaluate", "chat"]
    found = {name: __import__(name) for name in names}
    for name, module in list(sys.modules.items()):
        if str(RECIPE) in str(getattr(module, "__file__", "")):
            monkeypatch.delitem(sys.modules, name)
    return found


def test_the_shipped_file_has_the_recipes_template_and_tokeniser() -> None:
    metadata = read_gguf(TINY_FILE).metadata
    assert metadata["tokenizer.chat_template"] == (RECIPE / "chat_template.jinja").read_text()
    vocabulary = json.loads((RECIPE / "tokenizer.json").read_text())["model"]["vocab"]
    assert metadata["tokenizer.ggml.tokens"] == sorted(vocabulary, key=vocabulary.__getitem__)


def test_a_seed_gives_the_same_conversations_every_time(recipe: dict[str, ModuleType]) -> None:
    def draw(seed: int) -> list[Any]:
        rng = random.Random(seed)
        return [recipe["tasks"].draw_sample(rng) for _ in range(50)]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


@pytest.mark.anyio
async def test_the_recipe_writes_conversations_as_the_engine_does(
    recipe: dict[str, ModuleType], tmp_path: Path
) -> None:
    rng, config = random.Random(3), EngineConfig(weights=TINY_FILE, context=512)
    async with run_engine(config, log=tmp_path / "log") as process:
        engine = LlamaEngine(config, process)
        compared = 0
        for skill in recipe["tasks"].SKILLS:
            sample = skill.draw(rng)
            before = sample.messages[:-1]
            if any("tool_calls" in message for message in before) or "thinking" in sample.messages[-1]:
                continue
            turns = tuple(Message(message["role"], message["content"]) for message in before)
            prompt = await engine.apply_template(Conversation(turns, tuple(sample.tools or ()), False))
            written = "".join(segment.text for segment in recipe["render"].segments(sample))
            assert written.startswith(prompt)
            compared += 1
    assert compared >= 6


def test_the_right_answer_is_right_and_another_is_not(recipe: dict[str, ModuleType]) -> None:
    evaluate, chat = recipe["evaluate"], recipe["chat"]
    rng = random.Random(4)
    for skill in recipe["tasks"].SKILLS:
        for question in evaluate.draw_questions(skill, 20, rng):
            expected = question.expected
            right = chat.Answer(expected["content"], expected.get("tool_calls", ()))
            assert evaluate.is_correct(question, right) or skill.name == "story"
            assert not evaluate.is_correct(question, chat.Answer("nonsense"))


@pytest.mark.parametrize("way", ["url", "gguf"])
def test_the_evaluation_measures_every_skill(shared_server: RunningServer, way: str) -> None:
    where = ["--url", shared_server.url] if way == "url" else ["--gguf", str(TINY_FILE)]
    command = [sys.executable, str(RECIPE / "evaluate.py"), *where, "--samples", "4", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    figures = json.loads(done.stdout.splitlines()[-1])
    assert set(figures) == {
        "greeting", "faq", "facts", "recall", "transform", "arithmetic", "tools", "structured", "persona", "story",
    }  # fmt: skip
    assert {row["total"] for row in figures.values()} == {4}
    assert sum(row["correct"] for row in figures.values()) >= 32


def test_a_build_without_its_libraries_says_what_to_install(tmp_path: Path) -> None:
    command = [sys.executable, "-S", str(RECIPE / "build.py"), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("error: missing: torch")
    assert 'pip install -e ".[recipes]"' in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_evaluation_without_a_server_is_one_clear_line() -> None:
    command = [sys.executable, str(RECIPE / "evaluate.py"), "--url", "http://127.0.0.1:9"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
