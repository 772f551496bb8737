"""One writer at a time, across processes: what removes blobs must not run beside what is about to refer to them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
            if sys.platform == "win32":
                import msvcrt

                msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
            else:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX)
            _held.add(root)
            try:
                yield
            finally:
                _held.remove(root)
