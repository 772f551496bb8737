"""The routes that show texts as a model's tokens: of any model, those that embed or rerank too."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from corral.dialects.native import tokens
from corral.dialects.native.tokens import Detokenise, Tokenise
from corral.errors import InvalidRequest
from corral.runtime.requests import EngineRequest
from corral.server.native import ignored_header, spec_of
from corral.server.refusing import JSON
from corral.server.state import State


async def tokenise(request: Request) -> Response:
    """``POST /api/tokenize``."""
    state = State.of(request)
    wanted = Tokenise.decode(await request.body())
    asked, sessions = await _asked(request, wanted), state.sessions
    text, special = wanted.content, wanted.add_special

    async def work() -> bytes:
        if wanted.with_pieces:
            return tokens.pieces(await sessions.pieces(asked, text, add_special=special))
        return tokens.tokens(await sessions.tokenise(asked, text, add_special=special))

    body = await state.inflight.run(request.receive, work)
    return Response(body, headers=ignored_header(asked.options.ignored), media_type=JSON)


async def detokenise(request: Request) -> Response:
    """``POST /api/detokenize``."""
    state = State.of(request)
    wanted = Detokenise.decode(await request.body())
    asked = await _asked(request, wanted)
    text = await state.inflight.run(request.receive, lambda: state.sessions.detokenise(asked, wanted.tokens))
    return Response(tokens.content(text or ""), headers=ignored_header(asked.options.ignored), media_type=JSON)


async def _asked(request: Request, wanted: Tokenise | Detokenise) -> EngineRequest:
    return wanted.request(await spec_of(request, wanted.model, empty=InvalidRequest("model is required")))


ROUTES = (
    (("POST",), "/api/tokenize", tokenise),
    (("POST",), "/api/detokenize", detokenise),
)
