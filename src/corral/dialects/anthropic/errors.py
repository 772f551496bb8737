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


def error_body(refusal: Refusal, request_id: str) -> bytes:
    """An error as the body of an answer, and as the data of an ``error`` event."""
    kind = _TYPES.get(refusal.status, "api_error")
    error = {"type": kind, "message": str(refusal)}
    return orjson.dumps({"type": "error", "error": error, "request_id": request_id})
