"""Where a JSON object ends, in a text that is still coming."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from corral.parsing.marks import held_back

_IN_STRING = re.compile(r'["\\\n]')


class ObjectScanner:
    """Finds the end of the object that begins at ``start`` of a text, which is given again and again as it grows.

    Marks of ``ends`` outside of strings, and a line end inside one, mean that it is no JSON.
    """

    def __init__(self, start: int, ends: Sequence[str] = ()) -> None:
        self._ends = tuple(end for end in ends if end)
        self._structure = re.compile("|".join([*map(re.escape, self._ends), r'[{}"]']))
        self.start = self._at = start
        self._depth = 0
        self._in_string = False

    def end(self, text: str) -> int | Literal["open", "broken"]:
        """Where in ``text`` the object ends, if that can be told.

        >>> scanner = ObjectScanner(3)
        >>> scanner.end('so {"a": "}'), scanner.end('so {"a": "}"} and more')
        ('open', 13)
        """
        while True:
            if self._in_string:
                if not self._leave_string(text):
                    return "broken" if self._at < len(text) and text[self._at] == "\n" else "open"
                continue
            certain = len(text) - max((held_back(text, end) for end in self._ends), default=0)
            found = self._structure.search(text, self._at)
            if found is None or found.start() >= certain:
                self._at = max(self._at, certain)
                return "open"
            if found[0] in self._ends:
                return "broken"
            self._at = found.end()
            if found[0] == '"':
                self._in_string = True
            else:
                self._depth += 1 if found[0] == "{" else -1
            if self._depth == 0:
                return self._at

    def _leave_string(self, text: str) -> bool:
        """Go behind the string's closing quote; whether it is there. Otherwise stay where it must be looked for again."""
        found = _IN_STRING.search(text, self._at)
        while found is not None and found[0] == "\\":
            if found.end() >= len(text):
                self._at = found.start()
                return False
            found = _IN_STRING.search(text, found.end() + 1)
        if found is None:
            # An escape may have carried us to the very end; whatever is there has been looked at.
            self._at = len(text)
            return False
        self._at = found.start()
        if found[0] == "\n":
            return False
        self._at, self._in_string = found.end(), False
        return True
