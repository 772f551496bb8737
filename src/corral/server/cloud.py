"""What clients that ask for Ollama's cloud are told: there is none here. Nothing is asked of anybody."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from corral.dialects.gojson import dumps
from corral.dialects.refusals import Refusal
from corral.server.refusing import JSON


async def status(request: Request) -> Response:
    """``GET /api/status``: in the words of an Ollama whose owner has turned the cloud off."""
    return Response(dumps({"cloud": {"disabled": True, "source": "env"}}), media_type=JSON)


async def web_search(request: Request) -> Response:
    """``POST /api/experimental/web_search``."""
    return await _nowhere(request, "web search")


async def web_fetch(request: Request) -> Response:
    """``POST /api/experimental/web_fetch``."""
    return await _nowhere(request, "web fetch")


async def _nowhere(request: Request, what: str) -> Response:
    if not await request.body():
        raise Refusal(400, "missing request body")
    raise Refusal(403, f"ollama cloud is disabled: {what} is unavailable")


async def recommendations(request: Request) -> Response:
    """``GET /api/experimental/model-recommendations``: none."""
    return Response(dumps({"recommendations": []}), media_type=JSON)


async def account(request: Request) -> Response:
    """``POST /api/me``."""
    raise Refusal(503, "account unavailable")


async def sign_out(request: Request) -> Response:
    """``POST /api/signout``, and ``DELETE /api/user/keys/<key>``, which does the same."""
    raise Refusal(401, "you are not currently signed in")


ROUTES = (
    (("GET",), "/api/status", status),
    (("POST",), "/api/me", account),
    (("POST",), "/api/signout", sign_out),
    (("DELETE",), "/api/user/keys/{key}", sign_out),
    (("POST",), "/api/experimental/web_search", web_search),
    (("POST",), "/api/experimental/web_fetch", web_fetch),
    (("GET",), "/api/experimental/model-recommendations", recommendations),
)
