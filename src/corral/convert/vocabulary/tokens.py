"""Tokens, and what is known of the special ones."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from gguf import GGUFWriter, TokenType

from corral.convert.config import Config
from corral.convert.files import Folder
from corral.errors import ConversionError

LEAST_SCORE = -1000.0
MAX_TOKENS = 1 << 22
SpecialKind = Literal["bos", "eos", "unk", "sep", "pad", "cls", "mask", "eot", "eom"]
KINDS: tuple[SpecialKind, ...] = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
# Control tokens which some tokenizer.json forget to call special.
_LOOKS_SPECIAL = re.compile(r"<\|.*\|>|<｜.*｜>|<unused\d+>|<(start|end)_of_(turn|image)>")


@dataclass(frozen=True, slots=True)
class Added:
    """A token that was added to a vocabulary; it is found in a text before all others."""

    text: str
    is_special: bool

    @property
    def type(self) -> TokenType:
        """How the engine treats it."""
        is_control = self.is_special or _LOOKS_SPECIAL.fullmatch(self.text)
        return TokenType.CONTROL if is_control else TokenType.USER_DEFINED


@dataclass(slots=True)
class Vocabulary:
    """Tokens by number, in the engine's terms. ``flags`` are keys below ``tokenizer.ggml``; ``None`` is left to the engine."""

    model: Literal["gpt2", "llama", "bert"]
    pre: str
    texts: list[str]
    types: list[TokenType]
    scores: list[float] | None = None
    merges: list[str] | None = None
    specials: Mapping[SpecialKind, int] = field(default_factory=dict)
    flags: Mapping[str, bool | None] = field(default_factory=dict)
    chat_template: str | Sequence[Mapping[str, str]] | None = None

    def describe(self, writer: GGUFWriter) -> None:
        """Add the keys."""
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.texts)
        writer.add_token_types(self.types)
        if self.scores is not None:
            writer.add_token_scores(self.scores)
        if self.merges is not None:
            writer.add_token_merges(self.merges)
        for kind, number in self.specials.items():
            writer.add_uint32(f"tokenizer.ggml.{_KEYS[kind]}_token_id", number)
        for key, value in self.flags.items():
            if value is not None:
                writer.add_bool(f"tokenizer.ggml.{key}", value)
        if self.chat_template:
            writer.add_chat_template(self.chat_template)


_KEYS = {
    "bos": "bos", "eos": "eos", "unk": "unknown", "sep": "seperator", "pad": "padding", "cls": "cls", "mask": "mask",
    "eot": "eot", "eom": "eom",
}  # fmt: skip


def read_added(folder: Folder) -> dict[int, Added]:
    """The tokens that were added, by number, from all files that may tell of them."""
    added: dict[int, Added] = {}
    for text, number in folder.json("added_tokens.json").items():
        _add(added, number, text, False)
    decoder = folder.json("tokenizer_config.json").get("added_tokens_decoder")
    for key, entry in (decoder if isinstance(decoder, dict) else {}).items():
        if isinstance(entry, dict) and key.isdecimal():
            _add(added, int(key), entry.get("content"), entry.get("special"))
    listed = folder.json("tokenizer.json").get("added_tokens")
    for entry in listed if isinstance(listed, list) else []:
        if isinstance(entry, dict):
            _add(added, entry.get("id"), entry.get("content"), entry.get("special"))
    return added


def _add(added: dict[int, Added], number: object, text: object, is_special: object) -> None:
    if isinstance(number, int) and 0 <= number < MAX_TOKENS and isinstance(text, str):
        added[number] = Added(text, is_special is True)


def numbered(vocabulary: Mapping[str, Any], file: str) -> dict[int, str]:
    """A vocabulary the other way round. Raises `ConversionError` for numbers that cannot be."""
    texts = {
        number: text for text, number in vocabulary.items() if isinstance(number, int) and 0 <= number < MAX_TOKENS
    }
    if len(texts) != len(vocabulary):
        raise ConversionError(f"{file}: the numbers of the tokens are not one for each")
    return texts


