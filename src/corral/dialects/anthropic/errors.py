"""Errors as Anthropic's API writes them: ``{"type": "error", "error": {"type", "message"}, "request_id"}``."""

from __future__ import annotations

import orjson

from corral.dialects.refusals import Refusal

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}

_NO_THREADS = "thread_unsupported_request"


def no_threads() -> Refusal:
    """Threads are conversations that the server keeps. By its code clients know to send the whole conversation instead.

    Anthropic's client begins one wherever it runs tools; the next turn would then come without all that was said.
    """
    text = "thread is not supported: this server keeps no conversations; send the whole one without thread"
    return Refusal(400, text, code=_NO_THREADS)


def error_body(refusal: Refusal, request_id: str) -> bytes:
    """An error as the body of an answer, and as the data of an ``error`` event."""
    kind = _TYPES.get(refusal.status, "api_error")
    error: dict[str, object] = {"type": kind, "message": str(refusal)}
    if refusal.code == _NO_THREADS:
        error["details"] = {"error_code": refusal.code}
    return orjson.dumps({"type": "error", "error": error, "request_id": request_id})
