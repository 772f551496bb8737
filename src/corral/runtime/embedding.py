"""Texts to vectors: what is longer than the context is cut and told of, or refused. Never silently."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import mul

from corral.engine.base import Embeddings, Engine
from corral.errors import InputTooLong, InvalidRequest, PromptTooLong
from corral.runtime.requests import EmbedRequest

_SPECIAL_TOKENS = 4  # at most so many does a vocabulary add to a text, a space before it included


@dataclass(frozen=True, slots=True)
class Embedded:
    """One vector of unit length per text, in order; ``cut`` are the places of the texts that were too long, from 0.

    ``tokens`` were read in all; ``load_ns`` is how long the request waited for an engine.
    """

    vectors: Sequence[Sequence[float]] = field(repr=False)
    tokens: int = 0
    cut: tuple[int, ...] = ()
    load_ns: int = 0


@dataclass(frozen=True, slots=True)
class _Fitted:
    inputs: list[str | Sequence[int]]
    cut: tuple[int, ...]


async def embed(engine: Engine, request: EmbedRequest, limit: int) -> Embedded:
    """The vectors of the texts of ``request``, none of which has more than ``limit`` tokens, all in one call.

    Raises `InputTooLong` where nothing may be cut, and `InvalidRequest` when a vector is none.
    """
    fitted = await _fit(engine, request, limit, measure_all=False)
    try:
        found = await engine.embed(fitted.inputs)
    except PromptTooLong as exc:  # a model that reads a text at once may read fewer tokens than its context has
        fitted = await _fit(engine, request, min(limit, exc.num_ctx), measure_all=True)
        found = await engine.embed(fitted.inputs)
    return Embedded(_checked(found, request.dimensions), found.tokens, fitted.cut)


async def _fit(engine: Engine, request: EmbedRequest, limit: int, *, measure_all: bool) -> _Fitted:
    """The texts as they are, or the tokens of what is left of them. No token is shorter than a byte, as a rule."""
    inputs: list[str | Sequence[int]] = []
    cut = []
    for position, text in enumerate(request.texts):
        inputs.append(text)
        if not isinstance(text, str):
            if len(text) > limit and not request.truncate:
                raise InputTooLong(position, len(text), limit)
            if len(text) > limit:
                inputs[-1] = text[:limit]
                cut.append(position)
            continue
        if not measure_all and len(text.encode()) + _SPECIAL_TOKENS <= limit:
            continue
        tokens = await engine.tokenise(text, add_special=True)
        if len(tokens) <= limit:
            continue
        if not request.truncate:
            raise InputTooLong(position, len(tokens), limit)
        inputs[-1] = _shortened(tokens, await engine.tokenise(text), limit)
        cut.append(position)
    return _Fitted(inputs, tuple(cut))


def _shortened(tokens: Sequence[int], plain: Sequence[int], limit: int) -> list[int]:
    """The first of the ``plain`` tokens of a text between the special ones that ``tokens`` has besides.

    >>> _shortened([101, 7, 8, 9, 102], [7, 8, 9], 4)
    [101, 7, 8, 102]
    """
    num_special = len(tokens) - len(plain)
    room = limit - num_special
    if room <= 0:
        raise InvalidRequest("input after truncation exceeds maximum context length")
    starts = (start for start in range(num_special + 1) if tokens[start : start + len(plain)] == plain)
    start = next(starts, 0)
    return [*tokens[:start], *plain[:room], *tokens[start + len(plain) :]]


def _checked(found: Embeddings, dimensions: int | None) -> list[list[float]]:
    vectors = [_first(vector, dimensions) for vector in found.vectors]
    if not all(math.isfinite(sum(vector)) for vector in vectors):
        raise InvalidRequest("embedding contains NaN or Inf values")
    return vectors


def _first(vector: list[float], dimensions: int | None) -> list[float]:
    """The first numbers of ``vector``, of unit length again; all of them when more, or none, are asked for."""
    if dimensions is None or not 0 < dimensions < len(vector):
        return vector
    first = vector[:dimensions]
    length = math.sqrt(sum(map(mul, first, first)))
    return [number / length for number in first] if length else first
