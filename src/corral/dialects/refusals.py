"""Errors on their way to a client: a status and a sentence, which each dialect writes in its own shape."""

from __future__ import annotations

from collections.abc import Mapping

from corral.errors import (
    PROMPT,
    CorralError,
    EngineRefused,
    InvalidRequest,
    ModelNotFound,
    NotSupported,
    PromptTooLong,
    ServerBusy,
    ShuttingDown,
)


class Refusal(CorralError):
    """An answer that is an error: ``status``, the text, and for dialects that have them ``param`` and ``code``.

    ``error`` is what went wrong, where its text alone does not say enough to a dialect's clients.
    """

    def __init__(
        self,
        status: int,
        message: str,
        headers: Mapping[str, str] | None = None,
        *,
        param: str | None = None,
        code: str | None = None,
        error: CorralError | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
        self.param = param
        self.code = code
        self.error = error


def refusal_of(error: CorralError) -> Refusal:
    """How ``error`` is answered."""
    match error:
        case Refusal():
            return error
        case PromptTooLong():
            return Refusal(400, str(error), param=PROMPT, code="context_length_exceeded", error=error)
        case InvalidRequest(param=param) | NotSupported(param=param):
            return Refusal(400, str(error), param=param)
        case ModelNotFound():
            return Refusal(404, f"model {error.name!r} not found", code="model_not_found")
        case ShuttingDown():
            return Refusal(503, str(error))
        case ServerBusy(retry_after_s=seconds):
            return Refusal(503, str(error), {"retry-after": str(seconds)})
        case EngineRefused(status=status, param=param) if 400 <= status < 500:
            return Refusal(400, str(error), param=param)
        case _:
            return Refusal(500, str(error))
