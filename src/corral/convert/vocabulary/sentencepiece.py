"""SentencePiece vocabularies: ``tokenizer.model``, or the same as pairs to merge in ``tokenizer.json``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from gguf import TokenType

from corral.convert.config import Config
from corral.convert.files import Folder
from corral.convert.vocabulary.bpe import merge_text
from corral.convert.vocabulary.pieces import UNIGRAM, Piece, Pieces, read_pieces
from corral.convert.vocabulary.tokens import (
    LEAST_SCORE,
    Added,
    Vocabulary,
    check_size,
    filler,
    numbered,
    read_added,
    read_additions,
    read_chat_template,
    read_specials,
)
from corral.errors import ConversionError

MAX_MODEL_BYTES = 64 << 20
_SPACE = "\u2581"
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


@dataclass(slots=True)
class _Token:
    text: str
    type: TokenType
    score: float


def read_sentencepiece(folder: Folder, config: Config, rows: int) -> Vocabulary:
    """The pieces of ``tokenizer.model``. Raises `ConversionError` for one that does not merge pairs (BPE)."""
    model = read_pieces(folder.bytes("tokenizer.model", MAX_MODEL_BYTES))
    if model.kind == UNIGRAM:
        raise ConversionError(
            "tokenizer.model is a unigram model; only those that merge pairs (BPE) are supported here"
        )
    return _vocabulary(folder, config, rows, model)


def read_piece_merges(folder: Folder, config: Config, rows: int) -> Vocabulary:
    """The pieces of a ``tokenizer.json`` that falls back to bytes: what is merged early has a high score."""
    tokenizer: dict[str, Any] = folder.json("tokenizer.json")
    model = tokenizer["model"]
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, dict):
        raise ConversionError("tokenizer.json has no vocabulary")
    scores: dict[str, float] = {}
    for rank, merge in enumerate(model.get("merges") or ()):
        scores.setdefault(merge_text(merge).replace(" ", "", 1), -float(rank))
    least = -float(len(scores)) + LEAST_SCORE
    known = numbered(vocabulary, "tokenizer.json")
    pieces = [
        Piece(known[number], scores.get(known[number], least), _type(known[number], model.get("unk_token")))
        if number in known
        else Piece(filler(number), least, TokenType.UNUSED)
        for number in range(max(known, default=-1) + 1)
    ]
    return _vocabulary(folder, config, rows, Pieces(pieces, 0, _begins_with_space(tokenizer)))


def _vocabulary(folder: Folder, config: Config, rows: int, model: Pieces) -> Vocabulary:
    check_size({number: piece.text for number, piece in enumerate(model.pieces[-1:], len(model.pieces) - 1)}, rows)
    tokens = [_Token(piece.text, piece.type, piece.score) for piece in model.pieces]
    tokens += [_Token(filler(number), TokenType.UNUSED, LEAST_SCORE) for number in range(len(tokens), rows)]
    for number, added in read_added(folder).items():
        if number < rows:
            _put(tokens[number], added)
    texts = [token.text for token in tokens]
    specials = read_specials(folder, config, texts)
    space = folder.json("tokenizer_config.json").get("add_prefix_space")
    return Vocabulary(
        model="llama",
        pre="default",
        texts=texts,
        types=[token.type for token in tokens],
        scores=[token.score for token in tokens],
        specials=specials,
        flags={"add_space_prefix": space if isinstance(space, bool) else model.add_space_prefix}
        | read_additions(folder, specials, texts),
        chat_template=read_chat_template(folder),
    )


def _put(token: _Token, added: Added) -> None:
    """What was added stands over the piece of the same number, but unknown and byte tokens stay what they are."""
    if token.type in (TokenType.UNKNOWN, TokenType.BYTE):
        return
    token.type = added.type
    token.text = added.text if added.type is TokenType.CONTROL else added.text.replace(_SPACE, " ")
    if token.type is TokenType.USER_DEFINED:
        token.score = LEAST_SCORE


def _type(text: str, unknown: object) -> TokenType:
    if text == unknown:
        return TokenType.UNKNOWN
    return TokenType.BYTE if _BYTE.fullmatch(text) else TokenType.NORMAL


def _begins_with_space(tokenizer: dict[str, Any]) -> bool:
    """Whether a text is read as if a space stood before it."""
    steps: list[Any] = []
    for key, inner in (("normalizer", "normalizers"), ("pre_tokenizer", "pretokenizers")):
        step = tokenizer.get(key)
        if isinstance(step, dict):
            steps += step.get(inner) or [step]
    for step in steps:
        if isinstance(step, dict) and step.get("type") == "Prepend":
            return True
        if isinstance(step, dict) and step.get("type") == "Metaspace":
            return bool(step.get("prepend_scheme", "always") != "never")
    return False
