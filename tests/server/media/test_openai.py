"""Images and sounds through OpenAI's API, by its genuine client, down to the engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.conftest import RunningServer
from tests.projectors import SOUND_TOKENS
from tests.server.media.samples import BLUE, RED, base64_of, tone


@pytest.fixture
def client(server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def chat(client: openai.OpenAI, model: str, *parts: Any) -> Any:
    content = [{"type": "text", "text": "What is this?"}, *parts]
    messages: Any = [{"role": "user", "content": content}]
    return client.chat.completions.create(
        model=model, messages=messages, max_tokens=4, temperature=0, logprobs=True, reasoning_effort="none"
    )


def picture(data: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}


@pytest.mark.parametrize("model", ["sees", "sees-go"])
def test_what_a_model_says_depends_on_the_image(client: openai.OpenAI, model: str) -> None:
    plain, red, blue = chat(client, model), chat(client, model, picture(RED)), chat(client, model, picture(BLUE))
    assert red.usage.prompt_tokens == blue.usage.prompt_tokens > plain.usage.prompt_tokens
    assert red.choices[0].logprobs != blue.choices[0].logprobs


@pytest.mark.parametrize("model", ["sees", "sees-go"])
def test_responses_see_images_too(client: openai.OpenAI, model: str) -> None:
    def used(*parts: Any) -> int:
        content: Any = [{"type": "input_text", "text": "What is this?"}, *parts]
        answer = client.responses.create(
            model=model, input=[{"role": "user", "content": content}], max_output_tokens=4, temperature=0
        )
        assert answer.usage is not None
        return answer.usage.input_tokens

    assert used({"type": "input_image", "image_url": f"data:image/png;base64,{RED}", "detail": "auto"}) > used()


@pytest.mark.parametrize("model", ["hears", "hears-go"])
def test_a_chat_hears_sounds(client: openai.OpenAI, model: str) -> None:
    sound = {"type": "input_audio", "input_audio": {"data": base64_of(tone(300)), "format": "wav"}}
    assert chat(client, model, sound).usage.prompt_tokens >= chat(client, model).usage.prompt_tokens + SOUND_TOKENS


@pytest.mark.parametrize("model", ["hears", "hears-go"])
def test_a_model_that_hears_transcribes(client: openai.OpenAI, model: str) -> None:
    answer = client.audio.transcriptions.create(model=model, file=("a.wav", tone(300)), prompt="a tone")
    assert answer.usage is not None
    assert answer.usage.type == "tokens"
    assert answer.usage.input_tokens > SOUND_TOKENS
    assert answer.usage.output_tokens > 0
    assert answer.text == answer.text.strip()


def test_a_transcription_comes_in_pieces_and_then_as_a_whole(client: openai.OpenAI) -> None:
    stream = client.audio.transcriptions.create(model="hears", file=("a.wav", tone(300)), stream=True)
    events = list(stream)
    assert events[-1].type == "transcript.text.done"
    told = "".join(event.delta for event in events if event.type == "transcript.text.delta")
    assert told.strip() == events[-1].text.strip()


def test_what_is_no_sound_is_refused_before_the_model_hears_it(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="expected WAV, MP3 or FLAC"):
        client.audio.transcriptions.create(model="hears", file=("a.wav", b"hello, hello"))
