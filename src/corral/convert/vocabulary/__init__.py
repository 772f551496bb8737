"""From a tokeniser's files to the tokens that GGUF carries."""

from __future__ import annotations

from corral.convert.config import Config
from corral.convert.files import Folder
from corral.convert.vocabulary.bpe import read_bpe
from corral.convert.vocabulary.sentencepiece import read_piece_merges, read_sentencepiece
from corral.convert.vocabulary.tokens import Vocabulary
from corral.convert.vocabulary.wordpiece import read_word_pieces
from corral.errors import ConversionError

__all__ = ["Vocabulary", "read_vocabulary", "read_word_pieces"]


def read_vocabulary(folder: Folder, config: Config, rows: int) -> Vocabulary:
    """The vocabulary of a model that generates text, with ``rows`` tokens. Raises `ConversionError` for unknown tokenisers."""
    model = folder.json("tokenizer.json").get("model")
    model = model if isinstance(model, dict) else {}
    if model.get("type") == "BPE" and not model.get("byte_fallback"):
        return read_bpe(folder, config, rows)
    if "tokenizer.model" in folder:
        return read_sentencepiece(folder, config, rows)
    if model.get("type") == "BPE":
        return read_piece_merges(folder, config, rows)
    if model:
        raise ConversionError(
            f"tokenizer.json is of the type {str(model.get('type'))[:80]}; only BPE is supported here"
        )
    raise ConversionError("there is neither a tokenizer.json nor a tokenizer.model among the files")
