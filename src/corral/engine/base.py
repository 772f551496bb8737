"""The seam between Corral and an engine: what it is asked, what it answers, what it may fail with.

An engine has one model in memory and generates several sequences at a time. Everything above this module speaks these
types and no other; nothing here knows HTTP, a dialect or a process.

A generation is an asynchronous iterator of *batches*: whatever arrived together is handed on together, so that a consumer that
falls behind gets larger batches and catches up. The last event of the last batch is `Finished`; a stream that cannot
reach it raises. Closing the iterator stops the generation and frees its slot.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

# Tokens of prompts that an engine without a GPU reads at a time, during which no answer goes on. Larger batches are no faster
# there (134 tokens per second with 256 and with 512, 124 with 128) and stop the other answers for longer.
CPU_BATCH = 256
Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """What an engine is started with. ``context`` is tokens per sequence; ``None`` leaves a choice to the engine.

    ``more_weights`` are the further files of a model in parts, in order. ``embedding`` is for models that only read texts;
    with ``rerank`` they say how well a document answers a question. Images of fewer than
    ``image_min_tokens`` are enlarged, where the projector takes images of any size.

    ``pool_tokens`` is what all sequences share; 0 is enough for each to be full. With ``main_gpu`` no other device is used.
    """

    weights: Path
    more_weights: tuple[Path, ...] = ()
    adapters: tuple[Path, ...] = ()
    projector: Path | None = None
    image_min_tokens: int | None = None
    context: int = 4096
    slots: int = 1
    pool_tokens: int = 0
    embedding: bool = False
    rerank: bool = False
    batch: int | None = None
    threads: int | None = None
    gpu_layers: int | None = None
    main_gpu: int | None = None
    mmap: bool | None = None
    flash_attention: Literal["auto", "on", "off"] = "auto"
    kv_cache_type: str = "f16"
    prompt_cache_mib: int = 512

    @property
    def rounded_context(self) -> int:
        """The context of a sequence as the engine has it: a multiple of 256."""
        return -(-self.context // 256) * 256

    @property
    def pool(self) -> int:
        """The tokens of all sequences together. No sequence can have more of them than its context."""
        return max(self.pool_tokens or self.rounded_context * self.slots, self.rounded_context)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model makes, or made. ``arguments`` is the JSON text of an object, order kept."""

    name: str
    arguments: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. ``thinking`` is a past thought, for templates that print it.

    ``images`` and ``audio`` are files as they were sent; they stand behind the text.
    """

    role: str
    content: str = ""
    thinking: str = ""
    images: tuple[bytes, ...] = field(default=(), repr=False)
    audio: tuple[bytes, ...] = field(default=(), repr=False)
    tool_calls: tuple[ToolCall, ...] = ()
    tool_name: str = ""
    tool_call_id: str = ""


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a chat template renders. ``effort`` is a level of thinking that some templates know."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Json], ...] = ()
    thinking: bool | None = None
    effort: str | None = None

    @property
    def media(self) -> tuple[bytes, ...]:
        """All images and sounds, in the order in which the prompt has them."""
        return tuple(data for message in self.messages for data in (*message.images, *message.audio))


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen and when to stop. ``seed`` ``None`` is a random one, ``max_tokens`` ``None`` no limit.

    ``stop`` strings end the answer, never a thought. ``top_logprobs`` ``None`` asks for no log-probabilities at all.
    ``logit_bias`` is what is added to the logits of tokens, by their number; minus infinity forbids one.
    ``progress`` asks for `Reading` events.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.9
    min_p: float = 0.0
    typical_p: float = 1.0
    repeat_last_n: int = 64
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None
    top_logprobs: int | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()
    progress: bool = False
    # What the engine leaves out unless it is asked for.
    top_n_sigma: float | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    dry_multiplier: float | None = None
    dry_base: float | None = None
    dry_allowed_length: int | None = None
    dry_penalty_last_n: int | None = None
    dry_sequence_breakers: tuple[str, ...] | None = None
    dynatemp_range: float | None = None
    dynatemp_exponent: float | None = None
    mirostat: int | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    samplers: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """The answer is what ``grammar`` (GBNF) says, or matches ``regex`` as a whole, or is JSON: any object, or of ``schema``.

    ``param`` is the field of the request that says so.
    """

    schema: Mapping[str, Json] | None = None
    grammar: str = ""
    regex: str = ""
    param: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class NamedTool:
    """The one tool that must be called."""

    name: str


def tool_name(tool: Mapping[str, Json]) -> str:
    """The name of a tool as requests list them: ``{"type": "function", "function": {"name": …}}``."""
    function = tool.get("function")
    return str(function.get("name", "")) if isinstance(function, Mapping) else ""


ToolChoice = Literal["auto", "none", "required"] | NamedTool


@dataclass(frozen=True, slots=True)
class ChatCall:
    """A conversation to be continued; the engine renders it and parses thoughts and tool calls.

    ``background`` ones begin only while no other call waits.
    """

    conversation: Conversation
    sampling: Sampling
    output: OutputFormat | None = None
    tool_choice: ToolChoice = "auto"
    parallel_tool_calls: bool = True
    background: bool = False


@dataclass(frozen=True, slots=True)
class Thoughts:
    """The tags between which a text has its thought; ``inside`` when the prompt has opened it already, ``begun`` when it has
    some of it.
    """

    opening: str
    closing: str
    inside: bool = False
    begun: bool = False


@dataclass(frozen=True, slots=True)
class CompletionCall:
    """A text, or tokens, to be continued as they stand.

    ``images``, sounds among them, are what the prompt's placeholders ``[img-0]``, ``[img-1]``… stand for. With ``thoughts``
    the answer is told from its thought. ``shown`` are control tokens that are text here.

    With ``limit_each``, which is the context in tokens, ``max_tokens`` is a limit for the thought and once more for the answer.
    ``background`` calls begin only while no other call waits.
    """

    prompt: str | tuple[int, ...]
    sampling: Sampling
    output: OutputFormat | None = None
    images: tuple[bytes, ...] = field(default=(), repr=False)
    background: bool = False
    thoughts: Thoughts | None = None
    shown: tuple[str, ...] = ()
    limit_each: int | None = None


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """The natural logarithm of a token's probability, and of its nearest rivals."""

    token: str
    bytes: tuple[int, ...]
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """The prompt is being read: ``read_tokens`` of its ``prompt_tokens``, among them ``cached_tokens`` that were in memory already.

    Where they are asked for, the first comes before anything else, and a request that is begun again gives further ones.
    """

    prompt_tokens: int
    cached_tokens: int
    read_tokens: int


