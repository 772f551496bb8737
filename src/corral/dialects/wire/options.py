"""How tokens are chosen, by whatever name a client has for it: OpenAI's fields, those of llama.cpp, and Ollama's ``options``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from corral.dialects import gojson
from corral.dialects.gojson import Fields, go_type
from corral.durations import quoted
from corral.errors import InvalidRequest
from corral.parameters import PARAMETERS, checked
from corral.runtime.options import Options
from corral.runtime.requests import Think

T = TypeVar("T")

# Names that mean one of Ollama's parameters.
ALIASES: Final = {"n_predict": "num_predict", "n_keep": "num_keep", "repetition_penalty": "repeat_penalty"}

MOST_RIVALS: Final = 20
_EFFORTS: Mapping[str, Think | None] = {
    "": None,
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "max",
    "ultra": "max",
    "max": "max",
}


def options(fields: Fields, aliases: Mapping[str, str]) -> Options:
    """The options of a request. Its own fields win over its ``options``; of ``aliases`` for one parameter the last one given wins.

    Raises `InvalidRequest` that names the field as the client wrote it.
    """
    values: dict[str, Any] = {}
    ignored = []
    for name, value in (fields.mapping("options", "map[string]interface {}") or {}).items():
        if value is None:
            continue
        if name in PARAMETERS:
            values[name] = _checked(f"options.{name}", name, value)
        else:
            ignored.append(name)
    names = {**{name: name for name in PARAMETERS if name != "stop"}, **aliases}
    for name, parameter in names.items():
        if fields.raw(name) is not None:
            values[parameter] = _checked(name, parameter, _typed(fields, name, PARAMETERS[parameter].type))
    if stop := stops(fields):
        values["stop"] = stop
    return Options(values, tuple(ignored))


def stops(fields: Fields) -> tuple[str, ...]:
    """``stop``: a text or a list of them. An empty text would end every answer, so it is none."""
    value = fields.raw("stop")
    texts = [value] if isinstance(value, str) else [] if value is None else value
    wrong = next((text for text in texts if not isinstance(text, str)), None) if isinstance(texts, list) else texts
    if wrong is not None or (isinstance(value, list) and None in value):
        raise InvalidRequest(f"invalid type for 'stop' field: {go_type(wrong)}", param="stop")
    assert isinstance(texts, list)
    return tuple(text for text in texts if text)


def thought(fields: Fields) -> Think | None:
    """Whether and how hard to think: OpenAI's ``reasoning`` and ``reasoning_effort``, Ollama's ``think``, then the
    ``chat_template_kwargs`` of llama.cpp and vLLM.
    """
    reasoning = fields.nested("reasoning", "openai.Reasoning")
    where = "reasoning.effort" if fields.raw("reasoning") is not None else "reasoning_effort"
    effort = reasoning.string("effort") if where == "reasoning.effort" else fields.string("reasoning_effort")
    if effort is not None and effort not in _EFFORTS:
        raise InvalidRequest(
            f'invalid reasoning value: {quoted(effort)} (must be "minimal", "low", "medium", "high", "xhigh", "ultra", '
            '"max", or "none")',
            param=where,
        )
    wanted = _EFFORTS[effort or ""]
    if wanted is None:
        wanted = named("think", gojson.think, fields)
    if wanted is None:
        wanted = fields.nested("chat_template_kwargs", "map[string]interface {}").boolean("enable_thinking")
    return wanted


def rivals(fields: Fields) -> int | None:
    """How many likely tokens each token's log-probability comes with; ``None`` where none are asked for."""
    wanted, top = fields.boolean("logprobs"), fields.integer("top_logprobs") or 0
    if not 0 <= top <= MOST_RIVALS:
        raise InvalidRequest(f"top_logprobs must be between 0 and {MOST_RIVALS}, not {top}", param="top_logprobs")
    return top if wanted else None


def keep_alive(fields: Fields) -> float | None:
    """How long the model stays, in seconds."""
    return named("keep_alive", gojson.keep_alive, fields)


def named(name: str, read: Callable[[object], T], fields: Fields) -> T:
    """What ``read`` makes of the field ``name``, which its errors then name."""
    try:
        return read(fields.raw(name))
    except InvalidRequest as exc:
        raise InvalidRequest(str(exc), param=name) from exc


def _typed(fields: Fields, name: str, kind: str) -> object:
    match kind:
        case "integer":
            return fields.integer(name)
        case "boolean":
            return fields.boolean(name)
        case "float32":
            return fields.number(name)
    return fields.raw(name)


def _checked(name: str, parameter: str, value: object) -> Any:
    try:
        return checked(parameter, value)
    except InvalidRequest as exc:
        raise InvalidRequest(str(exc).replace(quoted(parameter), quoted(name), 1), param=name) from exc