def check_size(texts: Mapping[int, str], rows: int) -> None:
    """Raises `ConversionError` when there are more tokens than ``rows`` of embeddings, or far too many rows."""
    if texts and max(texts) >= rows:
        raise ConversionError(f"the vocabulary has {max(texts) + 1} tokens, the model has {rows} embeddings")
    if rows > MAX_TOKENS:
        raise ConversionError(f"the model has {rows} embeddings where no more than {MAX_TOKENS} tokens make sense")


def filler(number: int) -> str:
    """The text of a token that no text has: embeddings are often more than tokens, for the hardware's sake."""
    return f"[PAD{number}]"


def read_specials(folder: Folder, config: Config, texts: Sequence[str]) -> dict[SpecialKind, int]:
    """The numbers of the special tokens: by their texts in the tokeniser's files, or else by ``config.json``."""
    numbers = {text: number for number, text in enumerate(texts)}
    sources = [folder.json("tokenizer_config.json"), folder.json("special_tokens_map.json")]
    found: dict[SpecialKind, int] = {}
    for kind in KINDS:
        entries = [source.get(f"{kind}_token") for source in sources]
        names = [entry.get("content") if isinstance(entry, dict) else entry for entry in entries]
        known = [numbers[name] for name in names if isinstance(name, str) and name in numbers]
        number = known[0] if known else config.first_id(f"{kind}_token_id")
        if number is not None and number < len(texts):
            found[kind] = number
    return found | _other_ends(folder, texts, found.get("eos"))


# Ends of a text rather than of a turn: the engine stops at them anyway.
_ENDS_OF_TEXT = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>")


def _other_ends(folder: Folder, texts: Sequence[str], end: int | None) -> dict[SpecialKind, int]:
    """The tokens besides EOS that end an answer, by ``generation_config.json``: of a turn, and of a message before a tool's."""
    listed = folder.json("generation_config.json").get("eos_token_id")
    found: dict[SpecialKind, int] = {}
    for number in listed if isinstance(listed, list) else [listed]:
        if (
            isinstance(number, int)
            and 0 <= number < len(texts)
            and number != end
            and texts[number] not in _ENDS_OF_TEXT
        ):
            found.setdefault("eom" if texts[number] == "<|eom_id|>" else "eot", number)
    return found


def read_additions(folder: Folder, specials: Mapping[SpecialKind, int], texts: Sequence[str]) -> dict[str, bool | None]:
    """Whether texts begin with BOS and end with EOS: by the tokeniser's settings, or by its template."""
    settings, template = (
        folder.json("tokenizer_config.json"),
        _template(folder.json("tokenizer.json").get("post_processor")),
    )
    found: dict[str, bool | None] = {}
    for kind, place in (("bos", 0), ("eos", -1)):
        said, number = settings.get(f"add_{kind}_token"), specials.get("bos" if kind == "bos" else "eos")
        if isinstance(said, bool):
            found[f"add_{kind}_token"] = said
        elif template is not None:
            found[f"add_{kind}_token"] = number is not None and template[place : place + 1 or None] == [texts[number]]
    return found


def _template(processor: object) -> list[str] | None:
    """The texts around a text, by ``post_processor``; an empty one for the text itself. ``None`` if nothing is said."""
    if not isinstance(processor, dict):
        return None
    if processor.get("type") == "Sequence":
        parts = [_template(part) for part in processor.get("processors") or ()]
        return next((part for part in parts if part and len(part) > 1), [""] if parts else None)
    if processor.get("type") == "TemplateProcessing":
        pieces = [piece for piece in processor.get("single") or () if isinstance(piece, dict)]
        return [str((piece.get("SpecialToken") or {}).get("id", "")) for piece in pieces]
    return [""] if processor.get("type") == "ByteLevel" else None


def read_chat_template(folder: Folder) -> str | Sequence[Mapping[str, str]] | None:
    """The chat template, or several with names, from the file that has it."""
    if "chat_template.jinja" in folder:
        return folder.text("chat_template.jinja")
    for file in ("tokenizer_config.json", "chat_template.json"):
        template = folder.json(file).get("chat_template")
        if isinstance(template, str):
            return template
        if isinstance(template, list):
            return [entry for entry in template if isinstance(entry, dict) and isinstance(entry.get("template"), str)]
    return None
