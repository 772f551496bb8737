"""Errors as responses, in the shape of the dialect that a request came in."""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import Scope

from corral.dialects.anthropic.errors import error_body as anthropic_body
from corral.dialects.native.answers import error_body as native_body
from corral.dialects.openai.errors import error_body as openai_body
from corral.dialects.refusals import Refusal
from corral.server.asked import Asked

JSON = "application/json; charset=utf-8"
PLAIN = "text/plain"


def refuse(scope: Scope, refusal: Refusal) -> Response:
    """``refusal`` as the answer to the request with this ``scope``."""
    return Response(error_body(scope, refusal), refusal.status, refusal.headers, JSON)


def error_body(scope: Scope, refusal: Refusal) -> bytes:
    """``refusal`` in the shape of the request's dialect."""
    asked = Asked.of(scope)
    match asked.dialect:
        case "openai" | "responses":
            return openai_body(refusal, scope["path"])
        case "anthropic":
            return anthropic_body(refusal, asked.id)
        case _:
            return native_body(str(refusal))


def refuse_route(scope: Scope, status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """The answer where there is no such path, or no such method: JSON where the dialect has it, else a line of text."""
    if Asked.of(scope).dialect in ("openai", "responses", "anthropic"):
        return refuse(scope, Refusal(status, message, headers))
    return Response(message, status, {"content-type": PLAIN, **(headers or {})})
