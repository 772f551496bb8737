"""What is answered about batches: the object of one, the lines of its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from corral.dialects.batches.requests import WINDOW_S, Create, Wrong

Batch = dict[str, Any]

ENDED = ("completed", "failed", "expired", "cancelled")


def begun(wanted: Create, batch_id: str, now: int) -> Batch:
    """A batch that was just made."""
    return {
        "id": batch_id,
        "object": "batch",
        "endpoint": wanted.endpoint,
        "model": None,
        "errors": None,
        "input_file_id": wanted.input_file_id,
        "completion_window": "24h",
        "status": "validating",
        "output_file_id": None,
        "error_file_id": None,
        "created_at": now,
        "in_progress_at": None,
        "expires_at": now + WINDOW_S,
        "finalizing_at": None,
        "completed_at": None,
        "failed_at": None,
        "expired_at": None,
        "cancelling_at": None,
        "cancelled_at": None,
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
        "usage": None,
        "metadata": wanted.metadata,
    }


def failed(batch: Batch, wrong: Sequence[Wrong], now: int) -> Batch:
    """A batch that cannot be worked on."""
    errors = {"object": "list", "data": [one.as_json() for one in wrong]}
    return {**batch, "status": "failed", "failed_at": now, "errors": errors}


def answered(request_id: str, custom_id: str, status: int, body: bytes) -> dict[str, Any]:
    """The result of a request that was answered, perhaps with an error."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        content = body.decode(errors="replace")
    response = {"status_code": status, "request_id": request_id, "body": content}
    return {"id": request_id, "custom_id": custom_id, "response": response, "error": None}


def unanswered(request_id: str, custom_id: str, status: str) -> dict[str, Any]:
    """The result of a request that was not worked on any more: its batch is ``expired`` or ``cancelled``."""
    why = "before the request was worked on"
    error = {"code": f"batch_{status}", "message": f"This request was not answered: the batch was {status} {why}."}
    return {"id": request_id, "custom_id": custom_id, "response": None, "error": error}


_USAGE = (("input_tokens", "prompt_tokens"), ("output_tokens", "completion_tokens"), ("total_tokens", "total_tokens"))
_DETAILS = (
    ("input_tokens_details", "prompt_tokens_details", "cached_tokens"),
    ("output_tokens_details", "completion_tokens_details", "reasoning_tokens"),
)


def nothing_used() -> dict[str, Any]:
    """The counts of a batch that has used no tokens."""
    zeros: dict[str, Any] = {name: 0 for name, _ in _USAGE}
    return zeros | {name: {what: 0} for name, _, what in _DETAILS}


def add_usage(total: dict[str, Any], result: Mapping[str, Any]) -> None:
    """Count the tokens of a result, whichever API it is of."""
    body = (result.get("response") or {}).get("body")
    usage = body.get("usage") if isinstance(body, dict) else None
    if not isinstance(usage, dict):
        return
    for name, other in _USAGE:
        total[name] += usage.get(name, usage.get(other)) or 0
    for name, other, what in _DETAILS:
        details = usage.get(name) or usage.get(other) or {}
        total[name][what] += details.get(what) or 0
