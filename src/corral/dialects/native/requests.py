"""Requests of the native API, from JSON to typed values. Field names, types and error texts are Ollama's (``api/types.go``)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson

from corral.dialects import gojson
from corral.dialects.gojson import Fields
from corral.dialects.native import extras
from corral.durations import parse_age
from corral.engine.base import Json, Message, ToolCall, ToolChoice
from corral.errors import InvalidRequest
from corral.library import ModelSpec
from corral.runtime.options import Options, parse_options
from corral.runtime.requests import ChatRequest, GenerateRequest, Think


@dataclass(frozen=True, slots=True, kw_only=True)
class Inference:
    """What generate and chat share, as sent."""

    model: str
    stream: bool
    options: Mapping[str, Any]
    think: Think | None
    form: extras.Form
    keep_alive_s: float | None
    truncate: bool
    top_logprobs: int | None
    render_only: bool

    def _common(self, spec: ModelSpec, *, generates: bool) -> dict[str, Any]:
        """What only ``generates`` nothing may ask for a form that there is not."""
        return {
            "model": self.model,
            "spec": spec,
            "options": self.checked_options(),
            "think": self.think,
            "output": self.form.output() if generates else None,
            "keep_alive_s": self.keep_alive_s,
            "truncate": self.truncate,
            "top_logprobs": self.top_logprobs,
            "thinks_apart": True,
        }

    def checked_options(self) -> Options:
        """The options, each of the right type and in range. Raises `InvalidRequest`."""
        return parse_options(self.options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Generate(Inference):
    """``POST /api/generate``."""

    prompt: str
    suffix: str
    system: str
    template: str
    context: tuple[int, ...] | None
    raw: bool
    images: tuple[bytes, ...]

    @classmethod
    def decode(cls, body: bytes) -> Generate:
        """Raises `InvalidRequest`."""
        fields = Fields.of(gojson.parse(body), "GenerateRequest")
        context = fields.integers("context")
        return cls(
            **_inference(fields),
            prompt=fields.string("prompt") or "",
            suffix=fields.string("suffix") or "",
            system=fields.string("system") or "",
            template=fields.string("template") or "",
            context=None if context is None else tuple(context),
            raw=fields.boolean("raw") or False,
            images=tuple(fields.base64s("images") or ()),
        )

    def request(self, spec: ModelSpec) -> GenerateRequest:
        """For the runtime."""
        return GenerateRequest(
            **self._common(spec, generates=bool(self.prompt)),
            prompt=self.prompt,
            raw=self.raw,
            system=self.system or None,
            suffix="" if self.raw else self.suffix,
            own_template=self.template,
            images=self.images,
            context=self.context,
            want_context=not self.raw,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat(Inference):
    """``POST /api/chat``."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Json], ...]
    tool_choice: ToolChoice
    parallel_tool_calls: bool

    @classmethod
    def decode(cls, body: bytes) -> Chat:
        """Raises `InvalidRequest`."""
        fields = Fields.of(gojson.parse(body), "ChatRequest")
        return cls(
            **_inference(fields),
            messages=tuple(_message(item) for item in fields.children("messages", "api.Message")),
            tools=tuple(_tool(item) for item in fields.children("tools", "api.Tool", "api.Tools")),
            tool_choice=extras.tool_choice(fields),
            parallel_tool_calls=fields.boolean("parallel_tool_calls") is not False,
        )

    def request(self, spec: ModelSpec) -> ChatRequest:
        """For the runtime."""
        return ChatRequest(
            **self._common(spec, generates=bool(self.messages)),
            messages=self.messages,
            tools=self.tools,
            tool_choice=self.tool_choice,
            parallel_tool_calls=self.parallel_tool_calls,
        )


@dataclass(frozen=True, slots=True)
class Show:
    """``POST /api/show``."""

    model: str
    system: str
    verbose: bool
    options: Mapping[str, Any]

    @classmethod
    def decode(cls, body: bytes) -> Show:
        """Raises `InvalidRequest`."""
        fields = Fields.of(gojson.parse(body), "ShowRequest")
        return cls(
            _model_or_name(fields),
            fields.string("system") or "",
            fields.boolean("verbose") or False,
            fields.mapping("options", "map[string]interface {}") or {},
        )


@dataclass(frozen=True, slots=True)
class Copy:
    """``POST /api/copy``."""

    source: str
    destination: str

    @classmethod
    def decode(cls, body: bytes) -> Copy:
        """Raises `InvalidRequest`."""
        fields = Fields.of(gojson.parse(body), "CopyRequest")
        return cls(fields.string("source") or "", fields.string("destination") or "")


