"""What the names of GGUF files say: quantisation, part of a model, projector. Pure.

There is no standard; these are the habits of those who publish models.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import PurePath
from typing import TypeVar

_PART = re.compile(r"-(\d{5})-of-(\d{5})$")
_LABEL = re.compile(
    r"(?:^|[-._])((?:UD-)?(?:I?Q\d(?:_[A-Z0-9]+)*|TQ\d_0|MXFP4(?:_MOE)?|NVFP4|BF16|FP?16|FP?32))$", re.IGNORECASE
)

Item = TypeVar("Item")


def quantisation_in(path: PurePath) -> str:
    """The quantisation in the name of a file, else in that of its folder; empty if there is none.

    >>> quantisation_in(PurePath("qwen3-8b-q4_k_m.gguf")), quantisation_in(PurePath("Q8_0/model-00001-of-00002.gguf"))
    ('Q4_K_M', 'Q8_0')
    """
    for text in (_PART.sub("", path.stem), path.parent.name):
        if found := _LABEL.search(text):
            return found[1].upper()
    return ""


def base_name(path: PurePath) -> str:
    """The name of a file without its part and its quantisation.

    >>> base_name(PurePath("Qwen3-8B-Q4_K_M-00001-of-00002.gguf"))
    'Qwen3-8B'
    """
    stem = _PART.sub("", path.stem)
    return _LABEL.sub("", stem) or stem


def is_projector(path: PurePath) -> bool:
    """Whether a file turns images or sounds into tokens for a model beside it."""
    return "mmproj" in path.name.lower()


def models_among(items: Iterable[Item], path_of: Callable[[Item], PurePath]) -> list[tuple[Item, ...]]:
    """The models among files: each one file, or all parts in order. What lacks a part is none, nor are projectors and the like."""
    groups: dict[PurePath, list[Item]] = {}
    for item in items:
        path = path_of(item)
        if not is_projector(path) and "imatrix" not in path.name.lower():
            groups.setdefault(path.with_name(_PART.sub("", path.stem)), []).append(item)
    found = []
    for parts in groups.values():
        numbered = [_PART.search(path_of(item).stem) for item in parts]
        if (len(parts) == 1 and numbered[0] is None) or _is_complete(numbered):
            found.append(tuple(sorted(parts, key=path_of)))
    return found


def projector_among(items: Iterable[Item], path_of: Callable[[Item], PurePath]) -> Item | None:
    """The projector among files; the one with sixteen bits where there are several."""
    found = [item for item in items if is_projector(path_of(item))]
    return min(found, key=lambda item: (quantisation_in(path_of(item)) != "F16", path_of(item)), default=None)


def _is_complete(numbered: list[re.Match[str] | None]) -> bool:
    parts = {(int(part[1]), int(part[2])) for part in numbered if part is not None}
    counts = {count for _, count in parts}
    return len(numbered) == len(parts) and len(counts) == 1 and {n for n, _ in parts} == set(range(1, counts.pop() + 1))
