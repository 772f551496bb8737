"""A terminal with a command in it: what a person sees and types."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from types import TracebackType

_ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|\][^\x07]*\x07|[=>])")
_PATIENCE_S = 30.0
# The first terminal that the leader of a session opens is its own: so keys such as Ctrl-C become signals.
_OPEN = 'tty=$1; shift; exec "$@" <"$tty" >"$tty" 2>&1'


class Terminal:
    """``corral`` with arguments, in a terminal of 30 lines by 100 columns, or as many as said."""

    def __init__(self, environment: dict[str, str], *arguments: str, columns: int = 100) -> None:
        self._master, self._slave = pty.openpty()
        termios.tcsetwinsize(self._slave, (30, columns))
        self.process = subprocess.Popen(
            ["sh", "-c", _OPEN, "sh", os.ttyname(self._slave), sys.executable, "-m", "corral", *arguments],
            stdin=subprocess.DEVNULL,
            env={**environment, "TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1"},
            start_new_session=True,
        )
        self.raw = ""
        self._seen = 0

    @property
    def screen(self) -> str:
        """All that was written, without escape codes."""
        return _ESCAPES.sub("", self.raw)

    def until(self, text: str) -> None:
        """Wait until ``text`` is written, after what was waited for before."""
        deadline = time.monotonic() + _PATIENCE_S
        while (found := self.screen.find(text, self._seen)) < 0:
            ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"no {text!r} in {self.screen[self._seen :]!r}"
            self.raw += os.read(self._master, 65536).decode(errors="replace")
        self._seen = found + len(text)

    def prompt(self) -> None:
        """Wait until a message can be typed."""
        self.until("Send a message (/? for help)")

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def enter(self, text: str) -> None:
        self.type(text + "\r")

    def end(self) -> int:
        """The exit status, once the command has ended."""
        status = self.process.wait(_PATIENCE_S)
        while select.select([self._master], [], [], 0)[0]:
            self.raw += os.read(self._master, 65536).decode(errors="replace")
        return status

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, where: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._master)
        os.close(self._slave)
