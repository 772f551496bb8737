"""What this machine has: memory, as far as a container lets us use it, and devices to compute on.

Free memory is what the kernel calls available: the page cache counts as free, because it goes when somebody needs it. Devices
are listed by a process of their own, so that this one never holds one (`corral.engine.devices`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of main memory that programs here may use in all, and that are free now."""

    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class Device:
    """A device besides the processor. ``index`` is its place in the engine's list; ``shared`` says its memory is main memory."""

    name: str
    description: str
    index: int
    total_bytes: int
    free_bytes: int
    shared: bool = False


def memory(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> Memory:
    """The machine's memory, or what the narrowest control group around us leaves of it (cgroups 1 and 2)."""
    machine = psutil.virtual_memory()
    total, free = machine.total, machine.available
    for limit, used in _limits(cgroups, membership):
        total, free = min(total, limit), min(free, max(0, limit - used))
    return Memory(total, free)


def total_memory_bytes() -> int:
    """The memory that programs here may use."""
    return memory().total_bytes


def _limits(cgroups: Path, membership: Path) -> Iterator[tuple[int, int]]:
    """What each group from ours up to the root may use, and uses, where it has a limit. The page cache is not used up."""
    for root, path, limit_file, used_file, cache in _hierarchies(cgroups, membership):
        folder = root / path
        while True:
            limit = _number(folder / limit_file)
            if limit is not None and limit < 1 << 60:  # version 1 writes a huge number for none
                yield limit, max(0, (_number(folder / used_file) or 0) - _cached(folder / "memory.stat", cache))
            if folder == root:
                break
            folder = folder.parent


def _hierarchies(cgroups: Path, membership: Path) -> Iterator[tuple[Path, str, str, str, tuple[str, ...]]]:
    """Roots that may limit memory, and our place below each. Inside a container ours is the root, whatever its path says."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        lines = []
    places = {controllers: path.strip("/") for _, controllers, path in (line.split(":", 2) for line in lines)}
    unified, legacy = cgroups, cgroups / "memory"
    two = ("inactive_file", "active_file")
    if not legacy.is_dir():
        yield unified, _existing(unified, places.get("", "")), "memory.max", "memory.current", two
        return
    one = ("total_inactive_file", "total_active_file")
    place = next((path for names, path in places.items() if "memory" in names.split(",")), "")
    yield legacy, _existing(legacy, place), "memory.limit_in_bytes", "memory.usage_in_bytes", one


def _existing(root: Path, path: str) -> str:
    return path if ".." not in path and (root / path).is_dir() else ""


def _number(file: Path) -> int | None:
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None  # "max" is none


def _cached(file: Path, names: tuple[str, ...]) -> int:
    try:
        pairs = (line.split() for line in file.read_text().splitlines())
        return sum(int(pair[1]) for pair in pairs if len(pair) == 2 and pair[0] in names and pair[1].isdigit())
    except OSError:
        return 0
