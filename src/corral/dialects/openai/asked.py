"""What chat completions and completions ask for alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from corral.dialects import gojson
from corral.dialects.gojson import Fields
from corral.dialects.wire import formats, options
from corral.durations import quoted
from corral.engine.base import OutputFormat
from corral.errors import InvalidRequest
from corral.library import ModelSpec
from corral.parameters import PARAMETERS
from corral.runtime.options import Options
from corral.runtime.requests import Think

MOST_CHOICES = 128
LIMITS: Final = {**options.ALIASES, "max_tokens": "num_predict", "max_completion_tokens": "num_predict"}

# Fields that are read, or that change nothing in an answer wherever they are served.
_KNOWN = frozenset(
    {
        "model", "stream", "stream_options", "n", "options", "stop", "logprobs", "reasoning", "reasoning_effort",
        "think", "chat_template_kwargs", "keep_alive", "user", "metadata", "safety_identifier", "prompt_cache_key",
        "prompt_cache_retention", "prompt_cache_options", "prediction", "_debug_render_only",
        *formats.FIELDS, *PARAMETERS, *LIMITS,
    }
)  # fmt: skip

# Fields with values that ask for nothing; with any other value they are named as ignored.
_HARMLESS: Mapping[str, tuple[object, ...]] = {
    "store": (False,),
    "service_tier": ("auto", "default"),
    "verbosity": ("medium",),
    "cache_prompt": (True,),
}
_REFUSED: Mapping[str, str] = {
    "web_search_options": "this server does not search the web",
    "moderation": "this server does not moderate",
    "audio": "no model answers in sound here",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The fields that both have, checked."""

    model: str
    stream: bool
    include_usage: bool
    n: int
    options: Options
    think: Think | None
    output: OutputFormat | None
    keep_alive_s: float | None
    top_logprobs: int | None
    render_only: bool = False

    def core(self, spec: ModelSpec) -> list[dict[str, Any]]:
        """Arguments of a core request, once for each of the ``n`` answers; with a seed each has its own, counted up."""
        shared: dict[str, Any] = {
            "model": self.model,
            "spec": spec,
            "options": self.options,
            "think": self.think,
            "output": self.output,
            "keep_alive_s": self.keep_alive_s,
            "truncate": False,
            "top_logprobs": self.top_logprobs,
        }
        seed = self.options.values.get("seed", spec.parameters.get("seed", -1))
        if not isinstance(seed, int) or seed < 0:
            return [shared] * self.n
        return [shared | {"options": _with(self.options, seed=seed + number)} for number in range(self.n)]


def fields_of(body: bytes, kind: str) -> Fields:
    """The fields of a request; ``kind`` is Go's name for it. Raises `InvalidRequest`."""
    value = gojson.parse(body)
    if value is not None and not isinstance(value, dict):
        raise InvalidRequest(f"json: cannot unmarshal {gojson.kind(value)} into Go value of type openai.{kind}")
    return Fields.of(value, kind)


def decode(fields: Fields, known: frozenset[str], top_logprobs: int | None) -> dict[str, Any]:
    """The fields of `Asked`. What is not ``known`` is reported as ignored, what cannot be is refused by name."""
    for name, why in _REFUSED.items():
        if fields.raw(name) is not None:
            raise InvalidRequest(f"{name} is not supported: {why}", param=name)
    given = options.options(fields, LIMITS)
    return {
        "model": fields.string("model") or "",
        "stream": fields.boolean("stream") or False,
        "include_usage": fields.nested("stream_options", "openai.StreamOptions").boolean("include_usage") or False,
        "n": _choices(fields),
        "options": replace(given, ignored=given.ignored + _ignored(fields, known)),
        "think": options.thought(fields),
        "output": formats.output(fields),
        "keep_alive_s": options.keep_alive(fields),
        "top_logprobs": top_logprobs,
        "render_only": fields.boolean("_debug_render_only") or False,
    }


def _choices(fields: Fields) -> int:
    n = fields.integer("n")
    if n is not None and not 1 <= n <= MOST_CHOICES:
        raise InvalidRequest(f"n must be from 1 to {MOST_CHOICES}, not {n}", param="n")
    return n or 1


def _ignored(fields: Fields, known: frozenset[str]) -> tuple[str, ...]:
    def asks(name: str, value: object) -> bool:
        if value is None or name in _KNOWN or name in known:
            return False
        return value not in _HARMLESS.get(name, ())

    kwargs = fields.nested("chat_template_kwargs", "map[string]interface {}").values
    return tuple(name for name, value in fields.values.items() if asks(name, value)) + tuple(
        f"chat_template_kwargs.{name}" for name in kwargs if name != "enable_thinking"
    )


def _with(options: Options, **values: object) -> Options:
    return replace(options, values={**options.values, **values})


def no_model() -> InvalidRequest:
    """The error for a request without a model."""
    return InvalidRequest("model is required", param="model")


def unknown_value(name: str, value: object, expected: str) -> InvalidRequest:
    """The error for a field that has only a few values."""
    return InvalidRequest(f"{name} {quoted(str(value))} is not known; expected {expected}", param=name)
