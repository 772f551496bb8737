"""Training rows: conversations as token ids, with a mark on those the model learns to write."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import render
import tasks
from errors import RecipeError
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

VOCABULARY_SIZE = 2048
CONTROL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
VISIBLE_TOKENS = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]

# llama.cpp's pre-tokeniser "qwen2": every digit is a token, and a blank belongs to the word after it.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    r"|[^\r\n\p{L}\p{N}]?\p{L}+"
    r"|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+"
    r"|\s+(?!\S)"
    r"|\s+"
)


@dataclass(frozen=True, slots=True)
class Rows:
    """Conversations end to end: row ``i`` is ``tokens[bounds[i]:bounds[i + 1]]``."""

    tokens: NDArray[np.uint16]  # (N,) token ids
    learned: NDArray[np.bool_]  # (N,) whether the model learns to write the token
    bounds: NDArray[np.int64]  # (rows + 1,) where rows begin, and the end of the last

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def row(self, index: int) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
        """One row's tokens and marks, (T,) each."""
        span = slice(self.bounds[index], self.bounds[index + 1])
        return self.tokens[span], self.learned[span]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(rows,) tokens per row."""
        return np.diff(self.bounds)

    def save(self, path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, tokens=self.tokens, learned=self.learned, bounds=self.bounds)

    @classmethod
    def load(cls, path: Path) -> Rows:
        try:
            with np.load(path) as arrays:
                return cls(arrays["tokens"], arrays["learned"], arrays["bounds"])
        except FileNotFoundError as exc:
            raise RecipeError(f"{path} does not exist; try: --first data") from exc


def draw_rows(tokenizer: Tokenizer, *, conversations: int, seed: int) -> Rows:
    """The rows of a seed; the same tokeniser and seed give the same rows on every machine."""
    rng = random.Random(seed)
    tokens: list[NDArray[np.uint16]] = []
    learned: list[NDArray[np.bool_]] = []
    bounds = np.zeros(conversations + 1, np.int64)
    for index in range(conversations):
        sample = tasks.draw_sample(rng)
        length = 0
        for segment in render.segments(sample, compact_tools=rng.random() < 0.4):
            ids = np.array(tokenizer.encode(segment.text).ids, np.uint16)
            tokens.append(ids)
            learned.append(np.full(len(ids), segment.learned))
            length += len(ids)
        bounds[index + 1] = bounds[index] + length
    return Rows(np.concatenate(tokens), np.concatenate(learned), bounds)


def load_tokenizer(path: Path) -> Tokenizer:
    if not path.is_file():
        raise RecipeError(f"{path} does not exist; try: --new-tokenizer, which trains one")
    return Tokenizer.from_file(str(path))


def train_tokenizer(*, conversations: int, seed: int) -> Tokenizer:
    """A byte-level BPE tokeniser for conversations like those of the training rows."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=CONTROL_TOKENS + VISIBLE_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(conversations, random.Random(seed)), trainer)
    return tokenizer


def _texts(conversations: int, rng: random.Random) -> Iterable[str]:
    for _ in range(conversations):
        yield "".join(segment.text for segment in render.segments(tasks.draw_sample(rng)))
