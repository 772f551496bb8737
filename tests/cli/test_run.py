"""``corral run`` with a prompt: what is sent, and what goes where."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Corral
from tests.cli.fake import RECORDED, FakeServer, lines, recorded, said
from tests.cli.terminal import Terminal

SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}}


def test_stdout_is_exactly_the_answer_and_one_line_end(fake: FakeServer, corral: Corral) -> None:
    long = "word " * 60
    fake.say("/api/generate", said(long, "end"))
    done = corral("run", "tiny", "Hello", "there")
    assert (done.returncode, done.stdout, done.stderr) == (0, long + "end\n", "")
    assert fake.bodies("/api/generate")[0]["prompt"] == "Hello there"


def test_a_recorded_answer_is_printed_as_it_was(fake: FakeServer, corral: Corral) -> None:
    fake.say("/api/generate", recorded("generate_stream"))
    pieces = [json.loads(line)["response"] for line in RECORDED["generate_stream"]["response"]["body"].splitlines()]
    assert corral("run", "tiny", "Hello").stdout == "".join(pieces) + "\n"


def test_thoughts_go_to_stderr_when_stdout_is_no_terminal(fake: FakeServer, corral: Corral) -> None:
    fake.say("/api/generate", said("5", thinking="2 and 3."))
    done = corral("run", "tiny", "2 + 3?")
    assert done.stdout == "5\n"
    assert done.stderr == "Thinking...\n2 and 3.\n...done thinking.\n\n"


def test_thoughts_can_be_hidden(fake: FakeServer, corral: Corral) -> None:
    fake.say("/api/generate", said("5", thinking="2 and 3."))
    done = corral("run", "tiny", "2 + 3?", "--hidethinking")
    assert (done.stdout, done.stderr) == ("5\n", "")
    assert fake.bodies("/api/generate")[0]["think"] is True


def test_thoughts_are_shown_on_a_terminal(fake: FakeServer, environment: dict[str, str]) -> None:
    fake.say("/api/generate", said("5", thinking="2 and 3."))
    with Terminal(environment, "run", "tiny", "2 + 3?") as terminal:
        terminal.until("Thinking...\r\n2 and 3.\r\n...done thinking.\r\n\r\n5\r\n")
        assert terminal.end() == 0
        assert "\x1b" not in terminal.raw


@pytest.mark.parametrize(
    ("stdin", "arguments", "prompt"),
    [
        ("Hello\n", ["there"], "Hello there"),
        ("Hello", [], "Hello"),
        ("a\nb\n\n", [], "a\nb\n"),
        ("a\r\n", ["b"], "a b"),
    ],
)
def test_what_comes_by_a_pipe_goes_before_the_prompt(
    fake: FakeServer, corral: Corral, stdin: str, arguments: list[str], prompt: str
) -> None:
    fake.say("/api/generate", said("Hi"))
    corral("run", "tiny", *arguments, stdin=stdin)
    assert [body["prompt"] for body in fake.bodies("/api/generate")] == [prompt]


def test_what_is_no_text_is_refused(fake: FakeServer, corral: Corral) -> None:
    done = corral("run", "tiny", stdin=b"\xff\xfe")
    assert (done.returncode, done.stdout, fake.bodies("/api/generate")) == (1, "", [])
    assert "not text in UTF-8" in done.stderr


def test_a_closed_stdin_is_an_empty_one(fake: FakeServer, environment: dict[str, str]) -> None:
    fake.say("/api/generate", said("Hi"))
    command = ["sh", "-c", 'exec "$@" <&-', "sh", sys.executable, "-m", "corral", "run", "tiny", "Hello"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Hi\n", "")


def test_nothing_to_ask_loads_the_model_and_prints_nothing(fake: FakeServer, corral: Corral) -> None:
    done = corral("run", "tiny", "--keepalive", "1h")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert fake.bodies("/api/generate") == [{"model": "tiny", "keep_alive": "1h"}]


@pytest.mark.parametrize(
    ("arguments", "think"),
    [
        ([], True),
        (["--think"], True),
        (["--think="], True),
        (["--think=false"], False),
        (["--think=max"], "max"),
    ],
)
def test_thinking_follows_the_model_unless_told(
    fake: FakeServer, corral: Corral, arguments: list[str], think: object
) -> None:
    fake.say("/api/generate", said("Hi"))
    corral("run", "tiny", "Hello", *arguments)
    assert fake.bodies("/api/generate")[0]["think"] == think


def test_a_model_that_cannot_think_is_not_asked_to(fake: FakeServer, corral: Corral) -> None:
    fake.say("/api/show", lines({"details": {}, "capabilities": ["completion"]}))
    fake.say("/api/generate", said("Hi"))
    corral("run", "plain", "Hello")
    assert "think" not in fake.bodies("/api/generate")[0]


def test_a_bare_think_leaves_the_next_word_alone(fake: FakeServer, corral: Corral) -> None:
    fake.say("/api/generate", said("Hi"))
    corral("run", "--think", "tiny", "--", "--think")
    body = fake.bodies("/api/generate")[0]
    assert (body["model"], body["prompt"], body["think"]) == ("tiny", "--think", True)


@pytest.mark.parametrize("form", ["text", "file"])
def test_a_schema_is_taken_as_text_or_from_a_file(fake: FakeServer, corral: Corral, tmp_path: Path, form: str) -> None:
    fake.say("/api/generate", said('{"age": 5}', thinking="Hm."))
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(SCHEMA))
    done = corral("run", "tiny", "Hello", "--format", json.dumps(SCHEMA) if form == "text" else f"@{path}")
    assert json.loads(done.stdout) == {"age": 5}
    assert fake.bodies("/api/generate")[0]["format"] == SCHEMA


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--format=xml", 'neither "json" nor a JSON Schema'),
        ("--format=@missing.json", "cannot read missing.json"),
        ("--think=nosuch", "must be true, false, high, medium, low, or max"),
        ("--keepalive=10", 'missing unit in duration "10"'),
    ],
)
def test_misuse_is_told_before_a_server_is_looked_for(
    fake: FakeServer, corral: Corral, option: str, words: str
) -> None:
    done = corral("run", "tiny", "Hello", option)
    assert (done.returncode, done.stdout, fake.asked) == (2, "", [])
    assert words in done.stderr


def test_verbose_prints_what_is_not_zero_on_stderr(fake: FakeServer, corral: Corral) -> None:
    figures = {
        "total_duration": 1_500_000_000,
        "load_duration": 2_500_000,
        "prompt_eval_count": 10,
        "prompt_eval_duration": 0,
        "eval_count": 30,
        "eval_duration": 2_000_000_000,
    }
    fake.say("/api/generate", said("Hi", **figures))
    done = corral("run", "tiny", "Hello", "--verbose")
    assert done.stdout == "Hi\n"
    assert done.stderr == (
        "total duration:      1.5s\n"
        "load duration:       2.5ms\n"
        "prompt eval count:   10 token(s)\n"
        "eval count:          30 token(s)\n"
        "eval duration:       2s\n"
        "eval rate:           15.00 tokens/s\n"
    )


def test_an_answer_that_was_cut_off_says_so_on_stderr(fake: FakeServer, corral: Corral) -> None:
    fake.say("/api/generate", said("Hi", done_reason="length", dropped_messages=2))
    done = corral("run", "tiny", "Hello")
    assert done.stdout == "Hi\n"
    assert "2 oldest messages were left out" in done.stderr
    assert "cut off" in done.stderr


def test_a_model_that_is_not_here_is_pulled_first(fake: FakeServer, corral: Corral) -> None:
    fake.say("/api/show", recorded("show_unknown_model"), lines({"capabilities": ["completion"]}))
    fake.say("/api/pull", lines({"status": "pulling manifest"}, {"status": "success"}))
    fake.say("/api/generate", said("Hi"))
    done = corral("run", "nope", "Hello")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Hi\n", "pulling manifest\nsuccess\n")
    assert fake.bodies("/api/pull") == [{"model": "nope", "insecure": False}]


def test_a_model_that_is_nowhere_says_what_to_try(fake: FakeServer, corral: Corral) -> None:
    fake.say("/api/show", recorded("show_unknown_model"))
    fake.say("/api/pull", lines({"status": "pulling manifest"}, {"error": "pull model manifest: file does not exist"}))
    done = corral("run", "nope", "Hello")
    assert (done.returncode, done.stdout) == (1, "")
    assert 'Error: the registry has no model "nope"' in done.stderr
    assert "corral list" in done.stderr


def test_an_error_in_mid_answer_is_a_failure(fake: FakeServer, corral: Corral) -> None:
    fake.say("/api/generate", lines({"response": "Hel", "done": False}, {"error": "engine died"}))
    done = corral("run", "tiny", "Hello")
    assert (done.returncode, done.stdout, done.stderr) == (1, "Hel", "Error: engine died\n")


def test_what_the_output_cannot_encode_is_replaced(fake: FakeServer, corral: Corral) -> None:
    fake.say("/api/generate", said("a\ud83db\u20ac"))
    assert corral("run", "tiny", "Hello", PYTHONIOENCODING="latin-1").stdout == "a?b?\n"


def test_ctrl_c_hangs_up_and_exits_with_130(fake: FakeServer, environment: dict[str, str]) -> None:
    fake.say("/api/generate", lines({"response": "Hel", "done": False}, hangs=True))
    command = [sys.executable, "-u", "-m", "corral", "run", "tiny", "Hello"]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert os.read(process.stdout.fileno(), 3) == b"Hel"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert b"Traceback" not in process.stderr.read()
    assert fake.hung_up.wait(10)
