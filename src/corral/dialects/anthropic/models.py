"""Models as Anthropic's API lists them, page by page, and counts of tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any

import orjson

from corral.durations import quoted
from corral.errors import InvalidRequest
from corral.library import ModelSummary

_PAGE, _LARGEST_PAGE = 20, 1000


def models(entries: Sequence[ModelSummary], query: Mapping[str, str], lifecycles: Sequence[str] = ()) -> bytes:
    """``GET /v1/models``: the newest first, a page of them as ``query`` says. Raises `InvalidRequest`."""
    limit, listed = _limit(query.get("limit")), sorted(entries, key=lambda entry: entry.modified_at, reverse=True)
    if lifecycles and "active" not in lifecycles:
        listed = []
    names = [entry.name.short for entry in listed]
    after, before = query.get("after_id"), query.get("before_id")
    if after and before:
        raise InvalidRequest("after_id and before_id cannot be used together")
    if before:
        behind = listed[: _position(names, before, "before_id")]
        page, has_more = behind[-limit:], len(behind) > limit
    else:
        rest = listed[_position(names, after, "after_id") + 1 :] if after else listed
        page, has_more = rest[:limit], len(rest) > limit
    data = [_model(entry, entry.name.short) for entry in page]
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return orjson.dumps({"data": data, "has_more": has_more, "first_id": first, "last_id": last})


def model(entry: ModelSummary, asked: str) -> bytes:
    """``GET /v1/models/{model}``; ``asked`` is the name as it stood in the path."""
    return orjson.dumps(_model(entry, asked))


def token_count(tokens: int) -> bytes:
    """``POST /v1/messages/count_tokens``."""
    return orjson.dumps({"input_tokens": tokens})


def _model(entry: ModelSummary, name: str) -> dict[str, Any]:
    return {
        "type": "model",
        "id": name,
        "display_name": entry.name.short,
        "created_at": entry.modified_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": "active",
        "max_input_tokens": entry.details.context_length,
    }


def _limit(text: str | None) -> int:
    if text is None:
        return _PAGE
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= _LARGEST_PAGE:
        raise InvalidRequest(f"limit: {quoted(text)} is not a number from 1 to {_LARGEST_PAGE}")
    return int(text)


def _position(names: Sequence[str], wanted: str, field: str) -> int:
    try:
        return names.index(wanted)
    except ValueError:
        raise InvalidRequest(f"{field}: {quoted(wanted)} is not a model of the list") from None
