"""Sounds: WAV, MP3 and FLAC, which the engine decodes, checked as far as headers say; WAV is written anew. Pure.

Sources: Microsoft's RIFF specification, ISO/IEC 11172-3 for frames of MPEG audio, RFC 9639 for FLAC.
"""

from __future__ import annotations

import struct

from corral.errors import InvalidRequest
from corral.media.kinds import MP3, SOUNDS, WAV, kind_of

_PCM, _FLOAT, _A_LAW, _MU_LAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
_BITS = {_PCM: (8, 16, 24, 32), _FLOAT: (32, 64), _A_LAW: (8,), _MU_LAW: (8,)}
_MOST_CHANNELS, _MOST_HERTZ = 16, 384_000
# Bits per second by the number in a frame's header, for MPEG 1 and for MPEG 2 and 2.5; hertz likewise.
_KILOBITS = (
    (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
_HERTZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


def plain_sound(data: bytes, *, max_bytes: int, max_s: float) -> bytes:
    """The sound in ``data`` as the engine may have it. Raises `InvalidRequest` for what is none, damaged, or too long."""
    kind = kind_of(data)
    if kind not in SOUNDS:
        raise InvalidRequest(f"not a sound this model can hear: expected WAV, MP3 or FLAC; got {kind.name}")
    if len(data) > max_bytes:
        raise InvalidRequest(
            f"the {kind.name} sound has {len(data)} bytes, where {max_bytes} are allowed; "
            "send a shorter one, or raise CORRAL_AUDIO_MAX_BYTES"
        )
    try:
        plain, seconds = _wav(data) if kind is WAV else (data, _mp3_s(data) if kind is MP3 else _flac_s(data))
    except _DamagedError as exc:
        raise InvalidRequest(f"the {kind.name} sound cannot be read: {exc}") from exc
    if seconds > max_s:
        raise InvalidRequest(
            f"the {kind.name} sound is {seconds:.0f} s long, where {max_s:.0f} are allowed; "
            "send a shorter one, or raise CORRAL_AUDIO_MAX_LENGTH"
        )
    return plain


class _DamagedError(ValueError):
    pass


def _wav(data: bytes) -> tuple[bytes, float]:
    """The samples with a header of our own, and how many seconds they are."""
    layout: tuple[int, int, int, int] | None = None
    at = 12
    while at + 8 <= len(data):
        name, size = data[at : at + 4], struct.unpack_from("<I", data, at + 4)[0]
        start = at + 8
        if name == b"fmt ":
            layout = _layout(data[start : start + size])
        elif name == b"data":
            if layout is None:
                raise _DamagedError("its samples come before the description of them")
            return _written(layout, data[start : start + size])
        at = start + size + size % 2
    raise _DamagedError("it has no samples" if layout else "it does not say what its samples are")


def _layout(chunk: bytes) -> tuple[int, int, int, int]:
    if len(chunk) < 16:
        raise _DamagedError("the description of its samples is cut short")
    encoding, channels, hertz, _, _, bits = struct.unpack_from("<HHIIHH", chunk)
    if encoding == _EXTENSIBLE and len(chunk) >= 26:
        encoding = struct.unpack_from("<H", chunk, 24)[0]
    if bits not in _BITS.get(encoding, ()):
        raise _DamagedError(
            f"its samples are in encoding {encoding} of {bits} bits; PCM, floats, A-law and mu-law can be read"
        )
    if not 1 <= channels <= _MOST_CHANNELS or not 1 <= hertz <= _MOST_HERTZ:
        raise _DamagedError(f"it has {channels} channels at {hertz} Hz")
    return encoding, channels, hertz, bits


def _written(layout: tuple[int, int, int, int], samples: bytes) -> tuple[bytes, float]:
    encoding, channels, hertz, bits = layout
    block = channels * bits // 8
    samples = samples[: len(samples) // block * block]  # of one that is cut short, what is there
    if not samples:
        raise _DamagedError("it has no samples")
    description = struct.pack("<HHIIHH", encoding, channels, hertz, hertz * block, block, bits)
    body = b"WAVEfmt " + struct.pack("<I", len(description)) + description + b"data"
    body += struct.pack("<I", len(samples)) + samples + bytes(len(samples) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body, len(samples) / block / hertz


def _mp3_s(data: bytes) -> float:
    """Seconds, from the headers of all frames. What stands between frames, and names and pictures before them, is passed over."""
    at = 0
    while data[at : at + 3] == b"ID3" and len(data) >= at + 10:
        size = 0
        for byte in data[at + 6 : at + 10]:
            size = size << 7 | byte & 0x7F
        at += 10 + size
    seconds, frames = 0.0, 0
    while (at := data.find(b"\xff", at)) >= 0 and at + 4 <= len(data):
        found = _mp3_frame(data[at : at + 4])
        if found is None:
            at += 1
            continue
        size, length_s = found
        seconds += length_s
        frames += 1
        at += size
    if not frames:
        raise _DamagedError("it has no frame of sound")
    return seconds


def _mp3_frame(header: bytes) -> tuple[int, float] | None:
    """Bytes and seconds of the frame that begins so; ``None`` if none does."""
    version, layer, rate, hertz = header[1] >> 3 & 3, header[1] >> 1 & 3, header[2] >> 4, header[2] >> 2 & 3
    if header[1] & 0xE0 != 0xE0 or version == 1 or layer != 1 or not 1 <= rate <= 14 or hertz == 3:
        return None
    samples = 1152 if version == 3 else 576
    per_second = _HERTZ[version][hertz]
    kilobits = _KILOBITS[0 if version == 3 else 1][rate - 1]
    return samples // 8 * kilobits * 1000 // per_second + (header[2] >> 1 & 1), samples / per_second


def _flac_s(data: bytes) -> float:
    """Seconds, as the block that comes first says."""
    if len(data) < 42 or data[4] & 0x7F != 0 or int.from_bytes(data[5:8], "big") != 34:
        raise _DamagedError("the description of its samples is missing")
    packed = int.from_bytes(data[18:26], "big")
    hertz, samples = packed >> 44, packed & (1 << 36) - 1
    if hertz == 0:
        raise _DamagedError("it has 0 Hz")
    if samples == 0:  # unknown, so by the most that a file of this size can hold
        return len(data) * 8 / hertz
    return samples / hertz
