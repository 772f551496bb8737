"""What a template may use up. A hostile one reaches a limit and not the end of the machine."""

from __future__ import annotations

from dataclasses import dataclass

from corral.errors import TemplateError


@dataclass(frozen=True, slots=True)
class Limits:
    """``steps`` is work: a node, an element, or a few dozen characters handled are one each; a million take a second or two.

    ``output_characters`` bounds the result and every text on the way to it, ``calls`` how deep templates call templates.
    """

    steps: int = 2_000_000
    output_characters: int = 16 << 20
    calls: int = 100_000


class Budget:
    """What is left of the limits, for one execution."""

    __slots__ = ("_steps", "limits")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._steps = limits.steps

    def spend(self, steps: int = 1) -> None:
        """Account for work done. TemplateError: there was too much of it."""
        self._steps -= steps
        if self._steps < 0:
            raise TemplateError(
                f"template: stopped after {self.limits.steps} steps: it does not end, or its data are huge"
            )

    def check_size(self, characters: int) -> None:
        """TemplateError: a text of this size is too long."""
        if characters > self.limits.output_characters:
            raise TemplateError(f"template: stopped at a text of more than {self.limits.output_characters} characters")


class Output:
    """Text that is being put together, no longer than the budget allows."""

    __slots__ = ("_parts", "_size", "budget")

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._parts: list[str] = []
        self._size = 0

    def write(self, text: str) -> None:
        """Add ``text``. TemplateError: it does not fit."""
        self._size += len(text)
        self.budget.check_size(self._size)
        self._parts.append(text)

    def text(self) -> str:
        return "".join(self._parts)

    @property
    def size(self) -> int:
        """Characters so far."""
        return self._size
