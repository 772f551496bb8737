"""Reading ``tokenizer.model``, a protocol-buffer message, as far as it is needed; it may come from anyone.

Source: ``sentencepiece_model.proto`` of google/sentencepiece, and the wire format of protocol buffers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gguf import TokenType

from corral.errors import ConversionError

UNIGRAM = 1
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class Piece:
    """A token. Among the pairs that could be merged, the one that gives the highest score is."""

    text: str
    score: float
    type: TokenType


@dataclass(frozen=True, slots=True)
class Pieces:
    """All pieces in order, the kind of model (`UNIGRAM`, or 2 for BPE), and whether a space is put before a text."""

    pieces: list[Piece]
    kind: int
    add_space_prefix: bool


def read_pieces(data: bytes) -> Pieces:
    """The model in ``data``. Raises `ConversionError` if it is none."""
    pieces: list[Piece] = []
    kind, add_space_prefix = UNIGRAM, True
    try:
        for number, value in _fields(data):
            match number, value:
                case 1, bytes():
                    pieces.append(_piece(value))
                case 2, bytes():
                    kind = dict(_fields(value)).get(3, UNIGRAM)
                case 3, bytes():
                    add_space_prefix = bool(dict(_fields(value)).get(3, 1))
    except (IndexError, ValueError, struct.error) as exc:
        raise ConversionError(f"tokenizer.model is no SentencePiece model: {exc}") from exc
    if not pieces:
        raise ConversionError("tokenizer.model is no SentencePiece model: it has no pieces")
    return Pieces(pieces, kind, add_space_prefix)


def _piece(data: bytes) -> Piece:
    fields = dict(_fields(data))
    text, score, kind = fields.get(1, b""), fields.get(2, bytes(4)), fields.get(3, 1)
    return Piece(text.decode(), struct.unpack("<f", score)[0], TokenType(kind))


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """The numbers of the fields of a message with their values: whole numbers, or bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if wire == _BYTES:
            length, at = _varint(data, at)
        elif wire in (_FOUR_BYTES, _EIGHT_BYTES):
            length = 4 if wire == _FOUR_BYTES else 8
        else:
            raise ValueError(f"a field has the unknown wire type {wire}")
        if at + length > len(data):
            raise ValueError("it ends too early")
        yield tag >> 3, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that begins at ``at``, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number does not end")
