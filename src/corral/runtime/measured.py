"""What engines really took, remembered across restarts, so that a second load is planned exactly.

One small file; who cannot read it has measured nothing, and who cannot write it only forgets.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from corral.engine.account import MemoryAccount
from corral.runtime.placement import CPU, OVERHEAD_BYTES
from corral.store.files import write_atomically

logger = logging.getLogger(__name__)

MOST_PLANS = 512
VERSION = 1  # of what is measured and how
_MOST_BYTES = 1 << 20


class Measurements:
    """Memory by model and plan: the digest of a manifest, `Plan.key`, and bytes by device."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._plans = _read(file)
        self._keeping = threading.Lock()  # engines that load side by side are measured in threads

    def of(self, digest: str) -> dict[str, Mapping[str, int]]:
        """What is known of a model, by plan."""
        return {key.partition(" ")[2]: need for key, need in self._plans.items() if key.startswith(digest + " ")}

    def keep(self, digest: str, plan: str, need: Mapping[str, int]) -> None:
        """Remember what a plan took, from any thread. Blocks on the file; the oldest are forgotten."""
        key = f"{digest} {plan}"
        with self._keeping:
            if self._plans.get(key) == need:
                return
            plans = {other: known for other, known in self._plans.items() if other != key}
            plans[key] = dict(need)
            while len(plans) > MOST_PLANS:
                del plans[next(iter(plans))]
            self._plans = plans  # not changed in place: another thread may be reading it
            try:
                write_atomically(self._file, orjson.dumps({"version": VERSION, "plans": plans}))
            except OSError as exc:
                logger.warning("what engines take cannot be remembered in %s: %s", self._file, exc.strerror)


def measured_need(account: MemoryAccount, private_bytes: int) -> dict[str, int]:
    """Bytes by device of an engine that has loaded. ``private_bytes`` is its resident memory without mapped files.

    Pages that no request has touched yet are not resident, so the buffers that it reserved count where they are more.
    """
    reserved = account.buffers.get(CPU, 0) - account.mapped_bytes + OVERHEAD_BYTES // 2
    on_devices = {name: size + OVERHEAD_BYTES for name, size in account.buffers.items() if name != CPU}
    return {CPU: account.mapped_bytes + max(private_bytes, reserved), **on_devices}


def _read(file: Path) -> dict[str, dict[str, int]]:
    try:
        if file.stat().st_size > _MOST_BYTES:
            return {}
        document: Any = orjson.loads(file.read_bytes())
        if document["version"] != VERSION:
            return {}
        return {
            str(key): {str(name): int(size) for name, size in need.items()} for key, need in document["plans"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
