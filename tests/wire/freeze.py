"""Write ``answers.json`` and ``docs/compatibility.md`` anew. Read the diff before you commit it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from tests import minilm
from tests.wire import responses, test_responses, test_tinygo, tinygo
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
    tinygo.ANSWERS.write_text(_tinygo())
    responses.ANSWERS.write_text(_responses())
    DOCUMENT.write_text(document())


def _tinygo() -> str:
    with tempfile.TemporaryDirectory() as folder:
        server = test_tinygo.replay_server(Path(folder))
        try:
            answers = {record["name"]: test_tinygo.answered(server, record) for record in tinygo.replayed()}
        finally:
            server.stop()
    lines = (
        f"{json.dumps(name)}: {json.dumps(answer, ensure_ascii=False)}"
        for name, (answer, _) in answers.items()
        if name in tinygo.DIFFERENCES
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _responses() -> str:
    with tempfile.TemporaryDirectory() as folder:
        server = test_tinygo.replay_server(Path(folder))
        try:
            answers = {responses.name_of(r): test_responses.answered(server, r)[0] for r in responses.RECORDS}
        finally:
            server.stop()
    lines = (
        f"{json.dumps(name)}: {json.dumps(answer, ensure_ascii=False)}"
        for name, answer in answers.items()
        if name in responses.DIFFERENCES
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    main()
