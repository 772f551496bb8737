"""Requests of Anthropic's Messages API, from JSON to typed values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from corral.dialects import gojson
from corral.dialects.anthropic.content import conversation, system_text
from corral.dialects.anthropic.errors import no_threads
from corral.dialects.anthropic.tools import Tools, read_tools
from corral.dialects.gojson import Fields, kind
from corral.dialects.media import Fetched
from corral.durations import quoted
from corral.engine.base import Message, OutputFormat
from corral.errors import InvalidRequest
from corral.library import ModelSpec
from corral.runtime.options import parse_options
from corral.runtime.requests import ChatRequest, Think

_EFFORTS: Mapping[str, Think] = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "max"}
_OPTIONS = ("temperature", "top_p", "top_k")
# Fields that are read, or that change nothing in an answer here. All others are left out, and named to the client.
_KNOWN = frozenset(
    {
        "model", "max_tokens", "messages", "stream", "system", "stop_sequences", "tools", "tool_choice", "thinking",
        "output_config", "output_format", "options", "keep_alive", "metadata", "service_tier", "cache_control", *_OPTIONS,
    }
)  # fmt: skip
_ELSEWHERE = ("mcp_servers", "container", "compaction")  # what would change the answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Messages:
    """``POST /v1/messages``, and ``/v1/messages/count_tokens``, as sent. ``ignored`` are the fields that mean nothing here."""

    model: str
    max_tokens: int
    messages: tuple[Message, ...]
    stream: bool
    options: Mapping[str, Any]
    stop_sequences: tuple[str, ...]
    tools: Tools
    think: Think | None
    show_thoughts: bool
    output: OutputFormat | None
    keep_alive_s: float | None
    ignored: tuple[str, ...]

    @classmethod
    def decode(cls, body: object, fetched: Fetched, *, count_only: bool = False) -> Messages:
        """Of the JSON of a body. ``fetched`` are the images behind its links; ``count_only`` needs no ``max_tokens``.

        Raises `InvalidRequest`.
        """
        fields = Fields.of(body, "MessagesRequest")
        model, max_tokens, stream = fields.string("model"), fields.integer("max_tokens"), fields.boolean("stream")
        messages, stops = fields.array("messages", "[]anthropic.MessageParam"), _stops(fields)
        tools = fields.array("tools", "[]anthropic.Tool") or []
        if not model:
            raise InvalidRequest("model is required")
        if not count_only and (max_tokens is None or max_tokens <= 0):
            raise InvalidRequest("max_tokens is required and must be positive")
        if not messages:
            raise InvalidRequest("messages is required")
        if fields.raw("thread"):
            raise no_threads()
        for name in _ELSEWHERE:
            if fields.raw(name):
                raise InvalidRequest(f"{name} is not supported: it is a service of Anthropic's; leave it out")
        turns = conversation(messages, system_text(fields.raw("system")), fetched)
        if not turns:
            raise InvalidRequest("messages has nothing that the model could see")
        listed = read_tools(tools, fields.raw("tool_choice"))
        think, show = _thinking(fields)
        return cls(
            model=model,
            max_tokens=max_tokens or 0,
            messages=turns,
            stream=stream or False,
            options=(fields.mapping("options", "map[string]interface {}") or {})
            | {name: value for name in _OPTIONS if (value := fields.raw(name)) is not None},
            stop_sequences=stops,
            tools=listed,
            think=think,
            show_thoughts=show,
            output=_output(fields),
            keep_alive_s=gojson.keep_alive(fields.raw("keep_alive")),
            ignored=(*_left_out(fields), *listed.ignored),
        )

    def request(self, spec: ModelSpec) -> ChatRequest:
        """For the runtime. Raises `InvalidRequest` for a wrong option."""
        options = dict(self.options)
        if self.max_tokens:
            options["num_predict"] = self.max_tokens
        if self.stop_sequences:
            own = parse_options(spec.parameters).values.get(
                "stop", ()
            )  # they end its turns, whatever else is asked for
            options["stop"] = [*self.stop_sequences, *own]
        can_think = "thinking" in spec.capabilities
        return ChatRequest(
            model=self.model,
            spec=spec,
            options=parse_options(options),
            think=self.think if can_think or self.think is False else None,
            output=self.output,
            keep_alive_s=self.keep_alive_s,
            truncate=False,
            progress=True,
            messages=self.messages,
            tools=self.tools.listed,
            tool_choice=self.tools.choice,
            parallel_tool_calls=self.tools.parallel,
        )

    def ignored_by(self, asked: ChatRequest) -> tuple[str, ...]:
        """What was asked for and means nothing: to this server, or to the model."""
        thinking = ("thinking",) if self.think and not asked.think else ()
        return (*self.ignored, *thinking, *asked.options.ignored)


def _left_out(fields: Fields) -> tuple[str, ...]:
    """What was sent and asks for nothing that this server has."""
    unknown = [name for name, value in fields.values.items() if value and name not in (*_KNOWN, *_ELSEWHERE, "thread")]
    effort = (fields.mapping("output_config", "anthropic.OutputConfig") or {}).get("effort")
    return (*unknown, *(["output_config.effort"] if effort is not None and _level(effort) is None else []))


def _stops(fields: Fields) -> tuple[str, ...]:
    stops = fields.array("stop_sequences", "[]string") or []
    for number, stop in enumerate(stops):
        if not isinstance(stop, str):
            raise InvalidRequest(
                f"json: cannot unmarshal {kind(stop)} into Go struct field MessagesRequest.stop_sequences of type string"
            )
        if not stop:
            raise InvalidRequest(f"stop_sequences.{number}: an empty text cannot end an answer")
    return tuple(stops)


def _thinking(fields: Fields) -> tuple[Think | None, bool]:
    """Whether and how hard to think, and whether the client wants to see it."""
    thinking = fields.mapping("thinking", "anthropic.ThinkingConfig")
    effort = _level((fields.mapping("output_config", "anthropic.OutputConfig") or {}).get("effort"))
    if thinking is None:
        return effort, True
    show = thinking.get("display") != "omitted"
    match thinking.get("type"):
        case "enabled":
            return effort or True, show
        case "disabled":
            return False, show
        case "adaptive" | "between_tools":
            return effort, show
        case other:
            known = "enabled, disabled, adaptive"
            raise InvalidRequest(f"thinking.type: {quoted(str(other))} is none of {known}")


def _level(effort: object) -> Think | None:
    return _EFFORTS.get(effort.strip().lower()) if isinstance(effort, str) else None


def _output(fields: Fields) -> OutputFormat | None:
    """The format of the answer: ``output_config.format``, or where older clients have it."""
    wanted: object = (fields.raw("output_config") or {}).get("format")  # type: ignore[attr-defined]
    where = "output_config.format"
    if wanted is None:
        wanted, where = fields.raw("output_format"), "output_format"
    if wanted is None:
        return None
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
        raise InvalidRequest(f'{where}: expected {{"type": "json_schema", "schema": …}}')
    schema = wanted.get("schema")
    if not isinstance(schema, dict):
        got = "nothing" if schema is None else kind(schema)
        raise InvalidRequest(f"{where}.schema: expected a JSON Schema object, got {got}")
    return OutputFormat(schema)
