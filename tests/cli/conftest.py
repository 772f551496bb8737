"""The real command in a child process, against a server that is told what to say."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.fake import FakeServer, fake_server

Corral = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with fake_server() as server:
        yield server


@pytest.fixture
def environment(tmp_path: Path, fake: FakeServer) -> dict[str, str]:
    """Nothing of the machine's own settings, and the fake server's address."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        "PYTHONWARNINGS": "error",
        "CORRAL_HOST": f"127.0.0.1:{fake.port}",
        "CORRAL_DATA": str(tmp_path / "data"),
        "CORRAL_MODELS": str(tmp_path / "models"),
        "CORRAL_CONFIG": str(tmp_path / "config.toml"),
    }


@pytest.fixture
def corral(environment: dict[str, str]) -> Corral:
    """Run ``corral`` with arguments, ``stdin`` (nothing by default) and other environment variables."""

    def run(*arguments: str, stdin: str | bytes = "", **variables: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "corral", *arguments],
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            capture_output=True,
            env={**environment, **variables},
            timeout=60,
        )
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        assert b"\x1b" not in done.stdout + done.stderr
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    return run
