"""The parameters of a model, which are also the options of a request: Ollama's names and llama.cpp's, their types and ranges.

Knows nothing of what they do; see `corral.runtime.options`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from corral.durations import quoted
from corral.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Parameter:
    """What one parameter may be: its type in Ollama's words, and its range."""

    type: str  # integer, float32, boolean, array (of texts), biases
    low: float = -math.inf
    high: float = math.inf
    exclusive: bool = False  # ``low`` itself is out
    choices: tuple[str, ...] = ()  # what the texts of an array may be


# The steps by which a token is chosen, which ``samplers`` may put in another order or leave out.
SAMPLERS = ("penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature")
_INT = 2**31 - 1
_LONG = 2**63 - 1
PARAMETERS: Mapping[str, Parameter] = {
    "num_keep": Parameter(
        "integer", -_LONG, _LONG
    ),  # tokens kept by a context shift; the context is never shifted here
    "seed": Parameter("integer", -_LONG, _LONG),
    "num_predict": Parameter("integer", -_LONG, _LONG),
    "top_k": Parameter("integer", -_INT, _INT),
    "top_p": Parameter("float32", 0, 1),
    "min_p": Parameter("float32", 0, 1),
    "typical_p": Parameter("float32", 0, 1),
    "repeat_last_n": Parameter("integer", -1, _INT),
    "temperature": Parameter("float32", 0, 100),
    "repeat_penalty": Parameter("float32", 0, 100, exclusive=True),
    "presence_penalty": Parameter("float32", -100, 100),
    "frequency_penalty": Parameter("float32", -100, 100),
    "stop": Parameter("array"),
    "num_ctx": Parameter("integer", 4, _INT),
    "num_batch": Parameter("integer", 1, 65536),
    "num_gpu": Parameter("integer", -1, _INT),
    "main_gpu": Parameter("integer", 0, 1024),
    "use_mmap": Parameter("boolean"),
    "num_thread": Parameter("integer", 0, 4096),
    # From here on llama.cpp's, which Ollama does not know, or no more.
    "top_n_sigma": Parameter("float32", -1, 100),
    "xtc_probability": Parameter("float32", 0, 1),
    "xtc_threshold": Parameter("float32", 0, 1),
    "dry_multiplier": Parameter("float32", 0, 100),
    "dry_base": Parameter("float32", 1, 100),
    "dry_allowed_length": Parameter("integer", 0, _INT),
    "dry_penalty_last_n": Parameter("integer", -1, _INT),
    "dry_sequence_breakers": Parameter("array"),
    "dynatemp_range": Parameter("float32", 0, 100),
    "dynatemp_exponent": Parameter("float32", 0, 100, exclusive=True),
    "mirostat": Parameter("integer", 0, 2),
    "mirostat_tau": Parameter("float32", 0, 100),
    "mirostat_eta": Parameter("float32", 0, 1),
    "samplers": Parameter("array", choices=SAMPLERS),
    "logit_bias": Parameter("biases", -100, 100),
    "num_parallel": Parameter("integer", 0, 1024),  # Corral's own: sequences at a time
}

# What older versions of Ollama knew, and what belongs to parts that do not exist here: accepted in a Modelfile, and without effect.
WITHOUT_EFFECT = frozenset(
    {
        "penalize_newline",
        "low_vram",
        "f16_kv",
        "logits_all",
        "vocab_only",
        "use_mlock",
        "draft_num_predict",
    }
)

_INTEGER = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)
_FLOAT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
_TRUE = ("1", "t", "T", "true", "True", "TRUE")
_FALSE = ("0", "f", "F", "false", "False", "FALSE")


def checked(name: str, value: Any) -> Any:
    """``value`` as the parameter ``name`` has it, an array without empty texts. Raises `InvalidRequest` that names it."""
    parameter = PARAMETERS[name]
    match parameter.type:
        case "boolean":
            if not isinstance(value, bool):
                raise _wrong_type(name, "boolean")
            return value
        case "array":
            if not isinstance(value, list | tuple):
                raise _wrong_type(name, "array")
            if not all(isinstance(item, str) for item in value):
                raise _wrong_type(name, "an array of strings")
            wrong = next((item for item in value if parameter.choices and item not in parameter.choices), None)
            if wrong is not None:
                known = ", ".join(parameter.choices)
                raise InvalidRequest(f"option {quoted(name)} has {quoted(wrong)}, which is none of {known}")
            return tuple(item for item in value if item)  # an empty stop string would end every answer
        case "biases":
            return _biases(name, parameter, value)
        case kind:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise _wrong_type(name, kind)
            return _in_range(name, parameter, value)


def from_text(name: str, text: str) -> int | float | bool | str:
    """The value that a Modelfile means by ``text``; of an array one element. Raises `InvalidRequest` in Ollama's words.

    >>> from_text("num_ctx", "4096"), from_text("temperature", "0.5"), from_text("stop", "User:")
    (4096, 0.5, 'User:')
    """
    parameter = PARAMETERS.get(name)
    if parameter is None:
        raise InvalidRequest(f"unknown parameter '{name}'")
    match parameter.type:
        case "integer" if _INTEGER.fullmatch(text):
            return int(text)
        case "float32" if _FLOAT.fullmatch(text):
            return float(text)
        case "boolean" if text in _TRUE + _FALSE:
            return text in _TRUE
        case "array":
            return text
        case "biases":
            raise InvalidRequest(f"parameter '{name}' can be set in requests only")
    kind = {"integer": "int", "float32": "float", "boolean": "bool"}[parameter.type]
    raise InvalidRequest(f"invalid {kind} value [{text}]")


def _biases(name: str, parameter: Parameter, value: Any) -> tuple[tuple[int, float], ...]:
    """What is added to the logits of tokens, by their numbers: an object, as OpenAI has it, or pairs, as llama.cpp has."""
    pairs = list(value.items()) if isinstance(value, Mapping) else value
    if not isinstance(pairs, list | tuple):
        raise _wrong_type(name, "an object of numbers")
    found: list[tuple[int, float]] = []
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise InvalidRequest(f"option {quoted(name)} has {pair!r}, which is no pair of a token's number and a bias")
        token, bias = pair
        if not re.fullmatch(r"[0-9]{1,9}", str(token), re.ASCII) or isinstance(token, bool | float):
            raise InvalidRequest(f"option {quoted(name)} has {token!r}, which is no number of a token")
        if bias is False:  # as llama.cpp says that a token is never to come
            found.append((int(token), -math.inf))
            continue
        if isinstance(bias, bool) or not isinstance(bias, int | float):
            raise InvalidRequest(f"option {quoted(name)} has the bias {bias!r}, which is no number")
        found.append((int(token), float(_in_range(name, parameter, bias))))
    return tuple(found)


def _in_range(name: str, parameter: Parameter, value: float) -> float:
    below = value <= parameter.low if parameter.exclusive else value < parameter.low
    if not math.isfinite(value) or below or value > parameter.high:
        low = "-inf" if parameter.low == -math.inf else f"{parameter.low:g}"
        relation = "greater than" if parameter.exclusive else "at least"
        limit = f" and at most {parameter.high:g}" if parameter.high != math.inf else ""
        raise InvalidRequest(f"option {quoted(name)} must be {relation} {low}{limit}, not {value:g}")
    return int(value) if parameter.type == "integer" else float(value)


def _wrong_type(name: str, kind: str) -> InvalidRequest:
    return InvalidRequest(f"option {quoted(name)} must be of {'' if kind.startswith('an ') else 'type '}{kind}")
