"""Errors as OpenAI's API writes them: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

import orjson

from corral.dialects.refusals import Refusal
from corral.errors import PromptTooLong

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "conflict_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def error_body(refusal: Refusal) -> bytes:
    """An error as the body of an answer, and as the object of an event in a stream."""
    kind = _TYPES.get(refusal.status, "api_error")
    message = str(refusal)
    if isinstance(refusal.error, PromptTooLong):  # clients look for these words, and for the number in them
        message = f"This model's maximum context length is {refusal.error.num_ctx} tokens here: {message}"
    return orjson.dumps({"error": {"message": message, "type": kind, "param": refusal.param, "code": refusal.code}})
