"""What a pull looks like: bars in a terminal of any width, and a pull that is interrupted and goes on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.fake import FakeServer, lines
from tests.cli.terminal import Terminal
from tests.conftest import StartServer
from tests.registry.fake import FakeRegistry

LARGE, SMALL, THERE = ("sha256:" + letter * 64 for letter in "abc")


def pulled() -> list[dict[str, object]]:
    size = 4_700_000_000
    there = {"status": "pulling cccccccccccc", "digest": THERE, "total": size, "completed": size}
    small = {"status": "pulling bbbbbbbbbbbb", "digest": SMALL, "total": 300, "completed": 300}
    large = [
        {"status": "pulling aaaaaaaaaaaa", "digest": LARGE, "total": size, "completed": size * part // 10}
        for part in range(11)
    ]
    ends = [{"status": status} for status in ("verifying sha256 digest", "writing manifest", "success")]
    return [{"status": "pulling manifest"}, there, *large, small, *ends]


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_pull_is_one_bar_that_fits_and_ends_at_the_whole(
    environment: dict[str, str], fake: FakeServer, columns: int
) -> None:
    fake.say("/api/pull", lines(*pulled()))
    with Terminal(environment, "pull", "odd[red]name", columns=columns) as terminal:
        assert terminal.end() == 0
    shown = [line.rstrip() for line in re.split(r"[\r\n]+", terminal.screen) if line.strip()]
    assert max(map(len, shown)) <= columns
    assert not [line for line in shown if "bbbb" in line or "cccc" in line]
    assert shown[0] == "pulling manifest"
    assert shown[-3:] == ["verifying sha256 digest", "writing manifest", "success"]
    assert shown[-4].startswith("pulling aaaaaaaaaaaa")
    assert "100%" in shown[-4]
    assert "…" not in shown[-4]
    assert ("4.7/4.7 GB" in shown[-4]) == (columns >= 80)


def test_an_interrupted_pull_says_how_it_goes_on_and_does(serve: StartServer, tmp_path: Path) -> None:
    registry = FakeRegistry()
    registry.add("me/mine:latest", bytes(20 << 20))
    registry.faults.chunk_s = 0.02
    with registry.running():
        server = serve(CORRAL_OFFLINE="0")
        command = ("pull", "--insecure", f"{registry.host}/me/mine")
        with Terminal(server.environment, *command) as terminal:
            terminal.until("/21.0 MB")
            terminal.type("\x03")
            assert terminal.end() == 130
        assert f"to go on: corral pull --insecure {registry.host}/me/mine" in re.sub(r"\s+", " ", terminal.screen)
        registry.faults.chunk_s = 0
        with Terminal(server.environment, *command) as terminal:
            terminal.until("success")
            assert terminal.end() == 0
