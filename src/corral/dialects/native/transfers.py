"""Answers about transfers: one object a step."""

from __future__ import annotations

from typing import Any

from corral.dialects.gojson import dumps
from corral.registry import Progress
from corral.store import Removed


def removed(what: Removed) -> bytes:
    """What a clean-up took away."""
    files = [{"name": file.name, "kind": file.kind, "size": file.size_bytes} for file in what.files]
    return dumps({"files": files, "size": what.size_bytes, "blobs_unknown": what.blobs_unknown})


def progress(step: Progress) -> bytes:
    """``step`` as an object; figures that are zero are left out, as Go does."""
    written: dict[str, Any] = {"status": step.status}
    if step.digest is not None:
        written["digest"] = str(step.digest)
    figures = {"total": step.total, "completed": step.completed}
    return dumps(written | {name: figure for name, figure in figures.items() if figure})
