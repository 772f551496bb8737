"""Sounds, from the bytes of a request to the tokens of the engine."""

from __future__ import annotations

import struct

import pytest

from tests.conftest import RunningServer
from tests.projectors import SOUND_TOKENS
from tests.server.media.conftest import GREEDY, Ask
from tests.server.media.samples import RED, base64_of, tone

EXPECTED = "not an image this model can read: expected PNG, JPEG, WebP or GIF; got "
LOW, HIGH = base64_of(tone(300)), base64_of(tone(3000))
both_templates = pytest.mark.parametrize("model", ["hears", "hears-go"])


@both_templates
def test_what_a_model_says_depends_on_the_sound(chat: Ask, generate: Ask, model: str) -> None:
    without, low, high = chat(model), chat(model, images=[LOW]), chat(model, images=[HIGH])
    assert low.prompt_tokens >= without.prompt_tokens + SOUND_TOKENS
    assert len({str(answer.said) for answer in (without, low, high)}) == 3
    assert generate(model, images=[LOW]).said == low.said


@pytest.mark.parametrize("model", ["senses", "senses-go"])
def test_a_model_that_sees_and_hears_does_both_at_once(chat: Ask, model: str) -> None:
    answers = [chat(model, images=media) for media in ([RED], [LOW], [RED, LOW], [RED, HIGH], [LOW, RED])]
    assert len({str(answer.said) for answer in answers[:4]}) == 4
    assert answers[2].said == answers[4].said  # images come first


def test_a_model_in_one_file_with_its_projector_does_the_same(server: RunningServer, chat: Ask) -> None:
    assert {"vision", "audio"} <= set(server.client.show("one-file")["capabilities"])
    for media in ([RED], [LOW], [RED, LOW]):
        assert chat("one-file", images=media).said == chat("senses", images=media).said


def test_show_says_that_a_model_hears(server: RunningServer) -> None:
    for model, capable in (("hears", {"audio"}), ("senses", {"vision", "audio"}), ("tiny", set())):
        assert set(server.client.show(model)["capabilities"]) & {"vision", "audio"} == capable


@pytest.mark.parametrize(("model", "name"), [("tiny", "tiny"), ("sees", "sees"), ("sees-go", "sees-go")])
def test_a_model_that_does_not_hear_says_so(chat: Ask, model: str, name: str) -> None:
    answer = chat(model, images=[LOW])
    assert (answer.status, answer.error) == (400, f'"{name}" does not support audio')


def test_a_model_that_only_hears_does_not_see(chat: Ask) -> None:
    answer = chat("hears", images=[RED])
    assert (answer.status, answer.error) == (400, '"hears" does not support images')


def header(encoding: int = 1, channels: int = 1, hertz: int = 16000, bits: int = 16, samples: bytes = b"ab") -> bytes:
    form = struct.pack("<HHIIHH", encoding, channels, hertz, 1, 1, bits)
    return b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(samples)) + samples


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (tone(300)[:12], "the WAV sound cannot be read: it does not say what its samples are"),
        (tone(300)[:44], "the WAV sound cannot be read: it has no samples"),
        (header(hertz=0), "the WAV sound cannot be read: it has 1 channels at 0 Hz"),
        (header(channels=0), "the WAV sound cannot be read: it has 0 channels at 16000 Hz"),
        (header(bits=7), "the WAV sound cannot be read: its samples are in encoding 1 of 7 bits"),
        (header(samples=bytes(4000), hertz=1), "the WAV sound is 2000 s long, where 1500 are allowed"),
        (b"ID3\x04\0\0\0\0\0\x05hello", "the MP3 sound cannot be read: it has no frame of sound"),
        (b"fLaC" + bytes(60), "the FLAC sound cannot be read"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_sound_that_is_wrong_is_refused_before_the_engine_hears_it(chat: Ask, data: bytes, error: str) -> None:
    answer = chat("hears", images=[base64_of(data)])
    assert (answer.status, answer.error[: len(error)]) == (400, error)


def test_what_is_no_sound_is_taken_for_an_image(chat: Ask) -> None:
    for data, what in ((b"OggS" + bytes(40), "an Ogg file"), (b"\0\0\0\x18ftypM4A " + bytes(40), "an M4A sound")):
        answer = chat("senses", images=[base64_of(data)])
        assert (answer.status, answer.error) == (400, EXPECTED + what)


@both_templates
def test_sounds_count_against_the_context(chat: Ask, model: str) -> None:
    answer = chat(model, images=[LOW] * 10, options={**GREEDY, "num_ctx": 256})
    assert answer.status == 400
    assert "which is longer than the context length of 256 tokens" in answer.error
