"""The command itself: help, versions, misuse, and servers that are not there."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import corral as package
from tests.cli.conftest import Corral
from tests.cli.fake import FakeServer, Reply


@pytest.fixture
def free() -> str:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Path]:
    """The log of servers in the background, which are ended with the test."""
    log = tmp_path / "data" / "logs" / "server.log"
    yield log
    for status in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = status.read_bytes().split(b"\0")
        except OSError:
            continue  # another's, or gone
        if f"CORRAL_DATA={tmp_path / 'data'}".encode() in variables:
            os.kill(int(status.parent.name), signal.SIGTERM)


def test_help_names_every_command_and_needs_no_server(fake: FakeServer, corral: Corral) -> None:
    done = corral("--help")
    assert (done.returncode, fake.asked) == (0, [])
    assert re.findall(r"^  (\w+)  ", done.stdout, re.M) == [
        "serve",
        "run",
        "create",
        "pull",
        "push",
        "list",
        "show",
        "cp",
        "rm",
        "ps",
        "stop",
        "import",
        "prune",
        "verify",
        "login",
        "logout",
    ]


@pytest.mark.parametrize("command", ["serve", "run", "pull", "push", "list", "ls", "show", "cp", "rm", "ps", "stop"])
def test_every_command_has_help(fake: FakeServer, corral: Corral, command: str) -> None:
    done = corral(command, "--help")
    assert (done.returncode, done.stderr, fake.asked) == (0, "", [])
    assert done.stdout.startswith(f"Usage: corral {command}")


def test_help_of_run_says_where_thoughts_go(corral: Corral) -> None:
    assert "when stdout is a pipe or a file they go to stderr" in re.sub(r"\s+", " ", corral("run", "--help").stdout)


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_load_nothing_heavy(environment: dict[str, str], free: str, option: str) -> None:
    variables = {**environment, "CORRAL_HOST": free}
    command = [sys.executable, "-X", "importtime", "-m", "corral", option]
    loaded = subprocess.run(command, env=variables, capture_output=True, text=True).stderr
    modules = {line.rpartition("|")[2].strip().split(".")[0] for line in loaded.splitlines()}
    assert "click" in modules
    assert not modules & {"rich", "prompt_toolkit", "http", "fastapi", "anyio", "asyncio"}


def test_the_version_is_one_line_when_no_server_answers(corral: Corral, free: str) -> None:
    done = corral("--version", CORRAL_HOST=free)
    assert (done.returncode, done.stdout) == (0, f"corral version {package.__version__}\n")


def test_another_version_of_the_server_is_a_second_line(fake: FakeServer, corral: Corral) -> None:
    lines = corral("--version").stdout.splitlines()
    assert lines == [
        f"corral version {package.__version__}",
        f"the server at http://127.0.0.1:{fake.port} has version 0.0.0",
    ]


def test_the_same_version_of_the_server_is_not_worth_a_line(fake: FakeServer, corral: Corral) -> None:
    fake.say("/api/version", Reply(f'{{"version": "{package.__version__}"}}'))
    assert corral("--version").stdout == f"corral version {package.__version__}\n"


def test_the_version_does_not_mind_a_stranger_at_the_address(fake: FakeServer, corral: Corral) -> None:
    fake.say("/api/version", Reply("{}"))
    assert corral("--version").stdout == f"corral version {package.__version__}\n"


def test_an_unknown_command_is_misuse_and_gets_a_suggestion(corral: Corral) -> None:
    done = corral("lst")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith('Error: unknown command "lst" for "corral"\n\nDid you mean this?\n\tlist\n')


@pytest.mark.parametrize("arguments", [["list", "--nosuch"], ["show"], ["run"], ["cp", "a"], ["rm"], ["stop"]])
def test_misuse_exits_with_2_before_a_server_is_looked_for(
    fake: FakeServer, corral: Corral, arguments: list[str]
) -> None:
    done = corral(*arguments)
    assert (done.returncode, done.stdout, fake.asked) == (2, "", [])
    assert done.stderr.startswith("Error: ")
    assert f"Try: corral {arguments[0]} --help" in done.stderr


@pytest.mark.parametrize("arguments", [["ps"], ["stop", "tiny"]])
def test_ps_and_stop_start_no_server(corral: Corral, free: str, tmp_path: Path, arguments: list[str]) -> None:
    done = corral(*arguments, CORRAL_HOST=free)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Error: no server is running at http://{free}; try: corral serve\n"
    assert not (tmp_path / "data").exists()


def test_no_server_is_started_for_an_address_elsewhere(corral: Corral, free: str, tmp_path: Path) -> None:
    done = corral("list", CORRAL_HOST=free.replace("127.0.0.1", "0.0.0.0"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "no server answers" in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("arguments", [["run", "tiny", "Hello"], ["list"], ["ps"]])
def test_a_stranger_at_the_address_is_named_and_left_alone(
    fake: FakeServer, corral: Corral, tmp_path: Path, arguments: list[str]
) -> None:
    fake.say("/api/version", Reply("hello", 404))
    done = corral(*arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert "is neither Corral nor Ollama" in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_server_is_started_where_none_is_and_found_by_the_next_command(
    corral: Corral, free: str, started: Path
) -> None:
    first = corral("list", CORRAL_HOST=free, PYTHONWARNINGS="")  # leaving a child behind is what is wanted here
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("NAME")
    assert first.stderr == f"started a server in the background on http://{free} (it ends by itself when idle)\n"
    assert f"listening on http://{free}" in started.read_text()
    second = corral("ps", CORRAL_HOST=free)
    assert (second.returncode, second.stderr) == (0, "")


def test_what_lies_in_the_current_folder_is_not_started(
    environment: dict[str, str], free: str, tmp_path: Path, started: Path
) -> None:
    (tmp_path / "corral.py").write_text("raise SystemExit('hijacked')")
    command = [sys.executable, "-P", "-m", "corral", "list"]
    variables = {**environment, "CORRAL_HOST": free, "PYTHONWARNINGS": ""}
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "hijacked" not in started.read_text()


def test_a_server_that_dies_at_once_shows_the_end_of_its_log(
    corral: Corral, free: str, tmp_path: Path, started: Path
) -> None:
    started.parent.mkdir(parents=True)
    started.write_text("of another day\n")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "uvicorn.py").write_text("raise RuntimeError('not today')")
    done = corral("list", CORRAL_HOST=free, PYTHONPATH=str(tmp_path / "broken"))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"the server ended at once; the end of {started}:\n" in done.stderr
    assert "not today" in done.stderr
    assert "of another day" not in done.stderr


def test_a_setting_that_cannot_be_is_refused_by_name(corral: Corral) -> None:
    done = corral("list", CORRAL_KEEP_ALIVE="soon")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith('Error: CORRAL_KEEP_ALIVE: "soon"')


def test_a_mistake_of_ours_is_one_line(fake: FakeServer, corral: Corral) -> None:
    fake.say("/api/tags", Reply('{"models": [{}]}'))
    done = corral("list")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: a mistake in Corral: KeyError('name'); to see where, set CORRAL_LOG_LEVEL=debug\n"
