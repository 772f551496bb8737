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
        ("generate_images", "p_oai_image", "p_oai_image_stream"),
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
        ("chat_tools", "chat_tools_stream", "chat_tool_result", "oai_tools"),
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
        ("p_embeddings_chat_model", "p_oai_embed_chat_model"),
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
        "Errors on `/v1` have a `param` and a `code` of `null`, and few words; an empty body is `EOF`.",
        "They name the field, and the code where OpenAI has one (`model_not_found`, `context_length_exceeded`); an empty body is "
        "`missing request body`, a missing model always a 400.",
        (
            "oai_no_messages", "oai_effort_bad", "oai_unknown_model", "oai_empty_body", "p_oai_content_obj", "p_oai_content_true",
            "p_oai_part_str", "p_oai_part_wild", "p_oai_args_bad", "p_oai_stream_str", "p_oai_unknown_stream",
            "p_oai_reasoning_upper", "p_oai_embed_no_model", "p_comp_stop_mixed", "p_comp_logprobs_bool", "p_e_cloud_oai",
        ),
    ),
    Difference(
        "Paths on `/v1` that do not exist are plain text, and so is `/v1/models/NAME` for a name with a slash.",
        "They are errors as all others; names may have slashes.",
        ("p_moderations", "p_oai_model_slash"),
    ),
    Difference(
        "`/v1` ignores `tool_choice`, `parallel_tool_calls`, `n`, `logit_bias`, `max_completion_tokens`, `echo`, `options`, "
        "`think` and `keep_alive`, refuses prompts and inputs of tokens, and does not say what it does not know.",
        "They are honoured; what is unknown is named in `X-Corral-Ignored-Options` ([OpenAI's API](openai.md)).",
        ("p_oai_n2", "p_oai_max_completion_tokens", "p_oai_num_ctx", "p_oai_embed_tokens", "p_comp_tokens"),
    ),
    Difference(
        "`/v1` ignores a `stop` that is no text, and lets an empty one end every answer; a message with no parts loads the model.",
        "400; an empty `stop` is none.",
        ("p_oai_stop_empty", "p_oai_stop_num", "p_oai_content_empty_array", "p_oai_empty_array_stream"),
    ),
    Difference(
        "`max_tokens: 0` is no limit where a Go template is used, and one token elsewhere.",
        "No limit on every path, as for negative values.",
        ("p_oai_zero_max",),
    ),
    Difference(
        "Log-probabilities on `/v1` have no `top_logprobs` when none were asked for.",
        "An empty list, as clients expect.",
        ("p_oai_logprobs_stream",),
    ),
    Difference(
        "`/v1` cuts prompts and texts to embed that are too long, and nothing says so.",
        "400 with the numbers, code `context_length_exceeded`.",
        ("p_oai_embed_long",),
    ),
    Difference(
        "`/v1/completions` leaves thoughts and `</think>` in `text`, or drops them where a Go template is used. Each chunk of a "
        "stream has a usage of zeros if one is asked for.",
        "They stand beside it, in `reasoning`. Usage is on the chunk behind the last one.",
        ("completions", "p_comp_usage_stream", "p_comp_usage_stream_false"),
    ),
    Difference(
        "`/v1/completions` with an empty prompt has the `finish_reason` `load`.",
        "`stop`, as no other client knows `load`.",
        ("p_comp_empty",),
    ),
    Difference(
        "`/api/ps` says of an engine how large it is and when it goes.",
        "Also how busy it is and what was given up for lack of memory, in the object `engine`.",
        ("ps_loaded",),
    ),
)  # fmt: skip

DIFFERENCES = {name: difference for difference in BECAUSE for name in difference.recordings}

# Paths that this version of Corral does not have, and recordings that depend on them.
LATER_PATHS = ("/v1/responses", "/v1/messages")
LATER_RECORDINGS: tuple[str, ...] = ()

