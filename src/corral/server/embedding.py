"""The routes that give vectors: ``/api/embed`` and the older ``/api/embeddings``."""

from __future__ import annotations

import time

from anyio.lowlevel import checkpoint
from starlette.requests import Request
from starlette.responses import Response

from corral.dialects.native.embedding import Embed, embedding, embeddings
from corral.dialects.refusals import Refusal
from corral.durations import quoted
from corral.errors import CorralError, InvalidRequest
from corral.runtime.embedding import Embedded
from corral.runtime.requests import EmbedRequest
from corral.server.native import ignored_header, require, spec_of
from corral.server.refusing import JSON
from corral.server.state import State


async def embed(request: Request) -> Response:
    """``POST /api/embed``: a vector for each text; the header counts the texts that were cut, the answer lists them."""
    started_ns = time.monotonic_ns()
    wanted = Embed.decode(await request.body())
    asked = await _asked(request, wanted, empty=Refusal(404, "model '' not found"))
    embedded = await _embedded(request, asked)
    if not asked.texts:
        return Response(b"".join(embeddings(wanted.model, embedded, 0)), media_type=JSON)
    headers = ignored_header(asked.options.ignored)
    if embedded.cut:
        headers["x-corral-truncated-inputs"] = str(len(embedded.cut))
    pieces = []
    for piece in embeddings(wanted.model, embedded, time.monotonic_ns() - started_ns):
        pieces.append(piece)
        await checkpoint()
    return Response(b"".join(pieces), headers=headers, media_type=JSON)


async def embed_prompt(request: Request) -> Response:
    """``POST /api/embeddings``: the vector of one text."""
    wanted = Embed.decode_prompt(await request.body())
    asked = await _asked(request, wanted, empty=InvalidRequest("model is required"))
    embedded = await _embedded(request, asked)
    return Response(embedding(embedded), headers=ignored_header(asked.options.ignored), media_type=JSON)


async def _asked(request: Request, wanted: Embed, *, empty: CorralError) -> EmbedRequest:
    unknown = Refusal(404, f"model {quoted(wanted.model)} not found, try pulling it first")
    spec = await spec_of(request, wanted.model, empty=empty, unknown=unknown)
    require(spec, wanted.model, "embedding", "embeddings")
    return wanted.request(spec)


async def _embedded(request: Request, asked: EmbedRequest) -> Embedded:
    """The vectors; none where only the model was to be loaded, or nobody waits for them any more."""
    state = State.of(request)
    if not asked.texts:
        await state.inflight.run(request.receive, lambda: state.sessions.load(asked))
        return Embedded(())
    return await state.inflight.run(request.receive, lambda: state.sessions.embed(asked)) or Embedded(())