@dataclass(frozen=True, slots=True)
class Transfer:
    """``POST /api/pull`` and ``POST /api/push``; ``kind`` is Go's name for the request."""

    model: str
    insecure: bool
    stream: bool
    username: str
    password: str = field(repr=False)

    @classmethod
    def decode(cls, body: bytes, kind: str) -> Transfer:
        """Raises `InvalidRequest`."""
        fields = Fields.of(gojson.parse(body), kind)
        model, stream = _model_or_name(fields), fields.boolean("stream")
        username, password = (fields.string(name) or "" for name in ("username", "password"))
        return cls(model, fields.boolean("insecure") or False, True if stream is None else stream, username, password)


@dataclass(frozen=True, slots=True)
class Prune:
    """``POST /api/prune``, which is ours. Ages are seconds; ``None`` is what is usual for its kind."""

    older_than_s: float | None
    dry_run: bool

    @classmethod
    def decode(cls, body: bytes) -> Prune:
        """Raises `InvalidRequest`."""
        fields = Fields.of(gojson.parse(body), "PruneRequest")
        age = fields.string("older_than")
        return cls(None if age is None else parse_age(age), fields.boolean("dry_run") or False)


@dataclass(frozen=True, slots=True)
class Verify:
    """``POST /api/verify``, which is ours. No ``models`` are all."""

    models: tuple[str, ...]
    repair: bool
    insecure: bool
    stream: bool

    @classmethod
    def decode(cls, body: bytes) -> Verify:
        """Raises `InvalidRequest`."""
        fields = Fields.of(gojson.parse(body), "VerifyRequest")
        models, stream = fields.array("models", "[]string") or [], fields.boolean("stream")
        if not all(isinstance(model, str) for model in models):
            raise InvalidRequest('"models" is a list of names')
        return cls(
            tuple(models),
            fields.boolean("repair") or False,
            fields.boolean("insecure") or False,
            True if stream is None else stream,
        )


def decode_delete(body: bytes) -> str:
    """``DELETE /api/delete``: the model's name as sent. Raises `InvalidRequest`."""
    return _model_or_name(Fields.of(gojson.parse(body), "DeleteRequest"))


def _model_or_name(fields: Fields) -> str:
    model, name = fields.string("model"), fields.string("name")
    return model or name or ""


def _inference(fields: Fields) -> dict[str, Any]:
    model = fields.string("model") or ""
    stream = fields.boolean("stream")
    truncate = fields.boolean("truncate")
    fields.boolean("shift")  # checked like the rest; a context is never shifted here
    logprobs, top = fields.boolean("logprobs"), fields.integer("top_logprobs") or 0
    decoded = {
        "model": model,
        "stream": True if stream is None else stream,
        "options": extras.options(fields) | (fields.mapping("options", "map[string]interface {}") or {}),
        "think": gojson.think(fields.raw("think")),
        "form": extras.Form.of(fields),
        "keep_alive_s": gojson.keep_alive(fields.raw("keep_alive")),
        "truncate": True if truncate is None else truncate,
        "top_logprobs": top if logprobs else None,
        "render_only": fields.boolean("_debug_render_only") or False,
    }
    if not 0 <= top <= 20:
        raise InvalidRequest("top_logprobs must be between 0 and 20")
    return decoded


def _message(fields: Fields) -> Message:
    return Message(
        role=(fields.string("role") or "").lower(),
        content=fields.string("content") or "",
        thinking=fields.string("thinking") or "",
        images=tuple(fields.base64s("images") or ()),
        tool_calls=tuple(_tool_call(item) for item in fields.children("tool_calls", "api.ToolCall")),
        tool_name=fields.string("tool_name") or "",
        tool_call_id=fields.string("tool_call_id") or "",
    )


def _tool_call(fields: Fields) -> ToolCall:
    function = fields.nested("function", "api.ToolCallFunction")
    arguments = function.raw("arguments")
    if isinstance(arguments, str):  # OpenAI's spelling, which Ollama refuses
        with suppress(orjson.JSONDecodeError):
            arguments = orjson.loads(arguments)
    if arguments is not None and not isinstance(arguments, dict):
        raise InvalidRequest(
            "\"arguments\" of a tool call must be a JSON object. Value looks like object, but can't find closing '}' symbol"
        )
    name = function.string("name") or ""
    return ToolCall(name, orjson.dumps(arguments or {}).decode(), fields.string("id") or "")


def _tool(fields: Fields) -> Mapping[str, Json]:
    fields.string("type")
    function = fields.nested("function", "api.ToolFunction")
    name = function.string("name")
    function.string("description")
    function.mapping("parameters", "api.ToolFunctionParameters")
    if name is None:
        raise InvalidRequest('each of "tools" needs a "function" with a "name"')
    return {"type": "function", "function": {k: v for k, v in function.values.items() if v is not None}}
