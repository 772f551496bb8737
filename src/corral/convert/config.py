"""``config.json``: each value is checked when it is taken."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from corral.errors import ConversionError

MAX_COUNT = 1 << 31


class Config:
    """The values of a configuration. All methods raise `ConversionError` for a value that cannot be, or is missing."""

    def __init__(self, values: Mapping[str, Any], file: str = "config.json") -> None:
        self._values = values
        self._file = file

    def count(self, key: str, default: int | None = None, *, most: int = MAX_COUNT) -> int:
        """A whole number from 1."""
        value = self._get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            raise self._error(key, value, f"a whole number from 1 to {most}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number."""
        value = self._get(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise self._error(key, value, "a number")
        return float(value)

    def numbers(self, key: str) -> list[float]:
        """A list of finite numbers."""
        value = self._get(key, None)
        if not isinstance(value, list) or not all(isinstance(n, int | float) and math.isfinite(n) for n in value):
            raise self._error(key, value, "a list of numbers")
        return [float(n) for n in value]

    def __bool__(self) -> bool:
        return bool(self._values)

    def has(self, key: str) -> bool:
        """Whether there is a value, and not null."""
        return self._values.get(key) is not None

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise self._error(key, value, "true or false")
        return value

    def first_id(self, key: str) -> int | None:
        """The number of a token, the first where there are several; ``None`` where none is said."""
        value = self._values.get(key)
        value = value[0] if isinstance(value, list) and value else value
        return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None

    def text(self, key: str, default: str = "") -> str:
        """A text."""
        value = self._get(key, default)
        return value if isinstance(value, str) else default

    def texts(self, key: str) -> list[str]:
        """A list of texts; empty where there is none."""
        value = self._values.get(key)
        return [str(text) for text in value] if isinstance(value, list) else []

    def section(self, key: str) -> Config:
        """An object inside; empty where there is none."""
        value = self._values.get(key)
        return Config(value if isinstance(value, dict) else {}, f"{self._file}: {key}")

    def over(self, other: Config) -> Config:
        """These values, and those of ``other`` where there is none."""
        return Config({**other._values, **self._values}, self._file)

    def _get(self, key: str, default: Any) -> Any:
        value = self._values.get(key)
        value = default if value is None else value
        if value is None:
            raise ConversionError(f'{self._file} does not say "{key}"')
        return value

    def _error(self, key: str, value: object, wanted: str) -> ConversionError:
        return ConversionError(f'{self._file}: "{key}" is {str(value)[:80]}; it must be {wanted}')
