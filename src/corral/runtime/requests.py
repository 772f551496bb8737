"""What a dialect asks for: one type of request for chats, one for prompts, whatever the API."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

from corral.engine.base import Json, Message, OutputFormat, ToolChoice
from corral.library import ModelSpec
from corral.runtime.options import Options

in_background: ContextVar[bool] = ContextVar("in_background", default=False)
"""Whether the task at work is one that everyone else goes before, whatever it asks for: no dialect needs to know."""

Think = bool | Literal["low", "medium", "high", "max"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """What every generation has. ``model`` is the name as the client wrote it, for answers and errors.

    ``background`` work waits for all other work.
    ``progress`` asks for `Reading` events.
    ``thinks_apart`` gives a thought before a format the whole ``num_predict``, and the answer another, where Ollama does: behind a
    Go template.
    """

    model: str
    spec: ModelSpec
    options: Options = field(default_factory=Options)
    think: Think | None = None
    output: OutputFormat | None = None
    keep_alive_s: float | None = None
    truncate: bool = True
    top_logprobs: int | None = None
    background: bool = field(default_factory=in_background.get)
    progress: bool = False
    thinks_apart: bool = False

    @property
    def template(self) -> str | None:
        """The Go template that renders the prompt, if one does."""
        return self.spec.template if self.spec.prompting.use == "go" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRequest:
    """What needs an engine and no generation: tokens of a text, for one."""

    spec: ModelSpec
    options: Options = field(default_factory=Options)
    keep_alive_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedRequest(EngineRequest):
    """Texts to be embedded, or tokens as they stand.

    ``truncate`` cuts those that are longer than the context, ``dimensions`` the vectors. ``background`` work waits for all other.
    """

    texts: tuple[str | tuple[int, ...], ...]
    truncate: bool = True
    dimensions: int | None = None
    background: bool = field(default_factory=in_background.get)


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankRequest(EngineRequest):
    """Documents to be put in order. ``truncate`` cuts those that do not fit beside the query, and so does ``most_tokens``.

    ``background`` work waits for all other.
    """

    query: str
    documents: tuple[str, ...]
    truncate: bool = False
    most_tokens: int | None = None
    background: bool = field(default_factory=in_background.get)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest(GenerationRequest):
    """A conversation to be continued. Without ``parallel_tool_calls`` the answer has one call at most."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Json], ...] = ()
    tool_choice: ToolChoice = "auto"
    parallel_tool_calls: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest(GenerationRequest):
    """A prompt to be answered: as it stands if ``raw``, else as a user's turn after ``system`` and ``context``.

    ``tokens``, where there are any, are continued as they stand, and no other text with them.

    ``own_template`` is a Go template that takes the place of the model's; with ``suffix`` what stands between is asked for.
    """

    prompt: str
    tokens: tuple[int, ...] | None = None
    raw: bool = False
    system: str | None = None
    suffix: str = ""
    own_template: str = ""
    images: tuple[bytes, ...] = ()
    audio: tuple[bytes, ...] = ()
    context: tuple[int, ...] | None = None
    want_context: bool = True

    @property
    def template(self) -> str | None:
        """The Go template that renders the prompt, if one does."""
        return self.own_template or super(GenerateRequest, self).template
