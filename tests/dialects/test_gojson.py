"""Bodies decoded as Go decodes them: the same values, and the same words for what is wrong."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest

from corral.dialects import gojson
from corral.dialects.gojson import Fields
from corral.errors import InvalidRequest
from tests.dialects.bodies import BODIES, GOLDEN

ANSWERS: list[dict[str, Any]] = json.loads((GOLDEN / "answers.json").read_text())

# What Corral does otherwise, on purpose.
_WRITTEN = "the error shows the number and not how it was written"
DIFFERENT = {
    b'{"number":1e2}': _WRITTEN,
    b'{"number":1e400}': _WRITTEN,
    b'{"numbers":[1e400]}': _WRITTEN,
    b'{"number":0.1e1}': _WRITTEN,
    b'{"number":1E5}': _WRITTEN,
    b'{"number":-9223372036854775809}': _WRITTEN,
    b'{"number":12345678901234567890123}': _WRITTEN,
    b'{"number":100000000000000000000.5}': _WRITTEN,
    b'{"bytes":[null]}': "an image that is null is none",
    b'{"bytes":[[]]}': "an image is base64 and never a list of numbers",
    b'{"text":"a","text":null}': "the last of several values counts, also when it is null",
    b'{"flag":1,"text":1}': "of several errors another is told first",
}


def decode(body: bytes) -> dict[str, Any]:
    """The request of ``golden/main.go``; what Go leaves out of its answer, because it is empty, is left out here."""
    fields = Fields.of(gojson.parse(body), "Request")
    found = {
        "text": fields.string("text"),
        "flag": fields.boolean("flag"),
        "number": fields.integer("number"),
        "numbers": fields.integers("numbers"),
        "options": fields.mapping("options", "map[string]interface {}"),
        "bytes": [base64.b64encode(data).decode() for data in fields.base64s("bytes") or ()],
        "messages": [message(child) for child in fields.children("messages", "main.message")],
        "inner": message(fields.nested("inner", "main.message")),
    }
    return {name: value for name, value in found.items() if value and value != {"role": ""}}


def message(fields: Fields) -> dict[str, Any]:
    content = fields.string("content")
    return {"role": fields.string("role") or "", **({"content": content} if content else {})}


def same_words(error: str) -> str:
    """Types differ in name; and Ollama is built with a Go that names the outermost type, where newer ones name the inner."""
    error = error.replace("api.Request", "main.Request").replace("[]api.ImageData", "[][]uint8")
    return re.sub(r"Request(\.(?:messages|inner)\.)", r"message\1", error)


@pytest.mark.parametrize("number", range(len(ANSWERS)), ids=lambda number: repr(BODIES[number])[2:60])
def test_a_body_means_what_it_means_to_go(number: int) -> None:
    body, answer = BODIES[number], ANSWERS[number]
    assert answer["body"] == body.decode("latin-1")
    try:
        value, error = decode(body), ""
    except InvalidRequest as exc:
        value, error = None, same_words(str(exc))
    if body in DIFFERENT:
        assert (error, value) != (answer["error"], answer["value"])
    else:
        assert (error, value) == (answer["error"], answer["value"])


def test_an_empty_body_is_refused_as_by_the_framework_that_ollama_uses() -> None:
    for body in (b"", b" \n"):
        with pytest.raises(InvalidRequest, match=r"^missing request body$"):
            gojson.parse(body)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_depth_is_an_error_and_not_a_crash(opening: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"max depth|deep"):
        gojson.parse(opening * 200_000)


def test_what_is_written_is_what_go_writes() -> None:
    assert (
        gojson.dumps({"a": "<b> & \u2028 é \ud83d"}) == b'{"a":"\\u003cb\\u003e \\u0026 \\u2028 \xc3\xa9 \xef\xbf\xbd"}'
    )
