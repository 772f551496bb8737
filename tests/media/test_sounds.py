"""Sounds: what their headers say, held against files made by other programs' rules."""

from __future__ import annotations

import io
import struct
import wave
from contextlib import suppress

import pytest

from corral.errors import InvalidRequest
from corral.media.kinds import kind_of
from corral.media.sounds import plain_sound

MANY = 1 << 30


def plain(data: bytes, max_s: float = 1e9) -> bytes:
    return plain_sound(data, max_bytes=MANY, max_s=max_s)


def wav(samples: bytes, *, channels: int = 1, width: int = 2, rate: int = 8000) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(channels)
        sound.setsampwidth(width)
        sound.setframerate(rate)
        sound.writeframes(samples)
    return file.getvalue()


def mp3_frame(header: bytes, size: int) -> bytes:
    return header + bytes(size - 4)


# MPEG 1, layer III, 128 kbit/s, 44100 Hz: 417 bytes and 1152 samples
FRAME = mp3_frame(b"\xff\xfb\x90\x00", 417)


def flac(hertz: int, samples: int) -> bytes:
    packed = hertz << 44 | 15 << 36 | samples
    return b"fLaC\x80\x00\x00\x22" + bytes(10) + packed.to_bytes(8, "big") + bytes(16)


def test_a_wav_keeps_its_samples_and_loses_the_rest() -> None:
    samples = bytes(range(200))
    sent = wav(samples, channels=2, rate=44100)
    note = b"LIST" + struct.pack("<I", 6) + b"secret"
    made = plain(sent[:36] + note + sent[36:] + b"behind the end")
    with wave.open(io.BytesIO(made)) as sound:
        assert (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) == (2, 2, 44100)
        assert sound.readframes(1000) == samples
    assert made == wav(samples, channels=2, rate=44100)


def test_of_a_wav_that_is_cut_short_the_whole_samples_are_left() -> None:
    with wave.open(io.BytesIO(plain(wav(bytes(100))[:-3]))) as sound:
        assert sound.getnframes() == 48


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        (wav(bytes(16000), rate=4000), 2.0),
        (wav(bytes(16000), channels=2, width=4, rate=1000), 2.0),
        (FRAME * 77, 77 * 1152 / 44100),
        (b"ID3\x04\0\0\0\0\x01\x00" + b"\xff\xfb\x90\x00" * 32 + FRAME * 10, 10 * 1152 / 44100),
        (FRAME * 3 + b"noise" + FRAME * 4, 7 * 1152 / 44100),
        (mp3_frame(b"\xff\xf3\x40\x00", 208) * 5, 5 * 576 / 22050),
        (flac(48000, 96000), 2.0),
    ],
    ids=["wav", "wav of two channels", "mp3", "mp3 with a name", "mp3 with noise", "mp3 of mpeg 2", "flac"],
)
def test_how_long_a_sound_is(data: bytes, seconds: float) -> None:
    plain(data, max_s=seconds + 0.001)
    with pytest.raises(InvalidRequest, match="CORRAL_AUDIO_MAX_LENGTH"):
        plain(data, max_s=seconds - 0.001)


def test_a_sound_that_is_too_large_is_refused_with_the_numbers() -> None:
    with pytest.raises(InvalidRequest, match="the MP3 sound has 417 bytes, where 416 are allowed"):
        plain_sound(FRAME, max_bytes=416, max_s=10)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\xff\xfb\x90\x00", "MP3"),
        (b"\xff\xf1\x50\x80", "an AAC or MPEG sound that is not MP3"),
        (b"OggS", "an Ogg file"),
        (b"RIFF\0\0\0\0AVI ", "a RIFF file, but neither WebP nor WAV"),
        (b"http://example.com/x.png", "a link"),
        (b"data:image/png;base64,", "a data: URL; send only what stands behind its comma"),
        ("Grüße".encode(), "text"),
        (b"\xfe\xed\xfa\xce", "bytes of no known format"),
    ],
)
def test_what_bytes_are(data: bytes, name: str) -> None:
    assert kind_of(data).name == name


@pytest.mark.parametrize("length", range(60))
def test_no_beginning_of_a_file_is_more_than_an_error(length: int) -> None:
    for whole in (wav(bytes(100)), FRAME, flac(48000, 10), b"ID3\x04\0\0\x7f\x7f\x7f\x7f"):
        with suppress(InvalidRequest):
            plain(whole[:length])
