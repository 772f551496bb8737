"""Models as OpenAI's API lists them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from corral.dialects.gojson import dumps
from corral.library import ModelSummary


def models(entries: Sequence[ModelSummary]) -> bytes:
    """``GET /v1/models``."""
    return dumps({"object": "list", "data": [_model(entry, entry.name.short) for entry in entries]})


def model(entry: ModelSummary, asked: str) -> bytes:
    """``GET /v1/models/{model}``; ``asked`` is the name as it stood in the path."""
    return dumps(_model(entry, asked))


def _model(entry: ModelSummary, name: str) -> dict[str, Any]:
    created = int(entry.modified_at.timestamp())
    return {"id": name, "object": "model", "created": created, "owned_by": entry.name.namespace}
