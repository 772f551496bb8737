"""The words of the language."""

from __future__ import annotations

from dataclasses import dataclass

COMMANDS = (
    "from",
    "license",
    "template",
    "system",
    "adapter",
    "draft",
    "renderer",
    "parser",
    "parameter",
    "message",
    "requires",
)
ROLES = ("system", "user", "assistant")
BLANKS = " \t"
BREAKS = "\r\n"
# The language cannot say a value that has its closing quotes at the end of a line. Corral says it between longer quotes, and
# how long in a comment before the command, which others pass over.
LONG_QUOTES = "# corral: the next value stands between {} quotes"


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its ``name`` in lower case, and for ``parameter`` its name and for ``message`` its role as ``key``."""

    name: str
    value: str
    key: str = ""
