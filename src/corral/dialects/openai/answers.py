"""What answers of chat completions and completions have alike: ids, counts, log-probabilities, how streams begin and end."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from corral.dialects.gojson import dumps
from corral.dialects.openai.errors import error_body
from corral.dialects.refusals import Refusal
from corral.dialects.wire.calls import random_id
from corral.engine.base import Finished, TokenLogprob

FINGERPRINT: Final = "fp_ollama"
DONE: Final = b"data: [DONE]\n\n"
_IMPOSSIBLE = -9999.0  # OpenAI's word for a token that is out of the question


class Answer:
    """One request's answer. ``n`` are the answers to one prompt, whose tokens count once."""

    stream_type = "text/event-stream"

    def __init__(self, kind: str, model: str, *, n: int, include_usage: bool) -> None:
        self.id = f"{kind}-{random_id(29)}"
        self.created = int(time.time())
        self.model = model
        self.include_usage = include_usage
        self.ends: dict[int, Finished] = {}
        self._n = n

    def usage(self) -> dict[str, Any]:
        """The tokens of all answers that have ended."""
        prompts = [end for index, end in self.ends.items() if index % self._n == 0]
        read = sum(end.prompt_tokens for end in prompts)
        written = sum(end.generated_tokens for end in self.ends.values())
        return {
            "prompt_tokens": read,
            "completion_tokens": written,
            "total_tokens": read + written,
            "prompt_tokens_details": {"cached_tokens": sum(end.cached_tokens for end in prompts)},
            "completion_tokens_details": {"reasoning_tokens": sum(end.thinking_tokens for end in self.ends.values())},
        }

    def failed(self, refusal: Refusal) -> bytes:
        """An error as the end of a stream, in which nothing follows it."""
        return event(error_body(refusal))


def event(data: bytes) -> bytes:
    """One event of a stream."""
    return b"data: %s\n\n" % data


def encoded(fields: Mapping[str, Any]) -> bytes:
    """One event of a stream that is an object."""
    return event(dumps(fields))


def logprobs(entries: Iterable[TokenLogprob]) -> list[dict[str, Any]]:
    """Log-probabilities in OpenAI's shape: every key is always there."""
    return [{**_one(entry), "top_logprobs": [_one(rival) for rival in entry.top]} for entry in entries]


def logprob(entry: TokenLogprob) -> float:
    """The number, as JSON can have it."""
    return max(entry.logprob, _IMPOSSIBLE)


def _one(entry: TokenLogprob) -> dict[str, Any]:
    return {"token": entry.token, "logprob": logprob(entry), "bytes": list(entry.bytes) if entry.bytes else None}
