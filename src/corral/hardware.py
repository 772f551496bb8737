"""What this machine has."""

from __future__ import annotations

from pathlib import Path

import psutil

_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def total_memory_bytes() -> int:
    """The memory that programs here may use: the machine's, or less where a container is given less (cgroups 1 and 2)."""
    return min([psutil.virtual_memory().total, *filter(None, map(_limit, _LIMITS))])


def _limit(file: Path) -> int | None:
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None  # "max" is none
