"""Speech to text as OpenAI's API has it: what is asked of a model that hears, and what is answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from corral.dialects.gojson import dumps
from corral.dialects.refusals import Refusal
from corral.durations import quoted
from corral.engine.base import Batch, Finished, Message, Text
from corral.errors import InvalidRequest
from corral.library import ModelSpec
from corral.parameters import checked
from corral.runtime.options import parse_options
from corral.runtime.requests import ChatRequest

_TASK = "Write down what is said in the recording, word for word, in the language it is said in. Do not answer it, and add nothing."
_QUESTION = "Write down this recording."
_TIMED = ("verbose_json", "srt", "vtt", "diarized_json")
_KNOWN = {"model", "response_format", "language", "prompt", "temperature", "stream"}

Shape = Literal["json", "text"]


@dataclass(frozen=True, slots=True)
class Transcription:
    """``POST /v1/audio/transcriptions``, without its file."""

    model: str
    shape: Shape
    stream: bool
    language: str
    prompt: str
    temperature: float
    ignored: tuple[str, ...]

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> Transcription:
        """What the fields of a form say. Raises `InvalidRequest` that names the field."""
        given = {name: value.strip() for name, value in fields.items() if value.strip()}
        if not given.get("model"):
            raise InvalidRequest("model is required", param="model")
        shape = given.get("response_format", "json")
        if shape in _TIMED:
            why = 'models here do not tell when something was said; use "json" or "text"'
            raise InvalidRequest(f"response_format {quoted(shape)} is not supported: {why}", param="response_format")
        if shape not in ("json", "text"):
            raise InvalidRequest(
                f'response_format {quoted(shape)} is not known; use "json" or "text"', param="response_format"
            )
        if any(name.startswith("timestamp_granularities") for name in given):
            raise InvalidRequest(
                "timestamp_granularities is not supported: models here do not tell when something was said",
                param="timestamp_granularities",
            )
        return cls(
            given["model"],
            "text" if shape == "text" else "json",
            given.get("stream", "").lower() in ("true", "1"),
            given.get("language", ""),
            given.get("prompt", ""),
            _temperature(given.get("temperature", "0")),
            tuple(name for name in given if name not in _KNOWN),
        )

    def request(self, spec: ModelSpec, audio: bytes) -> ChatRequest:
        """For the runtime: a question about the recording."""
        told = [_TASK]
        if self.language:
            told.append(f"The language is {self.language}.")
        if self.prompt:
            told.append(f"It goes on from this, whose spelling it shares: {self.prompt}")
        return ChatRequest(
            model=self.model,
            spec=spec,
            options=parse_options({"temperature": self.temperature}),
            think=False if "thinking" in spec.capabilities else None,
            truncate=False,
            messages=(Message("system", " ".join(told)), Message("user", _QUESTION, audio=(audio,))),
        )


def _temperature(text: str) -> float:
    try:
        return float(checked("temperature", float(text)))
    except ValueError:
        raise InvalidRequest(f"temperature must be a number, not {quoted(text)}", param="temperature") from None
    except InvalidRequest as exc:
        raise InvalidRequest(str(exc), param="temperature") from exc


class Encoder:
    """Encodes one transcription. Thoughts are left out."""

    stream_type = "text/event-stream"

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._text: list[str] = []

    def lines(self, batch: Batch) -> bytes:
        """What a stream says of what arrived together."""
        written = []
        for event in batch:
            if isinstance(event, Text):
                piece = event.text if self._text else event.text.lstrip()
                if piece:
                    self._text.append(piece)
                    written.append(_event({"type": "transcript.text.delta", "delta": piece}))
            elif isinstance(event, Finished):
                done = {"type": "transcript.text.done", "text": "".join(self._text).strip(), "usage": _usage(event)}
                written.append(_event(done))
        return b"".join(written)

    def whole(self, batches: Sequence[Batch]) -> bytes:
        """The whole text, in JSON or as it is."""
        events = [event for batch in batches for event in batch]
        text = "".join(event.text for event in events if isinstance(event, Text)).strip()
        if self._shape == "text":
            return text.encode()
        end = events[-1] if events and isinstance(events[-1], Finished) else Finished("stop")
        return dumps({"text": text, "usage": _usage(end)})

    def failed(self, refusal: Refusal) -> bytes:
        """The end of a stream that cannot go on."""
        return b"event: error\n" + _event(
            {"error": {"message": str(refusal), "type": "api_error", "code": refusal.code}}
        )


def _event(value: Mapping[str, Any]) -> bytes:
    return b"data: " + dumps(value) + b"\n\n"


def _usage(end: Finished) -> dict[str, Any]:
    return {
        "type": "tokens",
        "input_tokens": end.prompt_tokens,
        "output_tokens": end.generated_tokens,
        "total_tokens": end.prompt_tokens + end.generated_tokens,
    }