# Beyond the recordings; each has a test of its own.
UNRECORDED = (
    (
        "`create` takes any parameter, role, renderer, parser and `requires`, a model as an adapter, and `files` beside `from`.",
        "What cannot work is refused with a sentence, and the old model stays.",
    ),
    (
        "`create` from a file that was not brought has status 500 and names a path of the server.",
        "400 that names the file.",
    ),
    (
        "`create` with `remote_host`, or from a model in the cloud, makes a model that asks another server.",
        "400: models answer on the machine that has them.",
    ),
    (
        "`/api/signout` has status 500 where the vendor cannot be reached.",
        "401, `you are not currently signed in`: nobody ever is, and nobody is asked.",
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
    ("An option that does not exist is ignored in silence.", "It is named in the header `X-Corral-Ignored-Options`."),
    (
        "Past a full context generation goes on, with the middle of the context thrown away.",
        "It ends with `done_reason` `length`; `shift` and `num_keep` change nothing.",
    ),
    (
        "A schema's keywords that the engine does not know are ignored.",
        "400 that names the keyword and its place, before anything is generated ([structured output](structured-output.md)).",
    ),
    (
        "`mirostat` and its companions are ignored, as are llama.cpp's other samplers.",
        "They are options ([tools and options](tools.md)).",
    ),
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
        "A thought that the client has begun (a last message with `thinking` alone) goes on in `content`, with `</think>`.",
        "It goes on in `thinking`, also before a `format`.",
    ),
    (
        "A tool without a name is given to the model.",
        "400 that says what is missing.",
    ),
    (
        "A mistake in the `template` of a request has status 500.",
        "400, with the same text.",
    ),
    (
        "Messages that are merged for a Go template lose their images and calls.",
        "They keep them.",
    ),
    (
        "`/v1` sends `temperature` 1 and `top_p` 1 where a request has none, and with it overrides the model's parameters.",
        "The model's own parameters are the defaults.",
    ),
    (
        "Parts of a message are messages of their own on `/v1/chat/completions`, or joined by blank lines.",
        "They are lines of one message.",
    ),
    (
        "A stream on `/v1` that fails ends with an empty chunk.",
        "It ends with an event that has the `error`, and without `[DONE]`.",
    ),
    (
        "Ids on `/v1` are one of 999; ids of tool calls may have no prefix.",
        "They are random; calls are `call_` and more.",
    ),
    (
        "Thoughts on `/v1` are in `reasoning`; usage counts neither them nor what was in memory already.",
        "They are in `reasoning_content` too; usage has `cached_tokens` and `reasoning_tokens`.",
    ),
    ("Answers on `/v1` have the type `application/json`, and a line end.", "With `; charset=utf-8`, and without."),
    ("Bodies on `/v1` may be packed with zstd.", "With gzip or deflate too; to 128 MiB."),
    (
        "A photograph lies as its sensor saw it; what is transparent is black, or whatever colour is under it.",
        "It stands upright, as its EXIF data say; what is transparent is white.",
    ),
    (
        "An image that cannot be read is an error of the engine, in its words.",
        "400 that says what it is, and which of several.",
    ),
    (
        "A projector that only hears makes its model claim that it sees.",
        "It hears.",
    ),
    ("A model that does not embed has status 501 on `/v1/embeddings`.", "400 that says so."),
    (
        "`/v1/responses` ignores `tool_choice`, `previous_response_id`, `store`, `metadata` and more; `web_search` asks the web.",
        "They are honoured; tools other than functions are refused by name.",
    ),
    (
        "A `/v1/responses` stream that breaks just ends; text after a call, or beside one in an answer in one piece, is lost.",
        "`response.failed` with the reason; nothing is lost.",
    ),
    (
        "`temperature` and `top_p` of `/v1/responses` are 1 where a request says nothing.",
        "They are the model's own, and the answer repeats them.",
    ),
    (
        "`/v1/audio/transcriptions` answers `verbose_json`, `srt` and `vtt` with plain JSON.",
        "They are refused by name.",
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
    ("Names of headers are written as in `Content-Type`.", "In lower case: the same names."),
    ("Bodies over 2048 bytes are sent in chunks.", "With a `Content-Length`."),
    ("Numbers of `/api/embed` have as few digits as they need.", "They have all digits: the same numbers."),
    (
        (
            "Answers of `/v1/messages` lack `stop_sequence`, signatures of thoughts, and what was cached; a stream that breaks off "
            "has no end."
        ),
        "They have all that Anthropic's clients look for; a stream that breaks off ends with an `error` event.",
    ),
    (
        "Server tools of Anthropic other than `web_search` are given to the model as tools without parameters.",
        "Tools that only Anthropic's servers carry out, `web_search` too, are refused by name.",
    ),
    ("`logprob` is written as `-0.0000014`.", "As `-1.4e-6`: the same number."),
)


def document() -> str:
    """The page for users."""
    from tests.wire.anthropic import BECAUSE_ANTHROPIC  # they use this module
    from tests.wire.responses import BECAUSE_RESPONSES
    from tests.wire.tinygo import BECAUSE_PROBED, BECAUSE_RENDERED

    because = (*BECAUSE, *BECAUSE_RENDERED, *BECAUSE_PROBED, *BECAUSE_ANTHROPIC, *BECAUSE_RESPONSES)

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
        *(f"| {difference.ollama} | {difference.corral} |" for difference in because),
        *(f"| {ollama} | {corral} |" for ollama, corral in UNRECORDED),
        "",
    ]
    return "\n".join(lines)


def frozen() -> dict[str, Any]:
    """What Corral answers where it differs: status and body by recording."""
    answers: dict[str, Any] = json.loads((HERE / "answers.json").read_text())
    return answers
