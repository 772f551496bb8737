"""The options of a request and of a model: the names of Ollama's ``options``, their types and ranges.

A model's own parameters and a request's options are the same table, the request's winning. A value of the wrong type or out of
range is refused by name; a name that means nothing here is reported back, never dropped in silence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from corral.durations import quoted
from corral.engine.base import Sampling
from corral.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Option:
    """What one option may be: its type in Ollama's words, and its range."""

    type: str  # integer, float32, boolean, array
    low: float = -math.inf
    high: float = math.inf
    exclusive: bool = False  # ``low`` itself is out


_INT = 2**31 - 1
OPTIONS: Mapping[str, Option] = {
    "num_keep": Option("integer"),  # tokens kept by a context shift; the context is never shifted here
    "seed": Option("integer"),
    "num_predict": Option("integer"),
    "top_k": Option("integer", -_INT, _INT),
    "top_p": Option("float32", 0, 1),
    "min_p": Option("float32", 0, 1),
    "typical_p": Option("float32", 0, 1),
    "repeat_last_n": Option("integer", -1, _INT),
    "temperature": Option("float32", 0, 100),
    "repeat_penalty": Option("float32", 0, 100, exclusive=True),
    "presence_penalty": Option("float32", -100, 100),
    "frequency_penalty": Option("float32", -100, 100),
    "stop": Option("array"),
    "num_ctx": Option("integer", 4, _INT),
    "num_batch": Option("integer", 1, 65536),
    "num_gpu": Option("integer", -1, _INT),
    "main_gpu": Option("integer", 0, 1024),
    "use_mmap": Option("boolean"),
    "num_thread": Option("integer", 0, 4096),
}

_SMALLEST_BATCH = 64  # llama.cpp aborts on very small ones; how a prompt is cut changes nothing in the answer


@dataclass(frozen=True, slots=True)
class EngineWishes:
    """What a request wants of the engine it runs on; ``None`` is no wish."""

    num_ctx: int | None = None
    batch: int | None = None
    gpu_layers: int | None = None
    main_gpu: int | None = None
    mmap: bool | None = None
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """Options that passed: every value has its type and lies in its range."""

    values: Mapping[str, Any] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()

    def over(self, defaults: Options) -> Options:
        """These options, and those of ``defaults`` that they leave open."""
        return Options({**defaults.values, **self.values}, self.ignored)

    @property
    def wishes(self) -> EngineWishes:
        """What concerns the engine."""
        get = self.values.get
        batch, gpu, threads = get("num_batch"), get("num_gpu", -1), get("num_thread", 0)
        return EngineWishes(
            num_ctx=get("num_ctx"),
            batch=None if batch is None else max(batch, _SMALLEST_BATCH),
            gpu_layers=None if gpu < 0 else gpu,
            main_gpu=get("main_gpu"),
            mmap=get("use_mmap"),
            threads=threads or None,
        )

    def sampling(self, *, num_ctx: int, top_logprobs: int | None = None) -> Sampling:
        """How tokens are chosen. ``num_predict`` of 0 or less is no limit, on every path alike."""
        get = self.values.get
        default = Sampling()
        last_n = get("repeat_last_n", default.repeat_last_n)
        limit, seed = get("num_predict", -1), get("seed", -1)
        return Sampling(
            temperature=get("temperature", default.temperature),
            top_k=max(0, get("top_k", default.top_k)),
            top_p=get("top_p", default.top_p),
            min_p=get("min_p", default.min_p),
            typical_p=get("typical_p", default.typical_p),
            repeat_last_n=num_ctx if last_n == -1 else last_n,
            repeat_penalty=get("repeat_penalty", default.repeat_penalty),
            presence_penalty=get("presence_penalty", default.presence_penalty),
            frequency_penalty=get("frequency_penalty", default.frequency_penalty),
            seed=None if seed < 0 else seed % 2**32,
            stop=get("stop", ()),
            max_tokens=limit if limit > 0 else None,
            top_logprobs=top_logprobs,
        )


def parse_options(raw: Mapping[str, Any]) -> Options:
    """``raw`` as options. Raises `InvalidRequest` that names the option; ``null`` leaves one at its default."""
    values = {name: _value(name, value) for name, value in raw.items() if name in OPTIONS and value is not None}
    ignored = tuple(name for name, value in raw.items() if name not in OPTIONS and value is not None)
    return Options(values, ignored)


def _value(name: str, value: Any) -> Any:
    option = OPTIONS[name]
    match option.type:
        case "boolean":
            if not isinstance(value, bool):
                raise _wrong_type(name, "boolean")
            return value
        case "array":
            if not isinstance(value, list | tuple):
                raise _wrong_type(name, "array")
            if not all(isinstance(item, str) for item in value):
                raise _wrong_type(name, "an array of strings")
            return tuple(item for item in value if item)  # an empty stop string would end every answer
        case kind:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise _wrong_type(name, kind)
            return _in_range(name, option, value)


def _in_range(name: str, option: Option, value: float) -> float:
    below = value <= option.low if option.exclusive else value < option.low
    if not math.isfinite(value) or below or value > option.high:
        low = "-inf" if option.low == -math.inf else f"{option.low:g}"
        relation = "greater than" if option.exclusive else "at least"
        limit = f" and at most {option.high:g}" if option.high != math.inf else ""
        raise InvalidRequest(f"option {quoted(name)} must be {relation} {low}{limit}, not {value:g}")
    return int(value) if option.type == "integer" else float(value)


def _wrong_type(name: str, kind: str) -> InvalidRequest:
    return InvalidRequest(f"option {quoted(name)} must be of {'' if kind.startswith('an ') else 'type '}{kind}")
