"""Images and sounds as files, in base64."""

from __future__ import annotations

import base64
import io
import math
import struct
import wave
from typing import Any

from PIL import Image


def file_of(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def coloured(colour: Any, size: tuple[int, int] = (40, 30), mode: str = "RGB") -> Image.Image:
    return Image.new(mode, size, colour)


def tone(hertz: float, seconds: float = 0.5, rate: int = 16000) -> bytes:
    """A WAV file with one tone."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        turns = (2 * math.pi * hertz * n / rate for n in range(int(seconds * rate)))
        sound.writeframes(b"".join(struct.pack("<h", int(20000 * math.sin(turn))) for turn in turns))
    return file.getvalue()


RED, BLUE, GREEN = (base64_of(file_of(coloured(colour))) for colour in ("red", "blue", "green"))
