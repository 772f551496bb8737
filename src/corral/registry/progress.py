"""What is told of a transfer while it goes on."""

from __future__ import annotations

from dataclasses import dataclass

from corral.names import Digest
from corral.store import Layer


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a transfer, or how far one blob is, in bytes. What has no digest yet has another text to know it by."""

    status: str
    digest: Digest | str | None = None
    total: int = 0
    completed: int = 0

    @classmethod
    def of(cls, verb: str, layer: Layer, completed: int) -> Progress:
        """How far ``layer`` is."""
        return cls(f"{verb} {layer.digest.short}", layer.digest, layer.size, completed)
