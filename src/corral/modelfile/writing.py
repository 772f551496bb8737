"""Writing Modelfiles. What is written here is read as the same commands, whatever their values are.

Parameters and messages may come from models of anyone: a name or a role that is none is left out, so that no line is smuggled in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from corral.modelfile.language import BLANKS, BREAKS, LONG_QUOTES, ROLES, Command

_CLOSES_ONE = re.compile(f'"[{BLANKS}]*[{BREAKS}]')
_CLOSES_THREE = re.compile(f'"""[{BLANKS}]*[{BREAKS}]')
_QUOTES = re.compile('"+')
_PARAMETER = re.compile(r"[A-Za-z0-9_]+")


def write_modelfile(commands: Iterable[Command]) -> str:
    r"""The text of a Modelfile, one command after the other, each with a line end.

    >>> write_modelfile([Command("from", "tiny"), Command("parameter", "User: ", "stop"), Command("message", "Hi", "user")])
    'FROM tiny\nPARAMETER stop "User: "\nMESSAGE user Hi\n'
    """
    return "".join(_line(command) for command in commands if _can_be_said(command))


def _can_be_said(command: Command) -> bool:
    match command.name:
        case "parameter":
            return bool(_PARAMETER.fullmatch(command.key))
        case "message":
            return command.key in ROLES
        case _:
            return not command.key


def _line(command: Command) -> str:
    head = f"{command.name.upper()} {command.key} " if command.key else f"{command.name.upper()} "
    length = _quotes_for(command.value)
    comment = LONG_QUOTES.format(length) + "\n" if length > 3 else ""
    quotes = '"' * length
    return f"{comment}{head}{quotes}{command.value}{quotes}\n"


def _quotes_for(value: str) -> int:
    """How many quotes there must be around a value: none, one as far as it goes, three, or more than in it."""
    outer_blanks = value != value.strip(BLANKS)
    broken = any(c in value for c in BREAKS)
    if value and not outer_blanks and not broken and not value.startswith('"'):
        return 0
    if '"' not in value:
        return 1
    if not _CLOSES_THREE.search(value):
        return 3
    if not value.startswith('""') and not _CLOSES_ONE.search(value):
        return 1
    return max(3, *map(len, _QUOTES.findall(value))) + 1