@dataclass(slots=True)
class Text:
    """A piece of the answer."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(slots=True)
class Thinking:
    """A piece of a thought."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a generation: why, and the engine's own counts and times (nanoseconds).

    ``prompt_tokens`` includes the ``cached_tokens`` that were in memory already, ``generated_tokens`` the ``thinking_tokens``
    up to the end of the last thought. ``stop_string`` is the one that ended the answer.
    """

    reason: Literal["stop", "length"]
    prompt_tokens: int = 0
    cached_tokens: int = 0
    prompt_ns: int = 0
    generated_tokens: int = 0
    thinking_tokens: int = 0
    generated_ns: int = 0
    load_ns: int = 0  # how long the request waited for an engine
    dropped_messages: int = 0  # left out because the conversation was longer than the context
    context: tuple[int, ...] = ()  # tokens of the conversation so far, where they were asked for
    stop_string: str = ""
    written: str = field(default="", repr=False)  # by a completion with thoughts: all of it, tags included


Event = Reading | Text | Thinking | ToolCall | Finished
Batch = Sequence[Event]


@dataclass(slots=True)
class Parcels:
    """A request whose texts are read in parcels, each a call to the engine. It has ``begun`` when one of them was let in.

    Those of ``background`` ones are read while no other waits.
    """

    background: bool = False
    begun: bool = False


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One vector per input, in order, and the tokens that were read for all of them."""

    vectors: list[list[float]] = field(repr=False)
    tokens: int


@dataclass(frozen=True, slots=True)
class Scores:
    """How well each document answers a query, in order, and the tokens that were read for all of them."""

    values: list[float] = field(repr=False)
    tokens: int


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """How busy an engine is now: sequences of which so many are being generated, tokens of their pool, requests that wait.

    ``paused`` ones wait in the middle of their answer. Since the engine started there were so many ``pauses``, and so many
    beginnings that several prompts share were read by themselves (``prefix_leaders``).
    """

    slots: int
    slots_in_use: int
    queue: int
    pool_tokens: int
    pool_in_use: int
    paused: int = 0
    pauses: int = 0
    prefix_leaders: int = 0


@runtime_checkable
class KnowsItsLoad(Protocol):
    """An engine that admits requests itself, and can say how busy it is."""

    @property
    def load(self) -> EngineLoad:
        """How busy it is now."""


class Engine(Protocol):
    """One model in memory. All methods may raise `EngineCrashed`; those that take input also `EngineRefused`."""

    @property
    def config(self) -> EngineConfig:
        """What it was started with."""

    def chat(self, call: ChatCall) -> AsyncGenerator[Batch, None]:
        """Continue a conversation. Raises `PromptTooLong` before the first batch."""

    def complete(self, call: CompletionCall) -> AsyncGenerator[Batch, None]:
        """Continue a text: `Text`, and `Thinking` where tags say so. Raises `PromptTooLong` before the first batch."""

    async def embed(self, inputs: Sequence[str | Sequence[int]], request: Parcels | None = None) -> Embeddings:
        """Embed texts, or tokens as they stand, as many at a time as there are slots. Raises `PromptTooLong`.

        ``request`` is the one that the texts are a parcel of.

        Vectors have unit length; where a number is none, or has no end, they have ``nan``.
        """

    async def rerank(self, query: str, documents: Sequence[str], request: Parcels | None = None) -> Scores:
        """How well each of ``documents`` answers ``query``, as the model's head says it. Raises `PromptTooLong`."""

    async def tokenise(self, text: str, *, add_special: bool = False) -> list[int]:
        """The tokens of ``text``; control tokens written in it are understood."""

    async def pieces(self, text: str, *, add_special: bool = False) -> list[tuple[int, bytes]]:
        """The tokens of ``text``, each with its own bytes."""

    async def media_tokens(self, data: bytes) -> int:
        """The most tokens of a prompt that an image or a sound takes, with what the engine writes around it; seldom fewer.

        Raises `EngineRefused` for bytes that it cannot read.
        """

    async def detokenise(self, tokens: Sequence[int]) -> str:
        """The text of ``tokens``. Raises `InvalidRequest` for one that is not in the vocabulary."""

    async def apply_template(self, conversation: Conversation) -> str:
        """The prompt that `chat` would complete; images and sounds have placeholders as in a `CompletionCall`."""

    async def beginning(self) -> str:
        """The text of the token that the engine puts before every prompt; empty if it puts none."""

    async def end_of_turn(self) -> str:
        """The text of the token that ends an answer."""

    async def slots(self) -> list[bool]:
        """Which sequences are busy now, by the engine's own listing."""

    async def health(self) -> bool:
        """Whether it can serve."""

    def close(self) -> None:
        """Let go of what is held open to it; its process belongs to whoever started it."""
