"""Where Corral answers otherwise than Ollama, on purpose, and why: the source of ``docs/compatibility.md``.

What Corral answers instead is frozen in ``answers.json``, written by ``python -m tests.wire.freeze`` and read by people
before it is committed: a change of it is a change of behaviour.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DOCUMENT = HERE.parent.parent / "docs" / "compatibility.md"


@dataclass(frozen=True)
class Difference:
    """One way in which answers differ: what Ollama does, what Corral does and why, and the recordings that show it."""

    ollama: str
    corral: str
    recordings: tuple[str, ...]


BECAUSE = (
    Difference(
        "`GET /api/version` gives Ollama's version.",
        "It gives Corral's own.",
        ("version",),
    ),
    Difference(
        "`/api/tags` lists `completion` alone for a model whose template is in its file, though `/api/show` lists more.",
        "Both list the same capabilities.",
        ("tags",),
    ),
    Difference(
        "`/api/generate` leaves thoughts and `</think>` in `response`; `context` lacks the end of the turn.",
        "Thoughts are in `thinking`, the answer alone is in `response`, and `context` ends where the turn does, so that a "
        "conversation continues from it.",
        (
            "generate_plain", "generate_stream", "generate_system", "generate_limit", "generate_context", "generate_logprobs",
            "option_seed_float", "option_nonsense_int", "generate_think", "generate_template",
        ),
    ),
    Difference(
        "`format` on `/api/generate` takes the place of the thought.",
        "The model thinks first, as in a chat; the answer has the format. Send `think: false` to do without.",
        ("generate_json",),
    ),
    Difference(
        "An image for a model that cannot see gives the engine's JSON inside a string.",
        "400 `\"tiny\" does not support images`.",
        ("generate_images",),
    ),
    Difference(
        "A `format` that is none, and an option of the wrong type, are answered with status 500.",
        "400, with the same text.",
        (
            "generate_format_bad", "option_temperature_str", "option_num_predict_str", "option_stop_str", "option_stop_list",
        ),
    ),
    Difference(
        "A prompt longer than `num_ctx` loses its middle, and nothing says so.",
        "A single turn that does not fit is an error with the numbers. Of a conversation the oldest turns are left out, and "
        "`dropped_messages` on the last object says how many messages; `truncate: false` makes that an error too.",
        ("generate_long",),
    ),
    Difference(
        "With `truncate: false` the error is the engine's JSON inside a string, with a context nobody asked for.",
        "A sentence with the tokens of the prompt and the `num_ctx` of the request.",
        ("generate_long_strict",),
    ),
    Difference(
        "Of a tool's JSON Schema only some keywords reach the model, in another order.",
        "The schema reaches the model as it was sent, so prompts may differ by a few tokens.",
        ("chat_tools", "chat_tools_stream", "chat_tool_result"),
    ),
    Difference(
        "`create` rewrites the model's file and adds `general.quantization_version`; `show` prints `TEMPLATE {{ .Prompt }}` for "
        "a model without a Go template.",
        "Files are stored as they are; a template that nobody wrote is not shown.",
        ("show", "show_system", "show_made"),
    ),
    Difference(
        "`quantize` knows F32, F16, Q4_K_S, Q4_K_M and Q8_0, and shows no progress.",
        "Nine more types, and how far it is.",
        ("create_quantize_unknown",),
    ),
    Difference(
        "A text that is too long for an embedding model is cut, and nothing says so.",
        "It is cut; `truncated_inputs` lists the places of such texts, and the header `X-Corral-Truncated-Inputs` counts them. "
        "With `truncate: false` the error has the numbers.",
        ("embed_long", "p_embed_num_ctx"),
    ),
    Difference(
        "On `/api/embeddings` a text that is too long has status 500.",
        "400, with the numbers.",
        ("p_embeddings_long",),
    ),
    Difference(
        "A model that does not embed is answered with 501, on `/api/embeddings` with 500.",
        "400 `\"tiny\" does not support embeddings`.",
        ("p_embeddings_chat_model",),
    ),
    Difference(
        "`/api/embeddings` does not find a model whose name is written in another case.",
        "It does, as all others.",
        ("p_embeddings_upper",),
    ),
    Difference(
        "The push of an unknown model is a stream with status 200 that ends in the name of a file of the server.",
        "404, before anything is sent.",
        ("push_unknown_model", "p_push_local"),
    ),
    Difference(
        "A name that begins with `http://` is asked for over HTTPS.",
        "It is refused, unless `insecure` says that plain HTTP is meant.",
        ("p_pull_http",),
    ),
    Difference(
        "A blob that is sent under its digest in another spelling (`sha256-`, upper case) is refused, and kept.",
        "It is accepted. What has another digest than it is sent under is refused, and not kept.",
        ("p_blob_post_dash", "p_blob_post_upper"),
    ),
    Difference(
        "`/api/ps` says of an engine how large it is and when it goes.",
        "Also how busy it is and what was given up for lack of memory, in the object `engine`.",
        ("ps_loaded",),
    ),
)  # fmt: skip

DIFFERENCES = {name: difference for difference in BECAUSE for name in difference.recordings}

# Paths that this version of Corral does not have, and recordings that depend on them.
LATER_PATHS = ("/v1/",)
LATER_RECORDINGS: tuple[str, ...] = ()

# Beyond the recordings; each has a test of its own.
UNRECORDED = (
    (
        "`create` takes any parameter, role, renderer, parser and `requires`, a model as an adapter, and `files` beside `from`.",
        "What cannot work is refused with a sentence, and the old model stays.",
    ),
    (
        "A Modelfile loses characters that do not print, as the joiner in an emoji, and counts each line end of CR LF twice.",
        "Every character of a value is kept, and lines are counted as an editor does.",
    ),
    (
        "A value with closing quotes at the end of a line cannot be written in a Modelfile, though `show` tries.",
        "It stands between longer quotes, which a comment before it announces.",
    ),
    (
        "`create` gives a model a template and stop words that its Jinja template resembles.",
        "It uses the Jinja template.",
    ),
    ("`show` does not print `REQUIRES`.", "It does: what it prints makes the same model again."),
    (
        "`num_predict: 0` is unlimited on some paths and one token on others.",
        "No limit on every path, as for negative values.",
    ),
    (
        "Stop strings end a thought, and an empty one ends every answer.",
        "They look at the answer only; an empty one is none.",
    ),
    ("An option that does not exist is ignored in silence.", "It is named in the header `X-Corral-Ignored-Options`."),
    ("A value out of an option's range reaches the engine, or crashes it.", "400 that names the option and its range."),
    (
        "Past a full context generation goes on, with the middle of the context thrown away.",
        "It ends with `done_reason` `length`; `shift` and `num_keep` change nothing.",
    ),
    (
        "`tools` and `format` together give a tool call as JSON text.",
        "A call is in `tool_calls`; an answer that is no call has the format.",
    ),
    (
        "A tool call that was cut off loses the whole answer.",
        "What came until then, as text, with `done_reason` `length`.",
    ),
    (
        "`arguments` of a tool call given as a JSON text are refused.",
        "They are accepted.",
    ),
    ("A thought in the history does not reach templates that would print it.", "It does."),
    ("Two models over one file share an engine, and the first one's template.", "Each model has its own engine."),
    (
        "A call to a tool that was not listed, or one that is cut off, is gone where a Go template is used.",
        "It is in the text, as the model wrote it.",
    ),
    (
        "A thought that comes though `think` is false stands in the answer, where a Go template is used.",
        "It is in `thinking`.",
    ),
    (
        "A schema that the engine cannot take is found out after the thought.",
        "400 before anything is generated, where a Go template is used.",
    ),
    (
        "A mistake in the `template` of a request has status 500.",
        "400, with the same text.",
    ),
    (
        "Arguments of past calls reach Go templates sorted and with `<`, `>`, `&` escaped; a `developer` message is lost.",
        "They come as they were sent; `developer` is `system`.",
    ),
    (
        "Messages that are merged for a Go template lose their images and calls.",
        "They keep them.",
    ),
    ("A model whose engine died stays in `/api/ps`.", "It is gone; the next request loads it again."),
    (
        "A load that runs out of memory is tried once more.",
        "Step by step with less; a `num_ctx` that was asked for is kept.",
    ),
    ("A model that is always busy keeps others out for as long as it is.", "After ten seconds it gives way."),
    ("An engine that dies before it has answered is an error.", "The request is tried once more on a fresh engine."),
    (
        "Requests in flight are cut when the server ends.",
        "They have a few seconds to end; then each gets an error as its end.",
    ),
    ("`stream: true` errors of a running generation have the type `application/json`.", "With `; charset=utf-8`."),
    ("Bodies over 2048 bytes are sent in chunks.", "With a `Content-Length`."),
    ("Numbers of `/api/embed` have as few digits as they need.", "They have nine: the same numbers."),
    ("`logprob` is written as `-0.0000014`.", "As `-1.4e-6`: the same number."),
)


def document() -> str:
    """The page for users."""
    from tests.wire.tinygo import BECAUSE_RENDERED  # it uses this module

    lines = [
        "# Where Corral differs from Ollama",
        "",
        (
            "Corral speaks Ollama's API: same paths, fields, statuses and error texts, checked by replaying what a real Ollama "
            "answered. Where it differs, it does so on purpose. (Made from `tests/wire/differences.py`; do not edit.)"
        ),
        "",
        "| Ollama | Corral |",
        "| --- | --- |",
        *(f"| {difference.ollama} | {difference.corral} |" for difference in (*BECAUSE, *BECAUSE_RENDERED)),
        *(f"| {ollama} | {corral} |" for ollama, corral in UNRECORDED),
        "",
        "Not there yet: the APIs of OpenAI and Anthropic.",
        "",
    ]
    return "\n".join(lines)


def frozen() -> dict[str, Any]:
    """What Corral answers where it differs: status and body by recording."""
    answers: dict[str, Any] = json.loads((HERE / "answers.json").read_text())
    return answers
