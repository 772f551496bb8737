"""Write ``answers.json`` and ``docs/compatibility.md`` anew. Read the diff before you commit it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

from tests import minilm
from tests.conftest import RunningServer
from tests.wire import anthropic, responses, test_anthropic, test_responses, test_tinygo, tinygo
from tests.wire.differences import DIFFERENCES, DOCUMENT, HERE, document
from tests.wire.test_replay import ask, normal, replay_server, replayed


def main() -> None:
    if minilm.published() is None:
        raise SystemExit(minilm.MISSING)
    with tempfile.TemporaryDirectory() as folder:
        server = replay_server(Path(folder))
        try:
            answers = {}
            for record in replayed():
                status, _, text = ask(server, record["request"])
                if record["name"] in DIFFERENCES:
                    answers[record["name"]] = [status, normal(record, text)]
        finally:
            server.stop()
    lines = ",\n".join(
        f"{json.dumps(name)}: {json.dumps(answer, ensure_ascii=False)}" for name, answer in answers.items()
    )
    (HERE / "answers.json").write_text("{\n" + lines + "\n}\n")
    tinygo.ANSWERS.write_text(
        _frozen(
            test_tinygo.replay_server,
            lambda server: {r["name"]: test_tinygo.answered(server, r)[0] for r in tinygo.replayed()},
            tinygo.DIFFERENCES,
        )
    )
    anthropic.ANSWERS.write_text(
        _frozen(
            test_anthropic.replay_server,
            lambda server: {r["name"]: test_anthropic.answered(server, r) for r in anthropic.records()},
            anthropic.DIFFERENCES,
        )
    )
    responses.ANSWERS.write_text(
        _frozen(
            test_tinygo.replay_server,
            lambda server: {responses.name_of(r): test_responses.answered(server, r)[0] for r in responses.RECORDS},
            responses.DIFFERENCES,
        )
    )
    DOCUMENT.write_text(document())


def _frozen(
    started: Callable[[Path], RunningServer],
    answers: Callable[[RunningServer], dict[str, Any]],
    differences: Container[str],
) -> str:
    """What a server of our own answers to the recordings in which it differs, a line each."""
    with tempfile.TemporaryDirectory() as folder:
        server = started(Path(folder))
        try:
            found = answers(server)
        finally:
            server.stop()
    lines = (
        f"{json.dumps(name)}: {json.dumps(answer, ensure_ascii=False)}"
        for name, answer in found.items()
        if name in differences
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    main()
