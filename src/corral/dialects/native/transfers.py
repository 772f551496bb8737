"""Answers about transfers: one object a step."""

from __future__ import annotations

from typing import Any

from corral.dialects.gojson import dumps
from corral.registry import Progress


def progress(step: Progress) -> bytes:
    """``step`` as an object; figures that are zero are left out, as Go does."""
    written: dict[str, Any] = {"status": step.status}
    if step.digest is not None:
        written["digest"] = str(step.digest)
    figures = {"total": step.total, "completed": step.completed}
    return dumps(written | {name: figure for name, figure in figures.items() if figure})
