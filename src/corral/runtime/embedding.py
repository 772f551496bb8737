"""Texts to vectors: what is longer than the context is cut and told of, or refused. Never silently."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import mul

from corral.engine.base import Embeddings, Engine, Parcels
from corral.errors import InputTooLong, InvalidRequest, PromptTooLong
from corral.runtime.requests import EmbedRequest

# What an engine gets in one call: some 16,000 tokens, which are many of its batches.
_MOST_TEXTS, _MOST_BYTES = 256, 1 << 16
_BYTES_PER_TOKEN = 4  # or so
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
    """The vectors of the texts of ``request``, none of which has more than ``limit`` tokens.

    The engine gets many at a time, which fill its batches, but not all of thousands: when the client hangs up, the rest is not
    read. Raises `InputTooLong` where nothing may be cut, and `InvalidRequest` when a vector is none.
    """
    parcels = Parcels(request.background)
    vectors: list[Sequence[float]] = []
    cut: list[int] = []
    tokens = 0
    for places in packed(request.texts):
        fitted = await _fit(engine, request, places, limit, measure_all=False)
        try:
            found = await engine.embed(fitted.inputs, parcels)
        except PromptTooLong as exc:  # a model that reads a text at once may read fewer tokens than its context has
            limit = min(limit, exc.num_ctx)
            fitted = await _fit(engine, request, places, limit, measure_all=True)
            found = await engine.embed(fitted.inputs, parcels)
        vectors += _checked(found, request.dimensions)
        cut += fitted.cut
        tokens += found.tokens
    return Embedded(vectors, tokens, tuple(cut))


def packed(
    texts: Sequence[str | Sequence[int]], *, most_texts: int = _MOST_TEXTS, most_bytes: int = _MOST_BYTES
) -> list[range]:
    """The places of ``texts``, or of tokens, that go to an engine together: no more than so many, of so many bytes, but one at
    least.

    >>> packed(["a", "b", "long text", "c"], most_texts=2, most_bytes=6)
    [range(0, 2), range(2, 3), range(3, 4)]
    """
    parcels = []
    start = size = 0
    for place, text in enumerate(texts):
        length = len(text.encode(errors="replace")) if isinstance(text, str) else _BYTES_PER_TOKEN * len(text)
        if place > start and (place - start == most_texts or size + length > most_bytes):
            parcels.append(range(start, place))
            start, size = place, 0
        size += length
    return [*parcels, range(start, len(texts))] if texts else []


async def _fit(engine: Engine, request: EmbedRequest, places: range, limit: int, *, measure_all: bool) -> _Fitted:
    """The texts as they are, or the tokens of what is left of them. No token is shorter than a byte, as a rule."""
    inputs: list[str | Sequence[int]] = []
    cut = []
    for position in places:
        text = request.texts[position]
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
