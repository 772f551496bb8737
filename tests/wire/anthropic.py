"""The recordings of Anthropic's API: what is replayed, and where answers differ.

Corral's answers have more than Ollama's, and `without_additions` takes that away; what is left must be equal, or be a difference
with a reason. ``answers_anthropic.json`` is frozen as ``answers.json`` is, by ``python -m tests.wire.freeze``.
"""

from __future__ import annotations

import json
from typing import Any

from tests.wire.differences import HERE, Difference

ANSWERS = HERE / "answers_anthropic.json"

BECAUSE_ANTHROPIC = (
    Difference(
        "The stream of `/v1/messages` begins with an estimate of the input tokens.",
        "It begins with the real count.",
        ("ant_stream", "p_ant_stop_stream", "p_ant_tool_stream_go", "ant_stream (go)"),
    ),
    Difference(
        "A stop sequence that ends an answer on `/v1/messages` leaves no trace.",
        "`stop_reason` is `stop_sequence`, and `stop_sequence` says which.",
        ("p_ant_stop", "p_ant_stop_stream"),
    ),
    Difference(
        "On `/v1/messages` a Go template that prints calls with `range` and without `if` gives calls as text.",
        "They are calls.",
        ("ant_tools (go)",),
    ),
    Difference(
        "On `/v1/messages` too, only some keywords of a tool's JSON Schema reach a model without a Go template, in another order.",
        "The schema reaches the model as it was sent.",
        ("ant_tools",),
    ),
    Difference(
        "On `/v1/messages` an assistant's message at the end is repeated in the answer of a model without a Go template.",
        "The answer is what follows it.",
        ("p_ant_prefill",),
    ),
    Difference(
        "A message without content is answered on `/v1/messages` with nothing.",
        "400 that names the message.",
        ("p_ant_content_null",),
    ),
    Difference(
        "An image for a model that cannot see has status 500 on `/v1/messages`, with the engine's JSON inside a string.",
        "400 `\"tiny\" does not support images`.",
        ("p_ant_image",),
    ),
    Difference(
        "`/v1/messages/count_tokens` does not exist.",
        "It counts with the model's own template and vocabulary, tools included.",
        ("p_ant_count_tokens",),
    ),
    Difference(
        "`GET /v1/messages` is answered with a line of text.",
        "With an error in the shape of the API.",
        ("p_ant_get",),
    ),
)  # fmt: skip
DIFFERENCES = {name: reason for reason in BECAUSE_ANTHROPIC for name in reason.recordings}


def records() -> list[dict[str, Any]]:
    """The recordings, those with a Go template marked."""
    found = []
    for file, mark in (("tiny", ""), ("tinygo", " (go)"), ("anthropic", "")):
        for line in (HERE / f"{file}.jsonl").read_text().splitlines():
            record: dict[str, Any] = json.loads(line)
            if record["request"]["path"].startswith("/v1/messages"):
                found.append(record | {"name": record["name"] + mark})
    return found


def tinytool() -> str:
    """The template of a model that prints its calls behind an ``if``."""
    lines = (HERE / "creates.jsonl").read_text().splitlines()
    return next(
        str(record["request"]["body"]["template"])
        for record in map(json.loads, lines)
        if record["name"] == "p_create_tinytool"
    )


def comparable(text: str) -> Any:
    """A body, or the events of a stream, with keys in order, what varies masked, and without what Ollama has not."""
    if text.startswith("event: "):
        events = [event.split("\n") for event in text.strip().split("\n\n")]
        told = [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in events]
        return [[name, _plain(data)] for name, data in told if name != "ping" and "signature_delta" not in str(data)]
    try:
        return _plain(json.loads(text))
    except ValueError:
        return text


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "cache_read_input_tokens" in value:
        cached, made = value["cache_read_input_tokens"], value["cache_creation_input_tokens"]
        value = {"input_tokens": value["input_tokens"] + cached + made, "output_tokens": value["output_tokens"]}
    rest = {
        key: "<masked>" if key in ("id", "request_id") else _plain(item)
        for key, item in value.items()
        if not (key == "signature" or (key in ("stop_reason", "stop_sequence") and item is None))
    }
    return list(map(list, rest.items()))


def frozen() -> dict[str, Any]:
    """What Corral answers where it differs: status and body by recording."""
    answers: dict[str, Any] = json.loads(ANSWERS.read_text())
    return answers
