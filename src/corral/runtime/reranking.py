"""Documents by how well they answer a query. What does not fit beside the query is refused, or cut where that was asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from corral.engine.base import Engine, Parcels
from corral.errors import InputTooLong, InvalidRequest, PromptTooLong
from corral.runtime.requests import RerankRequest

_SPECIAL_TOKENS = 4  # stand around and between the two texts at most
_AT_ONCE = 256  # documents in one call to an engine; between calls a client that hung up is noticed


@dataclass(frozen=True, slots=True)
class Ranked:
    """A score from 0 to 1 for each document, in order; ``cut`` are the places of those that were shortened, from 0."""

    scores: Sequence[float] = field(repr=False)
    tokens: int = 0
    cut: tuple[int, ...] = ()


async def rerank(engine: Engine, request: RerankRequest, limit: int) -> Ranked:
    """The scores of the documents of ``request``, none of which has more than ``limit`` tokens together with the query.

    Raises `InputTooLong` where one has, and was not to be cut.
    """
    query_tokens = len(await engine.tokenise(request.query))
    parcels = Parcels(request.background)
    scores: list[float] = []
    cut: list[int] = []
    tokens = 0
    for start in range(0, len(request.documents), _AT_ONCE):
        documents = list(request.documents[start : start + _AT_ONCE])
        room = limit - query_tokens - _SPECIAL_TOKENS
        cut += await _fit(engine, request, documents, start, room, limit, measure_all=False)
        try:
            found = await engine.rerank(request.query, documents, parcels)
        except (
            PromptTooLong
        ) as exc:  # a template may add more than the marks, and a batch may have less room than the context
            over = max(exc.num_tokens - exc.num_ctx, 0)
            limit = min(limit, exc.num_ctx)
            longest = max([len(await engine.tokenise(text)) for text in documents])
            room = min(limit - query_tokens - _SPECIAL_TOKENS, longest - over)
            cut += await _fit(engine, request, documents, start, room, limit, measure_all=True)
            found = await engine.rerank(request.query, documents, parcels)
        scores += found.values
        tokens += found.tokens
    if not all(map(math.isfinite, scores)):
        raise InvalidRequest("the model gave scores that are no numbers")
    return Ranked(scores if _gives_probabilities(request) else [*map(_probability, scores)], tokens, tuple(cut))


async def _fit(
    engine: Engine,
    request: RerankRequest,
    documents: list[str],
    start: int,
    room: int,
    limit: int,
    *,
    measure_all: bool,
) -> list[int]:
    """Shorten those of ``documents`` that have more than ``room`` tokens, in place; where they stand, counted from ``start``."""
    cut = []
    if room <= 0:
        raise PromptTooLong(limit - room, limit)
    most = min(room, request.most_tokens or room)
    for number, text in enumerate(documents):
        if not measure_all and len(text.encode()) <= most:
            continue
        tokens = await engine.tokenise(text)
        if len(tokens) <= most:
            continue
        if len(tokens) > room and not request.truncate and request.most_tokens is None:
            raise InputTooLong(start + number, len(tokens) + limit - room, limit)
        documents[number] = await _beginning(engine, text, most)
        cut.append(start + number)
    return cut


async def _beginning(engine: Engine, text: str, most: int) -> str:
    """As much of ``text`` as has no more than ``most`` tokens. Tokens as text again would not always be the same ones."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if len(await engine.tokenise(text[:middle])) <= most:
            low = middle
        else:
            high = middle - 1
    return text[:low]


def _gives_probabilities(request: RerankRequest) -> bool:
    """Rerankers made of chat models answer yes or no, and the engine gives the probability of yes."""
    return request.spec.facts is not None and request.spec.facts.architecture.startswith("qwen3")


def _probability(score: float) -> float:
    """The logistic function, by which models with a head of one number are trained.

    >>> _probability(0.0), round(_probability(2.0), 3), _probability(-800.0)
    (0.5, 0.881, 0.0)
    """
    return 1 / (1 + math.exp(-score)) if score > -700 else 0.0
