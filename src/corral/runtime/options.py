"""The options of a request and of a model, and what they mean for an engine.

A model's own parameters and a request's options are the same table, the request's winning. A value of the wrong type or out of
range is refused by name; a name that means nothing here is reported back, never dropped in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from corral.engine.base import Sampling
from corral.parameters import PARAMETERS, checked

_SMALLEST_BATCH = 64  # llama.cpp aborts on very small ones; how a prompt is cut changes nothing in the answer

_NO_LIMIT = 2**30  # tokens: more than any context, and the engine counts in 32 bits


@dataclass(frozen=True, slots=True)
class EngineWishes:
    """What a request wants of the engine it runs on; ``None`` is no wish."""

    num_ctx: int | None = None
    batch: int | None = None
    gpu_layers: int | None = None
    main_gpu: int | None = None
    mmap: bool | None = None
    threads: int | None = None
    slots: int | None = None


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
            slots=get("num_parallel") or None,
        )

    def sampling(self, *, num_ctx: int, top_logprobs: int | None = None) -> Sampling:
        """How tokens are chosen. ``num_predict`` of 0 or less is no limit, on every path alike."""
        get = self.values.get
        default = Sampling()
        last_n = get("repeat_last_n", default.repeat_last_n)
        limit, seed = get("num_predict", -1), get("seed", -1)
        dry_last_n = get("dry_penalty_last_n")
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
            max_tokens=limit if 0 < limit < _NO_LIMIT else None,
            top_logprobs=top_logprobs,
            logit_bias=get("logit_bias", ()),
            top_n_sigma=get("top_n_sigma"),
            xtc_probability=get("xtc_probability"),
            xtc_threshold=get("xtc_threshold"),
            dry_multiplier=get("dry_multiplier"),
            dry_base=get("dry_base"),
            dry_allowed_length=get("dry_allowed_length"),
            dry_penalty_last_n=num_ctx if dry_last_n == -1 else dry_last_n,
            dry_sequence_breakers=get("dry_sequence_breakers") or None,
            dynatemp_range=get("dynatemp_range"),
            dynatemp_exponent=get("dynatemp_exponent"),
            mirostat=get("mirostat"),
            mirostat_tau=get("mirostat_tau"),
            mirostat_eta=get("mirostat_eta"),
            samplers=get("samplers") or None,
        )


def parse_options(raw: Mapping[str, Any]) -> Options:
    """``raw`` as options. Raises `InvalidRequest` that names the option; ``null`` leaves one at its default."""
    values = {name: checked(name, value) for name, value in raw.items() if name in PARAMETERS and value is not None}
    ignored = tuple(name for name, value in raw.items() if name not in PARAMETERS and value is not None)
    return Options(values, ignored)
