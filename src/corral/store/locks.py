"""One writer at a time, across processes: what removes blobs must not run beside what is about to refer to them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from corral.store.files import translated

_threads = threading.RLock()  # file locks belong to a process, not to a thread
_held: set[Path] = set()  # by the thread that has the lock above


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold the lock of the store in ``root``; whoever else wants it waits. It is let go however the holder ends.

    Who holds it may take it again.
    """
    with _threads:
        if root in _held:
            yield
            return
        with translated(root):
            root.mkdir(parents=True, exist_ok=True)
            file = (root / ".corral.lock").open("ab")
        with file:
            with translated(root):
                take_lock(file, wait=True)
            _held.add(root)
            try:
                yield
            finally:
                _held.remove(root)


def take_lock(file: BinaryIO, *, wait: bool) -> bool:
    """Lock ``file`` until it is closed, however that happens; ``False`` if somebody else has it and we do not wait."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(1 << 40)  # locks bind readers there, so it lies where nobody reads
            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks says so in its own way
        if wait or sys.platform != "win32":
            raise
        return False
    return True
