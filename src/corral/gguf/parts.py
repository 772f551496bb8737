"""Models in several files. The first has the metadata, each has some of the tensors, and says which of how many it is.

Source: the keys ``split.no`` and ``split.count`` as llama.cpp's ``gguf-split`` writes them; numbers begin with 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from corral.errors import GgufError
from corral.gguf.reader import GgufFile, read_gguf


def parts_in_order(paths: Sequence[Path]) -> tuple[Path, ...]:
    """The files of the model that the last of ``paths`` belongs to: that alone, or all parts of it in order.

    Raises `GgufError` for a file that is none, for parts that are missing or there twice.
    """
    last = _part(paths[-1])
    if last is None:
        return (paths[-1],)
    found: dict[int, Path] = {}
    for path in paths:
        part = _part(path)
        if part is None or part[1] != last[1]:
            continue
        if part[0] in found:
            raise GgufError(f"part {part[0] + 1} of {last[1]} is there twice")
        found[part[0]] = path
    missing = [number + 1 for number in range(last[1]) if number not in found]
    if missing:
        listed = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
        raise GgufError(f"{len(found)} of {last[1]} parts are there; missing: {listed}")
    return tuple(found[number] for number in range(last[1]))


def read_parts(paths: Sequence[Path], *, arrays: bool) -> GgufFile:
    """The model in ``paths``, which are one file or all parts in order, as one. Raises `GgufError`."""
    first, *others = (read_gguf(path, arrays=arrays and path == paths[0]) for path in paths)
    return replace(first, tensors=tuple(tensor for file in (first, *others) for tensor in file.tensors))


def _part(path: Path) -> tuple[int, int] | None:
    """Which of how many; ``None`` for a model in one file."""
    metadata = read_gguf(path, arrays=False).metadata
    number, count = metadata.get("split.no"), metadata.get("split.count")
    if not isinstance(number, int) or not isinstance(count, int) or count < 2:
        return None
    if not 0 <= number < count:
        raise GgufError(f"a file says that it is part {number + 1} of {count}")
    return number, count
