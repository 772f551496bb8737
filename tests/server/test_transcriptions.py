"""Speech to text: what is refused, and how what a model hears is written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from corral.dialects.refusals import Refusal
from corral.dialects.transcriptions import Encoder, Transcription
from corral.engine.base import Finished, Text, Thinking
from tests.conftest import RunningServer

HEARD: Any = [[Thinking("hm")], [Text(" Good"), Text(" morning.\n")], [Finished("stop", 7, generated_tokens=3)]]
USAGE = {"type": "tokens", "input_tokens": 7, "output_tokens": 3, "total_tokens": 10}


@pytest.fixture
def client(shared_server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{shared_server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_a_model_that_does_not_hear_says_so(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match='"tiny" does not support audio'):
        client.audio.transcriptions.create(model="tiny", file=("a.wav", b"RIFF"))


@pytest.mark.parametrize(
    ("asked", "says", "param"),
    [
        ({"response_format": "srt"}, '"srt" is not supported', "response_format"),
        ({"response_format": "verbose_json"}, '"verbose_json" is not supported', "response_format"),
        ({"response_format": "wild"}, 'is not known; use "json" or "text"', "response_format"),
        ({"timestamp_granularities": ["word"]}, "when something was said", "timestamp_granularities"),
        ({"model": ""}, "model is required", "model"),
        ({"file": ("a.wav", b"")}, "audio file is empty", "file"),
        ({"extra_body": {"temperature": "hot"}}, "temperature must be a number", "temperature"),
        ({"extra_body": {"temperature": "nan"}}, "at least 0", "temperature"),
        ({"temperature": -1}, "at least 0", "temperature"),
    ],
)
def test_what_cannot_be_given_is_refused_by_name(
    client: openai.OpenAI, asked: dict[str, Any], says: str, param: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=says) as caught:
        client.audio.transcriptions.create(**{"model": "tiny", "file": ("a.wav", b"RIFF"), **asked})
    assert caught.value.param == param


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="model 'nope' not found"):
        client.audio.transcriptions.create(model="nope", file=("a.wav", b"RIFF"))


def test_what_does_not_exist_is_not_found_in_the_shape_of_the_api(client: openai.OpenAI) -> None:
    for act in (
        lambda: client.audio.speech.create(model="tiny", input="x", voice="v"),
        lambda: client.moderations.create(input="x"),
        lambda: client.images.generate(prompt="x"),
    ):
        with pytest.raises(openai.NotFoundError) as caught:
            act()
        assert caught.value.type == "not_found_error"


def test_a_text_is_given_without_its_thought_and_its_edges() -> None:
    assert json.loads(Encoder("json").whole(HEARD)) == {"text": "Good morning.", "usage": USAGE}
    assert Encoder("text").whole(HEARD) == b"Good morning."


def test_a_stream_tells_the_pieces_and_then_the_whole() -> None:
    encoder = Encoder("json")
    events = [json.loads(entry[6:]) for batch in HEARD for entry in encoder.lines(batch).split(b"\n\n") if entry]
    assert events == [
        {"type": "transcript.text.delta", "delta": "Good"},
        {"type": "transcript.text.delta", "delta": " morning.\n"},
        {"type": "transcript.text.done", "text": "Good morning.", "usage": USAGE},
    ]
    assert encoder.failed(Refusal(500, "broken")).startswith(b"event: error\ndata: ")


def test_the_language_and_what_went_before_reach_the_model() -> None:
    fields = {"model": "m", "language": "de", "prompt": "Corral", "chunking_strategy": "auto"}
    wanted = Transcription.of(fields)
    assert wanted.ignored == ("chunking_strategy",)

    class Spec:
        capabilities = ("completion", "audio", "thinking")

    asked = wanted.request(Spec(), b"RIFF")  # type: ignore[arg-type]
    system, user = asked.messages
    assert "The language is de." in system.content
    assert "Corral" in system.content
    assert user.audio == (b"RIFF",)
    assert asked.think is False
    assert asked.options.values["temperature"] == 0
