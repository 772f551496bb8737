"""What tests share: real servers on free ports, real stores in temporary folders."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bench.models import Shape, make
from corral.client import Client
from corral.config import Address

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would the programs that they interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass
class RunningServer:
    """A ``corral serve`` of its own process, on a port of the kernel's choosing."""

    process: subprocess.Popen[str]
    address: Address
    models: Path
    data: Path
    environment: dict[str, str]
    lines: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.address.url

    @property
    def client(self) -> Client:
        return Client(self.address)

    def stop(self) -> int:
        """End it as an operator would; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def log(self) -> str:
        return "".join(self.lines)


StartServer = Callable[..., RunningServer]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def start_server(home: Path, models: Path, **variables: str) -> RunningServer:
    """A server whose files are in ``home``; it answers when this returns."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),  # the server is the code that the tests import
        "HOME": str(home),
        "CORRAL_HOST": "127.0.0.1:0",
        "CORRAL_MODELS": str(models),
        "CORRAL_DATA": str(home / "data"),
        "CORRAL_CONFIG": str(home / "config.toml"),
        "CORRAL_OFFLINE": "1",  # a test that pulls says so, and from where
        **variables,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "corral", "serve"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stderr is not None
    lines: list[str] = []
    for line in process.stderr:
        lines.append(line)
        if found := re.search(r"listening on http://(\[?[^\s\]]+\]?):(\d+)", line):
            break
    else:
        raise AssertionError(f"the server did not start: {''.join(lines)}")
    environment["CORRAL_HOST"] = f"{found[1]}:{found[2]}"
    server = RunningServer(
        process, Address(found[1].strip("[]"), int(found[2])), models, home / "data", environment, lines
    )
    threading.Thread(target=_collect, args=(process, lines), daemon=True).start()
    return server


def _collect(process: subprocess.Popen[str], lines: list[str]) -> None:
    assert process.stderr is not None
    with process.stderr:
        lines.extend(process.stderr)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[StartServer]:
    """Start servers that end with the test. They share a store unless told otherwise."""
    running: list[RunningServer] = []

    def start(models: Path = tmp_path / "models", **variables: str) -> RunningServer:
        home = tmp_path / f"home{len(running)}"
        home.mkdir()
        running.append(start_server(home, models, **variables))
        return running[-1]

    yield start
    for server in running:
        server.stop()


@pytest.fixture
def server(serve: StartServer) -> RunningServer:
    """One server with an empty store: Tiny appears in it on first use."""
    return serve()


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server for all tests of a module that only ask."""
    home = tmp_path_factory.mktemp("home")
    running = start_server(home, home / "models")
    yield running
    running.stop()


ENDLESS = Shape(
    layers=8, width=512, heads=8, kv_heads=4, head_width=64, feed_forward=1536, vocabulary=4096, context=16384
)


@pytest.fixture(scope="session")
def endless_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights: no likely token ends an answer to what has one of their own in it, such as ``[7]``."""
    return make(ENDLESS, tmp_path_factory.mktemp("weights") / "endless.gguf")
