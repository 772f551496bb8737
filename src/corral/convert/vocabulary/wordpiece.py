"""BERT's vocabulary of words and ends of words: ``tokenizer.json`` or ``vocab.txt``."""

from __future__ import annotations

from collections.abc import Mapping

from gguf import TokenType

from corral.convert.config import Config
from corral.convert.files import Folder
from corral.convert.vocabulary.tokens import SpecialKind, Vocabulary, check_size, filler, numbered, read_specials
from corral.errors import ConversionError

_SPACE = "\u2581"


def read_word_pieces(folder: Folder, config: Config, rows: int) -> Vocabulary:
    """The tokens, with a mark before the beginnings of words instead of one before their ends, as the engine has it."""
    known, lowercase, strip_accents = _read(folder)
    check_size(known, rows)
    plain = [known.get(number, filler(number)) for number in range(rows)]
    specials = read_specials(folder, config, plain)
    for kind, text in _USUAL.items():
        if kind not in specials and text in known.values():
            specials[kind] = plain.index(text)
    controls = set(specials.values())
    if "cls" not in specials or "sep" not in specials:
        raise ConversionError("the vocabulary has no [CLS] and [SEP], which stand around every text")
    types = [_type(number, number in known, controls, specials.get("unk")) for number in range(rows)]
    # The engine puts BOS before a text and SEP behind it.
    return Vocabulary(
        model="bert",
        pre="default",
        texts=[text if number in controls else _marked(text) for number, text in enumerate(plain)],
        types=types,
        specials=specials | {"bos": specials["cls"]},
        flags={"normalizer.lowercase": lowercase, "normalizer.strip_accents": strip_accents},
    )


_USUAL: Mapping[SpecialKind, str] = {"unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "cls": "[CLS]", "mask": "[MASK]"}


def _marked(text: str) -> str:
    if text.startswith("[") and text.endswith("]"):
        return text
    return text.removeprefix("##") if text.startswith("##") else _SPACE + text


def _type(number: int, is_known: bool, controls: set[int], unknown: int | None) -> TokenType:
    if number == unknown:
        return TokenType.UNKNOWN
    if number in controls:
        return TokenType.CONTROL
    return TokenType.NORMAL if is_known else TokenType.UNUSED


def _read(folder: Folder) -> tuple[dict[int, str], bool, bool]:
    """The tokens by number, and whether texts are put in lower case and lose their accents."""
    settings = folder.json("tokenizer_config.json")
    lowercase = settings.get("do_lower_case", True) is not False
    if "tokenizer.json" not in folder:
        lines = folder.text("vocab.txt").split("\n")
        return dict(enumerate(lines[:-1] if lines[-1] == "" else lines)), lowercase, lowercase
    tokenizer = folder.json("tokenizer.json")
    model, normalizer = tokenizer.get("model"), tokenizer.get("normalizer")
    if not isinstance(model, dict) or model.get("type") != "WordPiece" or not isinstance(model.get("vocab"), dict):
        kind = model.get("type") if isinstance(model, dict) else None
        raise ConversionError(f"tokenizer.json is of the type {str(kind)[:80]}; BERT's is WordPiece")
    if isinstance(normalizer, dict) and isinstance(normalizer.get("lowercase"), bool):
        lowercase = normalizer["lowercase"]
    accents = normalizer.get("strip_accents") if isinstance(normalizer, dict) else None
    return numbered(model["vocab"], "tokenizer.json"), lowercase, lowercase if accents is None else accents is True
