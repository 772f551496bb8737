"""What a run and a chat have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from corral.client import Client


@dataclass(slots=True)
class Session:
    """What a run is about: the model, and how it is asked."""

    client: Client
    model: str
    details: dict[str, Any]
    think: bool | str | None = None  # none is as the model can
    show_thinking: bool = True
    format: object = None
    keep_alive: str | None = None
    verbose: bool = False
    options: dict[str, object] = field(default_factory=dict)

    @property
    def thinks(self) -> bool:
        """Whether the model can think at all."""
        return "thinking" in self.details.get("capabilities", ())

    def common(self) -> dict[str, Any]:
        """The fields that every request of the session has."""
        return {
            "model": self.model,
            "think": (self.thinks or None) if self.think is None else self.think,
            "format": self.format,
            "keep_alive": self.keep_alive,
            "options": self.options or None,
        }
