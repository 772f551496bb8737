"""The recordings of ``/v1/responses`` and ``/v1/audio``: what is replayed, how answers are compared, and where they differ.

Nearly every answer has more than Ollama's, as OpenAI's clients want it: events for the parts of a reasoning item, counts of cached
and of thinking tokens, ``store`` and ``top_p`` as they are. That is left out of the comparison. ``answers_responses.json`` is
frozen as ``answers.json`` is, by ``python -m tests.wire.freeze``.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from tests.wire.differences import BECAUSE, HERE, Difference

ANSWERS = HERE / "answers_responses.json"
RECORDS = [
    record
    for name in ("tiny.jsonl", "tinygo.jsonl", "responses.jsonl")
    for record in (json.loads(line) for line in (HERE / name).read_text().splitlines())
    if record["request"]["path"] in ("/v1/responses", "/v1/audio/transcriptions")
]

BECAUSE_RESPONSES = (
    Difference(
        "A response that was cut has the status `completed`; cut in the thought it has a message, and in a stream none.",
        "`incomplete`, with the reason, and the message in both.",
        ("tiny resp_reasoning", "tinygo resp_reasoning", "tiny p_resp_think_only", "tiny p_resp_think_only_stream",
         "tiny p_resp_one_token_stream"),
    ),
    Difference(
        "On `/v1/responses`, the calls of a Go template without `if` are text.",
        "They are calls.",
        ("tinygo resp_tools",),
    ),
    Difference(
        "An image for a model that cannot see, on `/v1/responses`, and sound for one that cannot hear, have status 500.",
        "400, with a sentence.",
        ("tiny p_resp_image", "tiny p_audio_text_model"),
    ),
    Difference(
        "On `/v1/responses`, a schema that the engine cannot take is answered with the engine's JSON inside a string, in a stream "
        "with nothing, after the whole thought.",
        "400 with a sentence, before anything is generated.",
        ("tinygo p_resp_schema_bad_go", "tinygo p_resp_schema_bad_stream_go"),
    ),
    Difference(
        "An answer with the same token 32 times ends after the 31st.",
        "It is whole.",
        ("tinygo p_repeat7_resp_go",),
    ),
    Difference(
        "A stream for an empty input ends with `output: null`, and `temperature` is 1 whatever the model says.",
        "`[]`, and the temperature in force.",
        ("tiny p_resp_empty_stream",),
    ),
)  # fmt: skip
DIFFERENCES = {name: difference for difference in BECAUSE_RESPONSES for name in difference.recordings} | {
    "tiny resp_tools": next(difference for difference in BECAUSE if "chat_tools" in difference.recordings)
}

# Of Ollama's answers: what always differs, by run or by being true here.
_MASKED = (
    "id",
    "item_id",
    "call_id",
    "created_at",
    "completed_at",
    "store",
    "top_p",
    "cached_tokens",
    "reasoning_tokens",
    "param",
    "code",
)
_ADDED = ("sequence_number", "cache_write_tokens", "param", "code")
_MORE_EVENTS = ("response.reasoning_summary_part.added", "response.reasoning_summary_part.done")
_OPTIONAL = ("strict", "summary", "effort", "name")  # null is as absent


def name_of(record: dict[str, Any]) -> str:
    """A name for a recording that no other has: ``tinygo resp_tools``."""
    body = record["request"]["body"]
    return f"{body.get('model', 'tiny') if isinstance(body, dict) else 'tiny'} {record['name']}"


def comparable(text: str) -> Any:
    """An answer to compare: of a stream its events, pieces of one text joined."""
    if not text.startswith("event: "):
        try:
            return _plain(json.loads(text))
        except ValueError:
            return text
    events: list[dict[str, Any]] = []
    for frame in text.split("\n\n"):
        if not frame:
            continue
        kind, _, data = frame.partition("\ndata: ")
        event = json.loads(data)
        assert kind == f"event: {event['type']}"
        if event["type"] in _MORE_EVENTS:
            continue
        if events and event["type"].endswith(".delta") and events[-1]["type"] == event["type"]:
            events[-1]["delta"] += event["delta"]
        else:
            events.append(event)
    return [_plain(event) for event in events]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: "<masked>" if key in _MASKED and item is not None else _arguments(key, item)
            for key, item in sorted(value.items())
            if key not in _ADDED and not (item is None and key in _OPTIONAL)
        }
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _arguments(key: str, value: Any) -> Any:
    """Arguments are JSON inside a text, with blanks or without."""
    if key in ("arguments", "delta") and isinstance(value, str) and value.startswith("{"):
        with suppress(ValueError):  # a piece of an answer in JSON begins so too
            return json.loads(value)
    return _plain(value)


def frozen() -> dict[str, Any]:
    """What Corral answers where it differs: status and body by recording."""
    answers: dict[str, Any] = json.loads(ANSWERS.read_text())
    return answers
