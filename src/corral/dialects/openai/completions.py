"""``POST /v1/completions``: the request. A prompt is put into the model's template, as Ollama does it, unless it is ``raw``."""

from __future__ import annotations

from dataclasses import dataclass

from corral.dialects.gojson import Fields
from corral.dialects.openai.asked import Asked, decode, fields_of
from corral.dialects.wire.options import MOST_RIVALS
from corral.errors import InvalidRequest
from corral.library import ModelSpec
from corral.runtime.requests import GenerateRequest

Prompt = str | tuple[int, ...]

MOST_ANSWERS = 2048  # of one request: prompts, times answers to each
_LAST_TOKEN = 2**31 - 1
_KNOWN = frozenset({"prompt", "suffix", "echo", "best_of", "raw"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion(Asked):
    """A request, checked. Each of ``prompts`` has ``n`` answers, which stand together."""

    prompts: tuple[Prompt, ...]
    suffix: str
    echo: bool
    raw: bool

    @classmethod
    def decode(cls, body: bytes) -> Completion:
        """Raises `InvalidRequest`."""
        fields = fields_of(body, "CompletionRequest")
        found = cls(
            **decode(fields, _KNOWN, _rivals(fields)),
            prompts=prompts(fields.raw("prompt"), "prompt"),
            suffix=fields.string("suffix") or "",
            echo=fields.boolean("echo") or False,
            raw=fields.boolean("raw") or False,
        )
        found._check(fields.integer("best_of"))
        return found

    @property
    def only_loads(self) -> bool:
        """Whether there is nothing to continue: Ollama loads the model then."""
        return self.prompts == ("",) and not self.suffix

    def requests(self, spec: ModelSpec) -> list[GenerateRequest]:
        """For the runtime: one for each answer, those to one prompt together."""
        return [
            GenerateRequest(
                **core,
                prompt=prompt if isinstance(prompt, str) else "",
                tokens=None if isinstance(prompt, str) else prompt,
                raw=self.raw,
                suffix=self.suffix,
                want_context=False,
            )
            for prompt in self.prompts
            for core in self.core(spec)
        ]

    def _check(self, best_of: int | None) -> None:
        if best_of is not None and best_of != self.n:
            raise InvalidRequest(
                f"best_of must be n, which is {self.n}: answers are not compared here", param="best_of"
            )
        if len(self.prompts) * self.n > MOST_ANSWERS:
            raise InvalidRequest(
                f"{len(self.prompts)} prompts with {self.n} answers each are more than {MOST_ANSWERS} answers",
                param="prompt",
            )
        if self.raw and self.suffix:
            raise InvalidRequest("raw takes the prompt as it stands, so it has no place for a suffix", param="suffix")
        if self.echo and self.top_logprobs is not None:
            raise InvalidRequest("echo with logprobs is not supported: a prompt's tokens have none here", param="echo")
        if self.echo and not all(isinstance(prompt, str) for prompt in self.prompts):
            raise InvalidRequest("echo needs prompts that are texts, not tokens", param="echo")


def prompts(value: object, name: str) -> tuple[Prompt, ...]:
    """A text, tokens, or a list of either; ``null`` is an empty text. Raises `InvalidRequest` that calls the field ``name``."""
    if value is None:
        return ("",)
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not value:
        raise InvalidRequest(f"{name} must be a text, a list of tokens, or a list of such, and not empty", param=name)
    if not isinstance(value[0], str | list):
        return (_tokens(value, name),)
    return tuple(
        item if isinstance(item, str) else _tokens(item, f"{name}[{position}]") for position, item in enumerate(value)
    )


def _tokens(value: object, where: str) -> tuple[int, ...]:
    if not isinstance(value, list) or not value or not all(map(_is_token, value)):
        raise InvalidRequest(f"{where}: expected texts, or lists of the numbers of tokens", param=where)
    return tuple(value)


def _is_token(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LAST_TOKEN


def _rivals(fields: Fields) -> int | None:
    wanted = fields.integer("logprobs")
    if wanted is not None and not 0 <= wanted <= MOST_RIVALS:
        raise InvalidRequest(f"logprobs must be from 0 to {MOST_RIVALS}, not {wanted}", param="logprobs")
    return wanted
