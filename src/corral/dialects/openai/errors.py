"""Errors as OpenAI's API writes them: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

import orjson

from corral.dialects.refusals import Refusal
from corral.errors import PROMPT, THINKING, PromptTooLong

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "conflict_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
}


# The fields with what the model is asked, and with how much it is to think, by path.
_FIELDS = {
    "/v1/chat/completions": ("messages", "reasoning_effort"),
    "/v1/completions": ("prompt", "reasoning_effort"),
    "/v1/embeddings": ("input", None),
    "/v1/responses": ("input", "reasoning.effort"),
    "/v1/responses/input_tokens": ("input", "reasoning.effort"),
    "/v1/audio/transcriptions": ("file", None),
}


def error_body(refusal: Refusal, path: str = "") -> bytes:
    """An error as the body of an answer to ``path``, and as the object of an event in a stream."""
    kind = _TYPES.get(refusal.status, "api_error")
    message = str(refusal)
    if isinstance(refusal.error, PromptTooLong):  # clients look for these words, and for the number in them
        message = f"This model's maximum context length is {refusal.error.num_ctx} tokens here: {message}"
    prompt, thinking = _FIELDS.get(path, (None, None))
    param = {PROMPT: prompt, THINKING: thinking}.get(refusal.param or "", refusal.param)
    return orjson.dumps({"error": {"message": message, "type": kind, "param": param, "code": refusal.code}})
