"""Corral's interpreter against Go's own text/template, on answers frozen by golden/make.py."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

from corral.errors import TemplateError
from corral.templates.template import Template
from tests.templates.data import read_data

GOLDEN = json.loads((Path(__file__).parent / "golden" / "answers.json").read_text(encoding="utf-8"))
DAY = datetime.date(2026, 11, 25)  # of main.go


def ours(text: str, data: Any) -> dict[str, str]:
    """What Corral makes of a template, in the form of Go's answers."""
    try:
        return {"output": Template.parse(text).execute(data, today=DAY), "error": ""}
    except TemplateError as error:
        return {"output": "", "error": str(error)}


def test_every_answer_and_every_message_is_gos() -> None:
    data = {name: read_data(raw) for name, raw in GOLDEN["data"].items()}
    wrong = []
    for case in GOLDEN["cases"]:
        mine = ours(case["template"], data[case["data"]])
        if mine != {"output": case["output"], "error": case["error"]}:
            wrong.append((case["template"], case["error"] or case["output"], mine["error"] or mine["output"]))
    assert not wrong, f"{len(wrong)} of {len(GOLDEN['cases'])} differ, the first: {wrong[0]}"


def test_the_corpus_is_large_and_has_both_outcomes() -> None:
    errors = sum(bool(case["error"]) for case in GOLDEN["cases"])
    assert len(GOLDEN["cases"]) > 1500
    assert errors > 500
    assert len(GOLDEN["cases"]) - errors > 800
