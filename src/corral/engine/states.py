"""Folders in which engines keep the states of slots: gone with the engine, or when a server starts after theirs was killed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from corral.store.locks import take_lock

_PREFIX = "corral-states-"
_LOCK = "lock"  # held by the server, so that others see that it lives


@contextmanager
def states_folder() -> Iterator[Path]:
    """A new folder, which is there as long as the block."""
    with tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True) as folder:
        states = Path(folder, "states")
        with Path(folder, _LOCK).open("ab") as lock:
            with suppress(OSError):  # a file system without locks: nobody removes it then
                take_lock(lock, wait=False)
            states.mkdir(parents=True)
            yield states


def sweep_states() -> None:
    """Remove the folders of servers that were killed. Blocks on files."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            with (folder / _LOCK).open("rb+") as lock:
                abandoned = take_lock(lock, wait=False)
        except OSError:  # somebody else's, or just being made or removed
            continue
        if abandoned:
            shutil.rmtree(folder, ignore_errors=True)
