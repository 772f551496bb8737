"""What those have in common who tell calls from text while it comes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

from corral.parsing.calls import ParsedCall

ToolPiece = tuple[Literal["text", "markup"], str] | ParsedCall


class Splitter(ABC):
    """Takes text as it comes, and gives out what is certain. Pieces that are "markup" belong to calls."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> list[ToolPiece]:
        """The pieces that are certain after ``text`` arrived."""
        self._held += text
        return self._read(ended=False)

    def flush(self) -> list[ToolPiece]:
        """What was held back, now that no more comes."""
        return self._read(ended=True)

    def _read(self, *, ended: bool) -> list[ToolPiece]:
        pieces: list[ToolPiece] = []
        while self._held and self._step(pieces, ended):
            pass
        return pieces

    @abstractmethod
    def _step(self, pieces: list[ToolPiece], ended: bool) -> bool:
        """Give out what can be told of what is held; whether more of it may be told now."""

    def _show(self, pieces: list[ToolPiece], length: int) -> str:
        """Give out the first characters of what is held as text, which is returned."""
        text, self._held = self._held[:length], self._held[length:]
        if text:
            pieces.append(("text", text))
        return text

    def _take(self, pieces: list[ToolPiece], length: int) -> None:
        """Give out the first characters of what is held as markup."""
        text, self._held = self._held[:length], self._held[length:]
        if text:
            pieces.append(("markup", text))
