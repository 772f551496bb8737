"""What the commands of a Modelfile say together, with types."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from corral.errors import InvalidRequest
from corral.modelfile.language import Command
from corral.parameters import PARAMETERS, WITHOUT_EFFECT, from_text

_NUMBER = r"(0|[1-9][0-9]*)"
_TAIL = r"[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*"
_VERSION = re.compile(rf"v?({_NUMBER}(\.{_NUMBER}(\.{_NUMBER}(-{_TAIL})?(\+{_TAIL})?)?)?)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Definition:
    """A model as a Modelfile defines it. Where a command may stand once the last one counts; empty where there is none.

    ``sources`` are what ``FROM`` names: a model or files. ``without_effect`` are parameters that do nothing and were left out.
    """

    sources: tuple[str, ...]
    adapters: tuple[str, ...] = ()
    draft: str = ""
    template: str = ""
    system: str = ""
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    licenses: tuple[str, ...] = ()
    messages: tuple[tuple[str, str], ...] = ()
    parameters: Mapping[str, object] = field(default_factory=dict)
    without_effect: tuple[str, ...] = ()


def definition_of(commands: Sequence[Command]) -> Definition:
    """What ``commands`` define. Raises `InvalidRequest` for what is no parameter or no version, and for a value of a wrong type."""

    def all_of(name: str) -> tuple[str, ...]:
        return tuple(command.value for command in commands if command.name == name)

    def last_of(name: str) -> str:
        return (all_of(name) or ("",))[-1]

    parameters, without_effect = _parameters(commands)
    return Definition(
        sources=all_of("from"),
        adapters=all_of("adapter"),
        draft=last_of("draft"),
        template=last_of("template"),
        system=last_of("system"),
        renderer=last_of("renderer"),
        parser=last_of("parser"),
        requires=semantic_version(last_of("requires")) if all_of("requires") else "",
        licenses=all_of("license"),
        messages=tuple((command.key, command.value) for command in commands if command.name == "message"),
        parameters=parameters,
        without_effect=without_effect,
    )


def semantic_version(text: str) -> str:
    """``text``, a version such as ``0.14.0``, without a leading ``v``. Raises `InvalidRequest`.

    >>> semantic_version("v0.14.0")
    '0.14.0'
    """
    found = _VERSION.fullmatch(text)
    if found is None:
        raise InvalidRequest("requires must be a valid semver (e.g. 0.14.0)")
    return found[1]


def _parameters(commands: Sequence[Command]) -> tuple[dict[str, object], tuple[str, ...]]:
    parameters: dict[str, object] = {}
    arrays: dict[str, list[object]] = {}
    without_effect: list[str] = []
    for command in commands:
        if command.name != "parameter":
            continue
        if command.key in WITHOUT_EFFECT:
            without_effect.append(command.key)
            continue
        value: object = from_text(command.key, command.value)
        if PARAMETERS[command.key].type == "array":
            arrays.setdefault(command.key, []).append(value)
            value = arrays[command.key]
        parameters[command.key] = value
    return parameters, tuple(dict.fromkeys(without_effect))
