"""Answers that were held to the form in which a model writes calls."""

from __future__ import annotations

import pytest

from corral.parsing import CallForm, FormSplitter, ParsedCall

# Ids behind the arguments, as the probes have them; and an end that begins as what stands between two calls does.
WITH_IDS = CallForm(
    '[CALLS][{"name": "', '", "arguments": ', ', "id": "corral001"}, {"name": "', ', "id": "corral002"}]'
)
LINES = CallForm('<call>{"name": "', '", "arguments": ', '}\n{"name": "', "}\n</call>")
ALONE = CallForm('{"name": "', '", "parameters": ', "", "}")


def written(form: CallForm, calls: int) -> str:
    each = [f"look{form.middle}{{}}"] * calls
    return form.begin + form.joint.join(each) + form.end


@pytest.mark.parametrize("form", [WITH_IDS, LINES, ALONE])
@pytest.mark.parametrize("calls", [1, 2])
@pytest.mark.parametrize("length", [1, 2, 3, 7, 200])
def test_calls_in_any_pieces_are_calls_and_nothing_else(form: CallForm, calls: int, length: int) -> None:
    calls = calls if form.joint else 1
    text = written(form, calls)
    splitter = FormSplitter(form, ["look"])
    pieces = [p for at in range(0, len(text), length) for p in splitter.feed(text[at : at + length])] + splitter.flush()
    assert [piece for piece in pieces if isinstance(piece, ParsedCall)] == [ParsedCall("look", "{}", "{}")] * calls
    assert [piece for piece in pieces if not isinstance(piece, ParsedCall)] == [("markup", form.end)]
