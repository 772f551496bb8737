"""What a file is, by its first bytes. Pure.

No name and no media type that a client gives is believed: the engine looks at the bytes too, and what it takes for a sound or a
film it hands to other decoders.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Kind:
    """A format: its name for people, and what it holds."""

    name: str
    holds: Literal["image", "audio", "other"]


PNG, JPEG, WEBP, GIF = (Kind(name, "image") for name in ("PNG", "JPEG", "WebP", "GIF"))
WAV, MP3, FLAC = (Kind(name, "audio") for name in ("WAV", "MP3", "FLAC"))
IMAGES, SOUNDS = (PNG, JPEG, WEBP, GIF), (WAV, MP3, FLAC)

_BEGINNINGS = (
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"\xff\xd8\xff", JPEG),
    (b"GIF87a", GIF),
    (b"GIF89a", GIF),
    (b"fLaC", FLAC),
    (b"ID3", MP3),
    (b"BM", Kind("a BMP image", "other")),
    (b"II*\x00", Kind("a TIFF image", "other")),
    (b"MM\x00*", Kind("a TIFF image", "other")),
    (b"\x00\x00\x01\x00", Kind("an icon", "other")),
    (b"\x00\x00\x00\x0cJXL ", Kind("a JPEG XL image", "other")),
    (b"\xff\x0a", Kind("a JPEG XL image", "other")),
    (b"8BPS", Kind("a Photoshop document", "other")),
    (b"%PDF", Kind("a PDF document", "other")),
    (b"PK\x03\x04", Kind("a ZIP archive", "other")),
    (b"\x1f\x8b", Kind("a gzip archive", "other")),
    (b"OggS", Kind("an Ogg file", "other")),
    (b"\x1aE\xdf\xa3", Kind("a WebM or Matroska film", "other")),
    (b"GGUF", Kind("a GGUF file", "other")),
)
_BRANDS = {
    b"avif": "an AVIF image",
    b"avis": "an AVIF image",
    b"heic": "an HEIC image",
    b"heix": "an HEIC image",
    b"mif1": "an HEIC image",
    b"M4A ": "an M4A sound",
    b"qt  ": "a QuickTime film",
}
_HEAD_BYTES = 512
_NOTHING_KNOWN = "bytes of no known format"


def kind_of(data: bytes) -> Kind:
    """The format of ``data``.

    >>> kind_of(b"GIF89a...").name, kind_of(b"<svg xmlns=''>").name, kind_of(b"").name
    ('GIF', 'an SVG drawing', 'nothing')
    """
    if not data:
        return Kind("nothing", "other")
    for beginning, kind in _BEGINNINGS:
        if data.startswith(beginning):
            return kind
    if data.startswith(b"RIFF"):
        return {b"WEBP": WEBP, b"WAVE": WAV}.get(data[8:12], Kind("a RIFF file, but neither WebP nor WAV", "other"))
    if data[4:8] == b"ftyp":
        return Kind(_BRANDS.get(data[8:12], "an MP4 file"), "other")
    if len(data) > 1 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0:  # a frame of MPEG audio, by its first eleven bits
        return MP3 if data[1] & 0x06 == 0x02 else Kind("an AAC or MPEG sound that is not MP3", "other")
    return Kind(_text(data[:_HEAD_BYTES]) or _NOTHING_KNOWN, "other")


def _text(head: bytes) -> str:
    """What kind of text begins so; empty if it is none."""
    try:
        text = head.decode("utf-8-sig").lstrip().lower()
    except UnicodeDecodeError as exc:
        if exc.start < len(head) - 3 or len(head) < _HEAD_BYTES:  # else a letter is cut in two
            return ""
        text = head[: exc.start].decode("utf-8-sig").lstrip().lower()
    if any(byte < 9 or 13 < byte < 27 for byte in head):
        return ""
    if text.startswith("<svg") or (text.startswith(("<?xml", "<!--", "<!doctype svg")) and "<svg" in text):
        return "an SVG drawing"
    if text.startswith(("<!doctype html", "<html", "<head", "<body")):
        return "an HTML page"
    if text.startswith("data:"):
        return "a data: URL; send only what stands behind its comma"
    if text.startswith(("http://", "https://")):
        return "a link"
    return "text"
