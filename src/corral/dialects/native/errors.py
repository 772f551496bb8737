"""Errors as the native API words them: a status and one sentence."""

from __future__ import annotations

from collections.abc import Mapping

from corral.errors import (
    CorralError,
    EngineRefused,
    InvalidRequest,
    ModelNotFound,
    NotSupported,
    PromptTooLong,
    ServerBusy,
)


class Refusal(CorralError):
    """An answer that is an error: ``status`` and the text."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


def refusal_of(error: CorralError) -> Refusal:
    """How the native API answers ``error``."""
    match error:
        case Refusal():
            return error
        case InvalidRequest() | NotSupported() | PromptTooLong():
            return Refusal(400, str(error))
        case ModelNotFound():
            return Refusal(404, f"model {error.name!r} not found")
        case ServerBusy(retry_after_s=seconds):
            return Refusal(503, str(error), {"retry-after": str(seconds)})
        case EngineRefused(status=status) if 400 <= status < 500:
            return Refusal(400, str(error))
        case _:
            return Refusal(500, str(error))
