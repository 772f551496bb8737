(
    r"""Reading Modelfiles.

    command   = blanks name blanks value | blanks "PARAMETER" blanks key blanks value | blanks "MESSAGE" blanks role blanks value
    value     = text to the end of the line | '"' text '"' | '"""
    " text "
    """', the quotes followed by the end of a line
    comment   = "#" where a command could begin

Names of commands are of any case. Blanks around a value do not belong to it; every other character does. A line ends with
LF, CR or CRLF; a number of a line in an error is that of the character at which it was noticed.

Source: Ollama, ``parser/parser.go``, whose texts the errors have.
"""
)

from __future__ import annotations

import codecs
import re
from typing import NoReturn

from corral.errors import InvalidRequest
from corral.modelfile.language import BLANKS, BREAKS, COMMANDS, LONG_QUOTES, ROLES, Command

_ENCODINGS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_BETWEEN = re.compile(f"[{BLANKS}{BREAKS}]*")
_BLANKS = re.compile(f"[{BLANKS}]*")
_LINE = re.compile(f"[^{BREAKS}]*")
_BREAK = re.compile(r"\r\n|\r|\n")
_NAME = re.compile(r"(?s:.)[A-Za-z]*")
_KEY = re.compile(r"[A-Za-z0-9_]*")
_ROLE = re.compile(r"[A-Za-z]*")
_LONG_QUOTES = re.compile(re.escape(LONG_QUOTES).replace(r"\{\}", "([0-9]{1,9})"))

_NO_COMMAND = "command must be one of " + ", ".join(f'"{name}"' for name in COMMANDS[:-1]) + f', or "{COMMANDS[-1]}"'
_NO_ROLE = 'message role must be one of "system", "user", or "assistant"'
_EARLY_END = "unexpected EOF"


def decode(data: bytes) -> str:
    """The text of a Modelfile: UTF-8, unless a byte order mark says otherwise; what is no text becomes U+FFFD."""
    for mark, encoding in _ENCODINGS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, errors="replace")
    return data.decode(errors="replace")


def read_modelfile(text: str) -> tuple[Command, ...]:
    r"""The commands of a Modelfile, in order. Raises `InvalidRequest` that names the line.

    >>> read_modelfile('FROM tiny\nPARAMETER stop "User: "')
    (Command(name='from', value='tiny', key=''), Command(name='parameter', value='User: ', key='stop'))
    """
    commands = tuple(_Reader(text).commands())
    if not any(command.name == "from" for command in commands):
        raise InvalidRequest("no FROM line")
    return commands


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def commands(self) -> list[Command]:
        found = []
        quotes = 0
        while self._peek(_BETWEEN):
            if self._text[self._at] == "#":
                announced = _LONG_QUOTES.fullmatch(self._take(_LINE).rstrip(BLANKS))
                quotes = int(announced[1]) if announced else 0
            else:
                found.append(self._command(quotes))
                quotes = 0
        return found

    def _peek(self, skipped: re.Pattern[str]) -> bool:
        """Pass over what is ``skipped``; whether anything is left."""
        self._take(skipped)
        return self._at < len(self._text)

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        assert found is not None  # the patterns match the empty text, or are used where there is one
        self._at = found.end()
        return found[0]

    def _command(self, quotes: int) -> Command:
        name = self._take(_NAME).lower()
        self._need_blank(_NO_COMMAND)
        if name not in COMMANDS:
            self._fail(_NO_COMMAND)
        key = ""
        if name in ("parameter", "message"):
            self._take(_BLANKS)
            key = self._take(_KEY if name == "parameter" else _ROLE)
            self._need_blank(f"{_EARLY_END}: {key}", with_line=False)
            if name == "message" and key not in ROLES:
                self._fail(_NO_ROLE)
        return Command(name, self._value(quotes), key)

    def _need_blank(self, message: str, *, with_line: bool = True) -> None:
        if self._at == len(self._text):
            raise InvalidRequest(_EARLY_END)
        if self._text[self._at] not in BLANKS:
            if not with_line:
                raise InvalidRequest(message)
            self._fail(message)

    def _value(self, quotes: int) -> str:
        self._take(_BLANKS)
        start = self._at
        length = quotes or next((n for n in (3, 1) if self._text.startswith('"' * n, start)), 0)
        if not length or not self._text.startswith('"' * length, start):
            return self._take(_LINE).rstrip(BLANKS)
        closing = '"' * length
        while True:
            self._take(_LINE)
            end = self._at
            while end > start and self._text[end - 1] in BLANKS:
                end -= 1
            if end - start >= 2 * length and self._text.endswith(closing, start, end):
                return self._text[start + length : end - length]
            if self._at == len(self._text):
                raise InvalidRequest(_EARLY_END)
            self._at += 1  # the end of the line belongs to the value

    def _fail(self, message: str) -> NoReturn:
        line = 1 + len(_BREAK.findall(self._text, 0, self._at + 1))
        raise InvalidRequest(f"(line {line}): {message}")
