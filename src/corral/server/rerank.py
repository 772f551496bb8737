"""The routes that put documents in order."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from corral.dialects.openai.asked import no_model
from corral.dialects.openai.rerank import Rerank
from corral.dialects.refusals import Refusal
from corral.durations import quoted
from corral.errors import NotSupported
from corral.server.bodies import body_of
from corral.server.native import ignored_header, spec_of
from corral.server.refusing import JSON
from corral.server.state import State


async def rerank(request: Request) -> Response:
    """``POST /v1/rerank``: the header counts the documents that were cut, the answer lists them."""
    state = State.of(request)
    wanted = Rerank.decode(await body_of(request))
    unknown = Refusal(
        404, f"model {quoted(wanted.model)} not found, try pulling it first", param="model", code="model_not_found"
    )
    spec = await spec_of(request, wanted.model, empty=no_model(), unknown=unknown)
    if "rerank" not in spec.capabilities:
        raise NotSupported(
            f"{quoted(wanted.model)} does not support rerank: it has no head that gives scores", param="model"
        )
    asked = wanted.request(spec)
    ranked = await state.inflight.run(request.receive, lambda: state.sessions.rerank(asked))
    headers = ignored_header(asked.options.ignored)
    if ranked is None:  # nobody waits for it any more
        return Response()
    if ranked.cut:
        headers["x-corral-truncated-inputs"] = str(len(ranked.cut))
    return Response(wanted.answer(ranked), headers=headers, media_type=JSON)


_PATHS = ("/v1/rerank", "/v1/reranking", "/v2/rerank", "/rerank", "/reranking")

ROUTES = tuple((("POST",), path, rerank) for path in _PATHS)
