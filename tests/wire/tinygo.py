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
# ``conversations.jsonl``: further chats and prompts, for this model and for Tiny without a Go template.
RECORDS = [
    json.loads(line)
    for name in ("tinygo.jsonl", "conversations.jsonl")
    for line in (HERE / name).read_text().splitlines()
]

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

BECAUSE_PROBED = (
    Difference(
        "`num_predict: 0` is unlimited on some paths and one token on others.",
        "No limit on every path, as for negative values.",
        ("p_np0_chat_native",),
    ),
    Difference(
        "An answer with the same token some thirty times in a row ends in the middle, without an end.",
        "It comes whole.",
        ("p_repeat7_generate", "p_repeat7_generate_stream", "p_repeat7_chat_go"),
    ),
    Difference(
        "Stop strings end a thought, and an empty one ends every answer.",
        "They look at the answer only; an empty one is none.",
        ("p_stop_in_thinking_native", "p_stop_in_thinking_go", "p_stop_empty_string"),
    ),
    Difference(
        "Thoughts of earlier answers do not reach Jinja templates that would print them.",
        "They do; a thought that a client left in its text is printed as it stands.",
        ("p_history_think_tiny", "p_history_thinking_field_tiny"),
    ),
    Difference(
        "Arguments of past calls reach Go templates sorted and with `<`, `>`, `&` escaped; a `developer` message is lost.",
        "They come as they were sent; `developer` is `system`.",
        ("p_history_thinking_field_tinygo", "p_developer_go", "p_developer_go_with_system"),
    ),
    Difference(
        "A schema that the engine cannot take is refused in the engine's JSON, behind a Go template after the thought.",
        "400 that names the keyword and its place, before anything is generated ([structured output](structured-output.md)).",
        (
            "p_schema_bad",
            "p_schema_bad_go",
            "p_chat_schema_bad",
            "p_chat_schema_bad_stream",
            "p_chat_schema_bad_go_stream",
        ),
    ),
    Difference(
        "A tool call that was cut off loses the whole answer.",
        "What came until then, as text, with `done_reason` `length`.",
        ("p_tool_cut_native", "p_tool_cut_native_stream"),
    ),
    Difference(
        "Arguments of a call that are no object are refused in the words of a parser.",
        "The error names the field. A JSON text that is an object is accepted.",
        ("p_body_tool_args_bad", "p_body_tool_args_num"),
    ),
    Difference(
        "A value out of an option's range reaches the engine, or crashes it.",
        "400 that names the option and its range.",
        (
            "p_opt_temp_neg",
            "p_opt_num_batch_0",
            "p_opt_num_ctx_0",
            "p_opt_num_ctx_1e30",
            "p_opt_thread_neg",
            "p_opt_min_p",
            "p_opt_rp0",
        ),
    ),
    Difference(
        "`think` for a model that does not chat is refused for its thinking.",
        "It is refused because it does not chat.",
        ("p_think_embed",),
    ),
    Difference(
        '`format: null` or `""` makes a thinking model with a Go template answer twice, and counts the second time.',
        "It is no format.",
        ("p_fmt_null_go", "p_fmt_emptystr_go"),
    ),
    Difference(
        "A beginning of an answer (a last message of the assistant) takes a `format` away, or is an error with it.",
        "What follows the beginning has the format.",
        ("p_fmt_not_thinking_go", "p_fmt_prefill_native"),
    ),
    Difference(
        "`tools` and `format` together give a tool call as JSON text.",
        "A call is in `tool_calls`; an answer that is no call has the format.",
        ("p_fmt_tools_native",),
    ),
    Difference(
        "A beginning of an answer is repeated where the model has no Go template.",
        "What follows it is the answer, on every path.",
        ("p_prefill_native_stream",),
    ),
    Difference(
        "Errors of the engine are its JSON inside a string.",
        "They are sentences.",
        ("p_tool_end_native",),
    ),
)

# What is told with other recordings: the name of one of them, and these.
_AS = {
    "generate_plain": (
        "p_np1_stream",
        "p_ka_absent",
        "p_ka_0_with_prompt",
        "p_ka_str0",
        "p_ka_huge",
        "p_gen_ctx_round1",
        "p_opt_mmap_true",
        "p_opt_top_k_neg",
        "p_opt_num_ctx_2048",
        "p_opt_seed_big",
        "p_opt_seed_neg",
        "p_opt_key_case",
        "p_opt_typical",
        "p_opt_np_float",
        "p_opt_stop_null",
        "p_body_ct_text",
        "p_body_ct_form",
        "p_gen_think_false_model_thinks",
        "p_opt_repeat_last_n",
    ),
    "generate_images": (
        "p_chat_image_tiny",
        "p_chat_image_stream_tiny",
        "p_chat_image_tinygo",
        "p_chat_image_debug_tinygo",
        "p_gen_image_go",
        "p_gen_image_garbage",
    ),
    "generate_format_bad": (
        "p_gen_req_template_nofield",
        "p_chat_format_list",
        "p_chat_format_true",
        "p_opt_mmap_str",
        "p_opt_load_only",
    ),
    "generate_long_strict": (
        "p_long_shift_false_stream",
        "p_chat_one_long_native",
        "p_chat_one_long_native_stream",
        "p_chat_one_long_go",
        "p_chat_two_long_native",
        "p_chat_two_long_go",
    ),
}

# Recordings that differ for a reason that stands with those of the model without a Go template.
_SAME_REASON = (
    "version", "generate_images", "generate_format_bad", "option_temperature_str", "option_num_predict_str", "option_stop_str",
    "option_stop_list", "generate_long", "generate_long_strict", "show", "show_system",
    "oai_no_messages", "oai_effort_bad", "oai_unknown_model", "oai_empty_body", "completions",
)  # fmt: skip
DIFFERENCES = {name: reason for reason in BECAUSE for name in reason.recordings if name in _SAME_REASON} | {
    name: reason for reason in (*BECAUSE_RENDERED, *BECAUSE_PROBED) for name in reason.recordings
}
DIFFERENCES |= {
    name: reason for reason in BECAUSE for known, names in _AS.items() if known in reason.recordings for name in names
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
