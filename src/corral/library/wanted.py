"""A model as somebody wants it made, and whether that makes sense. Pure: nothing here looks at a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from corral.durations import quoted
from corral.errors import InvalidRequest, NotSupported, TemplateError
from corral.gguf.mixtures import mixture
from corral.modelfile import ROLES, semantic_version
from corral.names import ModelName
from corral.parameters import PARAMETERS, WITHOUT_EFFECT, checked
from corral.templates.template import Template

# What a model may ask for with REQUIRES: the Ollama whose behaviour Corral follows.
COMPATIBLE_WITH = "0.30.0"

_RENDERERS = frozenset(
    """qwen3-coder qwen3-vl-instruct qwen3-vl-thinking qwen3.5 qwen3.8 ornith cogito deepseek3.1 olmo3 olmo3.1 olmo3-think
    olmo3-32b-think nemotron-3-nano nemotron-3.5-nano gemma4 gemma4-small gemma4-large functiongemma glm-4.7 glm-ocr lfm2
    lfm2-thinking laguna poolside-v1 cohere glimmer harmony""".split()  # noqa: SIM905
)
_PARSERS = frozenset(
    """qwen3 qwen3-thinking qwen3.5 ornith qwen3-coder qwen3-vl-instruct qwen3-vl-thinking ministral passthrough harmony cogito
    deepseek3 olmo3 olmo3-think nemotron-3-nano nemotron-3.5-nano functiongemma glm-4.7 glm-ocr gemma4 gemma4-no-thinking lfm2
    lfm2-thinking laguna poolside-v1 cohere glimmer""".split()  # noqa: SIM905
)
_INFO_TEXTS = {
    "model_family": "model_family",
    "base_name": "base_name",
    "quantization_level": "file_type",
    "parameter_size": "model_type",
}
_LARGEST = 2**53
_INFO_NUMBERS = ("context_length", "embedding_length")


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedModel:
    """What ``name`` is to be: made from the model ``origin`` or from ``files``, and with what besides.

    ``files`` and ``adapters`` have the digests of blobs by the names that somebody gives them. Empty is what was not given;
    ``files`` is ``None`` then. ``parameters`` and ``info`` are as they were sent.
    """

    name: ModelName
    origin: ModelName | None = None
    files: Mapping[str, str] | None = None
    adapters: Mapping[str, str] = field(default_factory=dict)
    template: str = ""
    system: str = ""
    licenses: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    messages: tuple[tuple[str, str], ...] = ()
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    quantize: str = ""
    allow_requantize: bool = False
    info: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Checked:
    """What was sent as JSON, with types: ``parameters`` without those ``without_effect``, and fields of the configuration."""

    parameters: Mapping[str, object]
    without_effect: tuple[str, ...]
    config: Mapping[str, object]


def check(wanted: WantedModel) -> Checked:
    """Whether ``wanted`` makes sense by itself. Raises `InvalidRequest`, `QuantizationError`, `NotSupported`."""
    if wanted.origin is None and wanted.files is None:
        raise InvalidRequest("neither 'from' or 'files' was specified")
    if wanted.origin is not None and wanted.files:
        raise InvalidRequest("'from' and 'files' were both specified; a model is made from one of them")
    if len(wanted.adapters) > 1 and not any(name.lower().endswith(".safetensors") for name in wanted.adapters):
        raise InvalidRequest("only one adapter is currently supported")
    if wanted.quantize:
        mixture(wanted.quantize)
    if wanted.template:
        _check_template(wanted.template)
    for role, _ in wanted.messages:
        if role not in ROLES:
            raise InvalidRequest(f"message role must be one of {', '.join(map(quoted, ROLES))}, not {quoted(role)}")
    for what, name, known in (("renderer", wanted.renderer, _RENDERERS), ("parser", wanted.parser, _PARSERS)):
        if name and name not in known:
            raise InvalidRequest(f"unknown {what} {quoted(name)}; there are: {', '.join(sorted(known))}")
    parameters, without_effect = _check_parameters(wanted.parameters)
    return Checked(parameters, without_effect, _named(wanted) | _check_info(wanted.info))


def _check_template(text: str) -> None:
    try:
        Template.parse(text)
    except TemplateError as exc:
        raise TemplateError(f"template error: {exc}") from exc


def _check_parameters(sent: Mapping[str, Any]) -> tuple[dict[str, object], tuple[str, ...]]:
    given = {name: value for name, value in sent.items() if value is not None}
    for name in given:
        if name not in PARAMETERS and name not in WITHOUT_EFFECT:
            raise InvalidRequest(f"unknown parameter '{name}'; there are: {', '.join(PARAMETERS)}")
    return (
        {name: checked(name, value) for name, value in given.items() if name in PARAMETERS},
        tuple(name for name in given if name in WITHOUT_EFFECT),
    )


def _named(wanted: WantedModel) -> dict[str, object]:
    """Fields of the configuration that have one name of their own."""
    named: dict[str, object] = {"renderer": wanted.renderer, "parser": wanted.parser}
    if wanted.requires:
        version = semantic_version(wanted.requires)
        if _order(version) > _order(COMPATIBLE_WITH):
            raise NotSupported(
                f"the model requires Ollama {version}, and this version of Corral does what {COMPATIBLE_WITH} does; "
                "try a newer Corral, or leave out REQUIRES"
            )
        named["requires"] = version
    return {name: value for name, value in named.items() if value}


def _order(version: str) -> tuple[int, ...]:
    release = version.partition("+")[0].partition("-")[0]
    numbers = [int(number) for number in release.split(".")]
    return (*numbers, 0, 0)[:3]


def _check_info(info: Mapping[str, Any]) -> dict[str, object]:
    """Fields of the configuration that a client may say itself. Others are passed over, as Ollama does."""
    config: dict[str, object] = {}
    for name, value in info.items():
        if name in _INFO_TEXTS:
            if not isinstance(value, str):
                raise InvalidRequest(f"info field {quoted(name)} must be a string")
            config[_INFO_TEXTS[name]] = value
        elif name in _INFO_NUMBERS:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise InvalidRequest(f"info field {quoted(name)} must be a number")
            if not 0 <= value <= _LARGEST or value != int(value):
                raise InvalidRequest(f"info field {quoted(name)} must be a non-negative integer")
            config[name] = int(value)
        elif name == "capabilities":
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise InvalidRequest('info field "capabilities" must be an array of strings')
            config[name] = value
    return config
