"""Vocabularies of byte pairs (GPT-2's way): ``tokenizer.json``."""

from __future__ import annotations

from typing import Any

from gguf import TokenType

from corral.convert.config import Config
from corral.convert.files import Folder
from corral.convert.vocabulary.tokens import (
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

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_SPACES = r"|\s*[\r\n]+|\s+(?!\S)|\s+"


def _words(digits: str) -> str:
    return _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|" + digits + r"| ?[^\s\p{L}\p{N}]+[\r\n]*" + _SPACES


def _cased_words(ending: str, digits: str) -> str:
    begin = r"[^\r\n\p{L}\p{N}]?" + _UPPER
    words = f"{begin}*{_LOWER}+{ending}|{begin}+{_LOWER}*{ending}"
    return f"{words}|{digits}" + r"| ?[^\s\p{L}\p{N}]+[\r\n/]*" + _SPACES


# How a text is split before pairs are merged, and what the engine calls it. Source: the patterns in the tokenizer.json of the
# models, and those of llama.cpp's src/llama-vocab.cpp.
_ONE_DIGIT, _THREE_DIGITS = r"\p{N}", r"\p{N}{1,3}"
_SPLITS = {
    _words(_ONE_DIGIT): "qwen2",
    _words(_THREE_DIGITS): "dbrx",
    _cased_words("", _ONE_DIGIT): "tekken",
    _cased_words(f"{_CONTRACTIONS}?", _THREE_DIGITS): "gpt-4o",
}


def read_bpe(folder: Folder, config: Config, rows: int) -> Vocabulary:
    """The tokens and merges. Raises `ConversionError` for a way of splitting that the engine does not know."""
    tokenizer = folder.json("tokenizer.json")
    model = tokenizer["model"]
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, dict):
        raise ConversionError("tokenizer.json has no vocabulary")
    known = numbered(vocabulary, "tokenizer.json")
    check_size(known, rows)
    added = read_added(folder)
    texts, types = [], []
    for number in range(rows):
        if number in added:
            texts.append(added[number].text)
            types.append(added[number].type)
        else:
            texts.append(known.get(number, filler(number)))
            types.append(TokenType.NORMAL if number in known else TokenType.UNUSED)
    specials = read_specials(folder, config, texts)
    return Vocabulary(
        model="gpt2",
        pre=pre_tokeniser(tokenizer.get("pre_tokenizer"), ignores_merges=model.get("ignore_merges") is True),
        texts=texts,
        types=types,
        merges=[merge_text(merge) for merge in model.get("merges") or ()],
        specials=specials,
        flags={"add_bos_token": False} | read_additions(folder, specials, texts),
        chat_template=read_chat_template(folder),
    )


def merge_text(merge: Any) -> str:
    """A merge as one text: ``tokenizers`` wrote "a b" until 0.20, and a pair since."""
    match merge:
        case str():
            return merge
        case [str(left), str(right)]:
            return f"{left} {right}"
    raise ConversionError(f"tokenizer.json: the merge {str(merge)[:80]} is no pair")


def pre_tokeniser(rule: Any, *, ignores_merges: bool) -> str:
    """The engine's name for a ``pre_tokenizer``.

    >>> pre_tokeniser({"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}, ignores_merges=False)
    'gpt-2'
    """
    steps = rule.get("pretokenizers") if isinstance(rule, dict) and rule.get("type") == "Sequence" else [rule]
    steps = [step for step in steps or () if isinstance(step, dict)]
    kinds = [step.get("type") for step in steps]
    if steps and kinds[-1] == "ByteLevel" and not steps[-1].get("add_prefix_space"):
        own_words = steps[-1].get("use_regex", True)
        if kinds == ["Split", "ByteLevel"] and not own_words and (name := _split_name(steps[0])):
            return "llama-bpe" if name == "dbrx" and ignores_merges else name
        if kinds == ["ByteLevel"] and own_words:
            return "gpt-2"
        if kinds == ["Digits", "ByteLevel"] and own_words and steps[0].get("individual_digits"):
            return "smollm"
    raise ConversionError(f"tokenizer.json splits texts in a way that is not known here: {str(rule)[:300]}")


def _split_name(step: dict[str, Any]) -> str | None:
    """The engine's name for a pattern whose matches are the words. They cover any text, so what is between does not matter."""
    keeps_matches = step.get("behavior") == "Isolated" or (
        step.get("behavior") == "Removed" and step.get("invert") is True
    )
    pattern = step.get("pattern")
    return _SPLITS.get(str(pattern.get("Regex"))) if keeps_matches and isinstance(pattern, dict) else None
