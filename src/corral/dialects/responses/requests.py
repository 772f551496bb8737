"""Requests of the Responses API, from JSON to typed values. What cannot be honoured is refused or reported by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from corral.dialects.gojson import Fields
from corral.dialects.media import Fetched
from corral.dialects.responses import items
from corral.dialects.responses.items import Item
from corral.dialects.wire import formats, options, tools
from corral.durations import quoted
from corral.engine.base import Message, OutputFormat
from corral.errors import InvalidRequest
from corral.library import ModelSpec
from corral.parameters import PARAMETERS
from corral.runtime.options import Options
from corral.runtime.requests import ChatRequest, Think, in_background

_LOGPROBS = "message.output_text.logprobs"
_INCLUDABLE: Final = {_LOGPROBS, "reasoning.encrypted_content", "message.input_image.image_url"}
_OF_TOOLS = (  # what only tools have that do not exist here
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
)
_ABSENT: Final = {
    "conversation": "conversations are not kept here; use previous_response_id",
    "prompt": "prompt templates are not kept here; send the text as input",
    "context_management": "conversations are not compacted here; use truncation",
    "moderation": "nothing is moderated here",
}
_EFFECTIVE: Final = {  # fields that change an answer, or that an answer repeats
    "model", "input", "instructions", "stream", "max_output_tokens", "max_tool_calls", "metadata", "store", "background",
    "parallel_tool_calls", "previous_response_id", "reasoning", "temperature", "top_p", "text", "tools", "tool_choice",
    "top_logprobs", "include", "truncation", "user", "safety_identifier", "prompt_cache_key", "stream_options",
    "service_tier", "keep_alive", "options", "think", "reasoning_effort", "logit_bias", "stop",
}  # fmt: skip
_METADATA_PAIRS, _KEY_CHARACTERS, _VALUE_CHARACTERS = 16, 64, 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Create:
    """``POST /v1/responses``, as sent. ``store`` is ``None`` where the server decides."""

    model: str
    items: tuple[Item, ...]
    instructions: str | None
    stream: bool
    store: bool | None
    background: bool
    previous: str | None
    options: Options
    ignored: tuple[str, ...]
    think: Think | None
    output: OutputFormat | None
    choice: tools.Choice
    parallel_tool_calls: bool
    top_logprobs: int | None
    truncate: bool
    keep_alive_s: float | None
    fetched: Fetched = field(repr=False)
    echo: Mapping[str, Any] = field(repr=False)  # what the answer repeats as it was sent

    @classmethod
    def decode(cls, body: object, fetched: Fetched) -> Create:
        """The JSON of a body, and the images that it links to. Raises `InvalidRequest` that names the field."""
        fields = Fields.of(body, "ResponsesRequest")
        for name, why in _ABSENT.items():
            if fields.raw(name) is not None:
                raise InvalidRequest(f'"{name}" is not supported: {why}', param=name)
        listed, echoed = _tools(fields.raw("tools"))
        choice = tools.chosen(fields.raw("tool_choice"), listed)
        text = fields.nested("text", "ResponsesText")
        truncation = _one_of(fields, "truncation", ("disabled", "auto")) or "disabled"
        parallel = fields.boolean("parallel_tool_calls")
        top_logprobs = _top_logprobs(fields)
        return cls(
            model=fields.string("model") or "",
            items=tuple(items.items_of(fields.raw("input"))),
            instructions=fields.string("instructions"),
            stream=fields.boolean("stream") or False,
            store=fields.boolean("store"),
            background=fields.boolean("background") or False,
            previous=fields.string("previous_response_id") or None,
            options=options.options(fields, {"max_output_tokens": "num_predict"}),
            ignored=_ignored(fields, text),
            think=options.thought(fields),
            output=formats.response_format(text.raw("format"), "text.format"),
            choice=choice,
            parallel_tool_calls=True if parallel is None else parallel,
            top_logprobs=top_logprobs,
            truncate=truncation == "auto",
            keep_alive_s=options.keep_alive(fields),
            fetched=fetched,
            echo={
                "tools": echoed,
                "tool_choice": fields.raw("tool_choice") or "auto",
                "truncation": truncation,
                "text": _text(text),
                "top_logprobs": top_logprobs or 0,
                "reasoning": _reasoning(fields),
                "max_output_tokens": fields.integer("max_output_tokens"),
                "max_tool_calls": fields.integer("max_tool_calls"),
                "metadata": metadata(fields),
                "safety_identifier": fields.string("safety_identifier"),
                "prompt_cache_key": fields.string("prompt_cache_key"),
                "user": fields.string("user"),
            },
        )

    def messages(self, before: Sequence[Item]) -> tuple[Message, ...]:
        """The conversation: the instructions, what came ``before``, the input. Raises `InvalidRequest`."""
        turns = items.messages((*before, *self.items), self.fetched, len(before))
        return (Message("system", self.instructions), *turns) if self.instructions else turns

    def request(self, spec: ModelSpec, messages: tuple[Message, ...]) -> ChatRequest:
        """For the runtime."""
        return ChatRequest(
            model=self.model,
            spec=spec,
            options=self.options,
            think=self.think,
            output=self.output,
            keep_alive_s=self.keep_alive_s,
            truncate=self.truncate,
            top_logprobs=self.top_logprobs,
            background=self.background or in_background.get(),
            messages=messages,
            tools=self.choice.tools,
            tool_choice=self.choice.choice,
            parallel_tool_calls=self.parallel_tool_calls,
        )


def metadata(fields: Fields) -> dict[str, str]:
    """``metadata``: a few short texts that a client wants to see again. Raises `InvalidRequest`."""
    found = fields.mapping("metadata", "map[string]string") or {}
    if len(found) > _METADATA_PAIRS:
        raise InvalidRequest(f"metadata has {len(found)} pairs; at most {_METADATA_PAIRS} are kept", param="metadata")
    for name, value in found.items():
        if not isinstance(value, str):
            raise InvalidRequest(f"metadata.{name} must be a string", param=f"metadata.{name}")
        if len(name) > _KEY_CHARACTERS or len(value) > _VALUE_CHARACTERS:
            limits = f"{_KEY_CHARACTERS} characters, and its value {_VALUE_CHARACTERS}"
            raise InvalidRequest(f"metadata.{name[:80]} is too long: a key has at most {limits}", param="metadata")
    return found


def _tools(value: object) -> tuple[list[tools.Tool], list[dict[str, Any]]]:
    """The functions as the core lists them, and as the answer repeats them."""
    if value is None:
        return [], []
    if not isinstance(value, list):
        raise InvalidRequest("tools must be a list", param="tools")
    listed: list[tools.Tool] = []
    echoed = [_tool(item, f"tools[{place}]", "", listed) for place, item in enumerate(value)]
    return listed, echoed


def _tool(value: object, where: str, prefix: str, listed: list[tools.Tool]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequest(f"{where} must be an object", param=where)
    match value.get("type"):
        case "function":
            inner = value.get("function")
            told = inner if isinstance(inner, dict) else value  # chat completions have it one level deeper
            listed.append(tools.function({**told, "name": f"{prefix}{told.get('name') or ''}"}, where))
            known = {name: told.get(name) for name in ("name", "description", "strict", "parameters")}
            return {"type": "function", **known}
        case "namespace":
            name, members = value.get("name"), value.get("tools")
            if not isinstance(name, str) or not name or not isinstance(members, list):
                raise InvalidRequest(f"{where}: a namespace needs a name and a list of tools", param=where)
            within = [
                _tool(member, f"{where}.tools[{place}]", f"{prefix}{name}.", listed)
                for place, member in enumerate(members)
            ]
            return {"type": "namespace", "name": name, "description": value.get("description"), "tools": within}
        case kind:
            raise InvalidRequest(
                f"{where}: tools of the type {quoted(str(kind))} are not supported: this server runs no tools itself. "
                "Offer a function, and run it where you call from",
                param=f"{where}.type",
            )


def _one_of(fields: Fields, name: str, allowed: Sequence[str]) -> str | None:
    value = fields.string(name)
    if value is not None and value not in allowed:
        expected = " or ".join(quoted(word) for word in allowed)
        raise InvalidRequest(f"{name} {quoted(value)} is not known; expected {expected}", param=name)
    return value


def _top_logprobs(fields: Fields) -> int | None:
    """How many likely tokens come with each; ``None`` where no log-probabilities are asked for."""
    wanted = fields.array("include", "[]string") or []
    for name in wanted:
        if name in _OF_TOOLS:
            continue  # nothing of the kind can be in an answer
        if name not in _INCLUDABLE:
            expected = ", ".join(sorted(_INCLUDABLE))
            raise InvalidRequest(f"include {quoted(str(name))} is not known; expected {expected}", param="include")
    top = fields.integer("top_logprobs")
    if top is not None and not 0 <= top <= options.MOST_RIVALS:
        most = options.MOST_RIVALS
        raise InvalidRequest(f"top_logprobs must be between 0 and {most}, not {top}", param="top_logprobs")
    return top or 0 if _LOGPROBS in wanted or top else None


def _reasoning(fields: Fields) -> dict[str, Any] | None:
    reasoning = fields.mapping("reasoning", "ResponsesReasoning")
    if reasoning is None:
        return None
    inner = fields.nested("reasoning", "ResponsesReasoning")
    given = {name: inner.string(name) for name in ("effort", "summary")}
    return {name: value for name, value in given.items() if value is not None}


def _text(text: Fields) -> dict[str, Any]:
    given = text.raw("format") or {"type": "text"}
    verbosity = _one_of(text, "verbosity", ("low", "medium", "high"))
    return {"format": given, **({"verbosity": verbosity} if verbosity else {})}


def _ignored(fields: Fields, text: Fields) -> tuple[str, ...]:
    """Fields that mean nothing here; whoever sent them is told."""
    unknown = [name for name in fields.values if name not in _EFFECTIVE and name not in PARAMETERS]
    unknown = [name for name in unknown if name not in _ABSENT and fields.raw(name) is not None]
    if text.raw("verbosity") in ("low", "high"):
        unknown.append("text.verbosity")
    return tuple(unknown)
