"""The recordings of a model whose prompts come from a Go template: the model, what is replayed, and where answers differ.

``answers_tinygo.json`` is frozen as ``answers.json`` is, by ``python -m tests.wire.freeze``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from corral.names import ModelName
from corral.store import Manifest, MediaType, Store
from corral.store.manifest import CONFIG_TYPE
from corral.tiny import TINY_FILE
from tests.wire.differences import BECAUSE, HERE, Difference

TEMPLATE = HERE.parent.parent / "recipes" / "tiny" / "template.gotmpl"
ANSWERS = HERE / "answers_tinygo.json"
RECORDS = [json.loads(line) for line in (HERE / "tinygo.jsonl").read_text().splitlines()]

# Paths that other tests replay or that this version does not have, and recordings that depend on them.
LATER_PATHS = ("/api/create", "/api/copy", "/api/embed", "/api/pull", "/api/push", "/api/blobs",
               "/v1/embeddings", "/v1/responses", "/v1/messages")  # fmt: skip
LATER_RECORDINGS = ("show_made", "delete")

BECAUSE_RENDERED = (
    Difference(
        "A stream of `/api/generate` has empty pieces where tags are, and `context` lacks the end of the turn.",
        "There are no empty pieces, and `context` ends where the turn does.",
        (
            "generate_plain", "generate_stream", "generate_system", "generate_template", "generate_context",
            "option_seed_float", "option_nonsense_int",
        ),
    ),
    Difference(
        "With a Go template, the JSON of `format` on `/api/generate` is in `thinking`, and `response` is empty.",
        "The model thinks first, and the JSON is in `response`.",
        ("generate_json",),
    ),
    Difference(
        "With a Go template, a chat with `format` reads its prompt twice and counts the second time only.",
        "The thought goes on into the answer, and everything is counted once. `num_predict` limits the answer, as in Ollama.",
        ("chat_json", "oai_json"),
    ),
    Difference(
        "A Go template that prints calls with `range` and without `if` gives calls as text.",
        "They are calls.",
        ("chat_tools", "chat_tools_stream", "oai_tools"),
    ),
    Difference(
        "Models over one file share an engine, which `/api/ps` lists under the name that loaded it.",
        "Each model has its own engine and its own name.",
        ("ps_loaded",),
    ),
)  # fmt: skip

# Recordings that differ for a reason that stands with those of the model without a Go template.
_SAME_REASON = (
    "version", "generate_images", "generate_format_bad", "option_temperature_str", "option_num_predict_str", "option_stop_str",
    "option_stop_list", "generate_long", "generate_long_strict", "show", "show_system",
    "oai_no_messages", "oai_effort_bad", "oai_unknown_model", "oai_empty_body", "completions",
)  # fmt: skip
DIFFERENCES = {name: reason for reason in BECAUSE for name in reason.recordings if name in _SAME_REASON} | {
    name: reason for reason in BECAUSE_RENDERED for name in reason.recordings
}


def put_tinygo(
    store: Store, name: str = "tinygo", template: str | None = None, weights: Path = TINY_FILE, **config: Any
) -> None:
    """Tiny with a Go template, as ``TEMPLATE`` in a Modelfile gives it one: without the line end of the file."""
    text = TEMPLATE.read_text().rstrip("\n") if template is None else template
    facts = {"model_format": "gguf", "model_family": "qwen3", "model_families": ["qwen3"], "model_type": "4.46M",
             "file_type": "Q8_0", "architecture": "amd64", "os": "linux"}  # fmt: skip
    layers = (
        store.add_file(weights, MediaType.MODEL),
        store.add_bytes(text.encode(), MediaType.TEMPLATE),
        store.add_bytes(b"MIT", MediaType.LICENSE),
        store.add_bytes(b'{"stop":["<|im_start|>","<|im_end|>"]}', MediaType.PARAMS),
    )
    store.write(
        ModelName.parse(name), Manifest(store.add_bytes(json.dumps({**facts, **config}).encode(), CONFIG_TYPE), layers)
    )


def replayed() -> list[dict[str, Any]]:
    """The recordings for the paths that exist so far."""
    return [
        record
        for record in RECORDS
        if not record["request"]["path"].startswith(LATER_PATHS) and record["name"] not in LATER_RECORDINGS
    ]


def only_tinygo(record: dict[str, Any], text: str) -> str:
    """A list of models without the others."""
    key, name = {"/api/tags": ("models", "name"), "/v1/models": ("data", "id")}.get(record["request"]["path"], ("", ""))
    if not key or not text:
        return text
    document = json.loads(text)
    document[key] = [model for model in document[key] if model[name] == "tinygo:latest"]
    return json.dumps(document)


def frozen() -> dict[str, Any]:
    """What Corral answers where it differs: status and body by recording."""
    answers: dict[str, Any] = json.loads(ANSWERS.read_text())
    return answers
