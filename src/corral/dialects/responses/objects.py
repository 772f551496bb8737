"""What is answered about responses: the object of one, lists of items, counts."""

from __future__ import annotations

import time
from typing import Any

from corral.dialects.gojson import dumps
from corral.dialects.responses.items import Item, new_id
from corral.dialects.responses.requests import Create
from corral.engine.base import Finished, Sampling

Response = dict[str, Any]

FINISHED = ("completed", "incomplete", "failed", "cancelled")


def begun(wanted: Create, sampling: Sampling, *, stored: bool) -> Response:
    """A response that has just begun. ``sampling`` is the one in force, whoever chose it."""
    echo = wanted.echo
    user = {"user": echo["user"]} if echo["user"] else {}
    return {
        "id": new_id("resp"),
        "object": "response",
        "created_at": int(time.time()),
        "completed_at": None,
        "status": "in_progress",
        "incomplete_details": None,
        "model": wanted.model,
        "previous_response_id": wanted.previous,
        "instructions": wanted.instructions,
        "output": [],
        "error": None,
        "tools": echo["tools"],
        "tool_choice": echo["tool_choice"],
        "truncation": echo["truncation"],
        "parallel_tool_calls": wanted.parallel_tool_calls,
        "text": echo["text"],
        "top_p": sampling.top_p,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "top_logprobs": echo["top_logprobs"],
        "temperature": sampling.temperature,
        "reasoning": echo["reasoning"],
        "usage": None,
        "max_output_tokens": echo["max_output_tokens"],
        "max_tool_calls": echo["max_tool_calls"],
        "store": stored,
        "background": wanted.background,
        "service_tier": "default",
        "metadata": echo["metadata"],
        "safety_identifier": echo["safety_identifier"],
        "prompt_cache_key": echo["prompt_cache_key"],
        **user,
    }


def ended(response: Response, output: list[Item], end: Finished) -> Response:
    """``response`` as it is when the model has ended."""
    cut = end.reason == "length"
    dropped = {"dropped_messages": end.dropped_messages} if end.dropped_messages else {}
    return {
        **response,
        "completed_at": int(time.time()),
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "output": output,
        "usage": usage(end),
        **dropped,  # not in OpenAI's, which does not say so
    }


def broken(response: Response, output: list[Item], status: str, message: str = "", code: str = "") -> Response:
    """``response`` that did not come to its end: ``failed`` with a reason, or ``cancelled``; with what was said until then."""
    error = {"code": code or "server_error", "message": message} if status == "failed" else None
    return {**response, "status": status, "output": output, "error": error}


def usage(end: Finished) -> dict[str, Any]:
    """The tokens of a response. Nothing here has a price for being written to a cache."""
    return {
        "input_tokens": end.prompt_tokens,
        "input_tokens_details": {"cached_tokens": end.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": end.generated_tokens,
        "output_tokens_details": {"reasoning_tokens": end.thinking_tokens},
        "total_tokens": end.prompt_tokens + end.generated_tokens,
    }


def deleted(response_id: str) -> bytes:
    """``DELETE /v1/responses/{id}``."""
    return dumps({"id": response_id, "object": "response", "deleted": True})


def counted(num_tokens: int) -> bytes:
    """``POST /v1/responses/input_tokens``."""
    return dumps({"object": "response.input_tokens", "input_tokens": num_tokens})
