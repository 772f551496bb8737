"""Everything that can go wrong and that a user may see.

    CorralError
    ├── ConfigError             a setting is unknown or has a value it cannot have
    ├── InvalidRequest          what was asked makes no sense; asking again will not help
    │   ├── InvalidName         not a model name
    │   ├── InvalidDigest       not a sha256 digest
    │   └── TemplateError       a prompt template cannot be parsed, fails, or does not end
    ├── ModelNotFound           no such model on this machine
    ├── NotSupported            this model cannot do what was asked of it
    ├── PromptTooLong           the prompt has more tokens than the context
    │   └── InputTooLong        one of the texts to embed has, and may not be cut
    ├── StoreError              the store cannot be read or written
    │   └── CorruptManifest     one manifest is not what it should be
    ├── RegistryError           a registry cannot be reached, refuses, or sends what it should not
    ├── GgufError               a file is not a GGUF that can be read
    ├── QuantizationError       a model cannot be quantised as it was asked
    ├── ConversionError         files are not a model that can be made into a GGUF
    ├── ServerBusy              too many requests wait already
    ├── ShuttingDown            the server is about to end
    ├── ServerUnreachable       no Corral (or Ollama) server answers at that address
    ├── ServerError             a server answered with an error
    └── EngineError             the engine failed
        ├── EngineStartError    it did not come up
        │   └── OutOfMemory     because there was not enough memory
        ├── EngineCrashed       it went away while it was needed
        └── EngineRefused       it answered with an error

The text of each says what happened, the value, and what to try. Facts a program may want are attributes.
"""

from __future__ import annotations

from typing import Final

PROMPT: Final = "(prompt)"  # as a `param`: what the model is asked, by whatever name a dialect has for it
THINKING: Final = "(thinking)"  # how much it is to think, likewise


class CorralError(Exception):
    """Base of all errors that are meant for a user's eyes."""


class ConfigError(CorralError):
    """A setting is unknown, or its value is not one it can have."""


class InvalidRequest(CorralError):
    """A request that can never be answered as it stands. ``param`` is the field that is at fault, where it is one."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class InvalidName(InvalidRequest):
    """A text is not a model name. ``value`` is the text."""

    def __init__(self, value: str, why: str = "") -> None:
        super().__init__(f'invalid model name "{value}"' + (f": {why}" if why else ""))
        self.value = value


class InvalidDigest(InvalidRequest):
    """A text is not a sha256 digest. ``value`` is the text."""

    def __init__(self, value: str) -> None:
        super().__init__("invalid digest format")
        self.value = value


class TemplateError(InvalidRequest):
    """A prompt template cannot be parsed, fails on its data, or runs past a limit."""


class ModelNotFound(CorralError):
    """No model of this name is in the store. ``name`` is the name as it was asked for."""

    def __init__(self, name: str) -> None:
        super().__init__(f'model "{name}" not found; try: corral list')
        self.name = name


class NotSupported(CorralError):
    """The model lacks a capability that the request needs. ``param`` is the field that needs it, where it is one."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class PromptTooLong(CorralError):
    """The prompt does not fit; ``num_tokens`` of prompt stand against ``num_ctx`` of context."""

    def __init__(self, num_tokens: int, num_ctx: int) -> None:
        super().__init__(
            f"the prompt has {num_tokens} tokens, which is longer than the context length of {num_ctx} tokens; "
            "shorten the prompt, raise num_ctx, or use a model with a longer context"
        )
        self.num_tokens = num_tokens
        self.num_ctx = num_ctx


class InputTooLong(PromptTooLong):
    """A text to embed does not fit and may not be cut. ``position`` is its place in the list, from 0."""

    def __init__(self, position: int, num_tokens: int, num_ctx: int) -> None:
        super().__init__(num_tokens, num_ctx)
        what = f"input {position} has {num_tokens} tokens, which is more than {num_ctx}"
        self.args = (
            f"the input length exceeds the context length: {what}; shorten it, or use a longer num_ctx or model",
        )
        self.position = position


class StoreError(CorralError):
    """The store cannot be read or written: full, read-only, not a folder."""


class CorruptManifest(StoreError):
    """One manifest is unreadable or not a manifest; the other models are unharmed."""


class RegistryError(CorralError):
    """A registry cannot be reached, refuses, or sends what it should not.

    ``status`` is its HTTP status, 0 where there was none. ``temporary`` says whether asking again may help, ``retry_after_s``
    after how long at the earliest.
    """

    def __init__(self, message: str, status: int = 0, *, temporary: bool = False, retry_after_s: float = 0) -> None:
        super().__init__(message)
        self.status = status
        self.temporary = temporary
        self.retry_after_s = retry_after_s


class GgufError(CorralError):
    """A file is not a GGUF, or not one that can be read safely."""


class QuantizationError(CorralError):
    """A model cannot be quantised as it was asked, or its quantisation failed."""


class ConversionError(CorralError):
    """Files are damaged, incomplete, or of a model that cannot be converted."""


class ServerBusy(CorralError):
    """More requests wait than the server is allowed to queue.

    ``position`` is the place in the queue that this one would have had, where there is a queue; ``retry_after_s`` is when there
    may be room again.
    """

    def __init__(
        self,
        message: str = "server busy, please try again.  maximum pending requests exceeded",
        *,
        position: int | None = None,
        retry_after_s: int = 1,
    ) -> None:
        super().__init__(message + (f" (this one would be number {position})" if position is not None else ""))
        self.position = position
        self.retry_after_s = retry_after_s


class ShuttingDown(CorralError):
    """The server is about to end, and takes no more work."""


class ServerUnreachable(CorralError):
    """Nothing answers at the address of the server."""


class ServerError(CorralError):
    """A server answered with an error; ``status`` is its HTTP status, 200 when the error came in mid-stream."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class EngineError(CorralError):
    """The engine failed."""


class EngineStartError(EngineError):
    """The engine did not come up; the text ends with the last lines of its log."""


class OutOfMemory(EngineStartError):
    """There is not enough memory for the model as it was asked for. ``told`` is whether the engine said so, or was just killed."""

    def __init__(self, message: str, *, told: bool = True) -> None:
        super().__init__(message)
        self.told = told


class EngineCrashed(EngineError):
    """The engine went away while it was needed."""


class EngineRefused(EngineError):
    """The engine answered with an error; ``status`` is its HTTP status, ``param`` the field at fault where that is known."""

    def __init__(self, message: str, status: int, *, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
