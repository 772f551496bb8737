"""Clients in JavaScript: each file of ``js/`` is a list of claims, which node's own runner tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import minilm
from tests.conftest import RunningServer

JS = Path(__file__).parent / "js"
CLIENTS = ("ollama", "vercel", "openai", "responses", "anthropic")


@pytest.fixture(scope="module")
def node() -> str:
    """The program. Without it, or without the clients, tests are skipped, except where everything must be tested."""
    path = os.pathsep.join((os.environ["PATH"], str(Path(sys.executable).parent)))
    program = shutil.which("node", path=path)
    missing = (
        "node is not installed" if program is None else "" if (JS / "node_modules").is_dir() else "npm ci was not run"
    )
    if missing and os.environ.get("CORRAL_TEST_EVERYTHING"):
        pytest.fail(f"{missing}; make test does that")
    if program is None or missing:
        pytest.skip(f"{missing}; try: make test")
    return program


@pytest.mark.parametrize("client", CLIENTS)
def test_the_client_gets_what_it_asks_for(server: RunningServer, node: str, client: str) -> None:
    variables = {**os.environ, "CORRAL_URL": server.url, "NODE_OPTIONS": "--throw-deprecation"}
    if minilm.published():
        variables["CORRAL_EMBEDDING"] = "minilm"
    ran = subprocess.run(
        [node, "--test-reporter=spec", JS / f"{client}.mjs"], cwd=JS, env=variables, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
