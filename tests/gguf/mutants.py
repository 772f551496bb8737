"""Reads many broken copies of a GGUF file, in a process of its own so that its memory can be told.

    python -m tests.gguf.mutants FILE COUNT

Prints how many were refused, and how many more kilobytes of memory the process had at its peak than before the first.
"""

from __future__ import annotations

import random
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from corral.errors import GgufError, QuantizationError
from corral.gguf import model_facts, read_gguf
from corral.gguf.mixtures import mixture
from corral.gguf.plan import plan

EXTREMES = (
    0,
    1,
    7,
    255,
    1 << 16,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 40,
    1 << 62,
    (1 << 63) - 1,
    (1 << 64) - 1,
)


def flipped(data: bytearray, head: int, dice: random.Random) -> None:
    for _ in range(dice.randint(1, 8)):
        data[dice.randrange(head)] = dice.randrange(256)


def with_an_extreme(data: bytearray, head: int, dice: random.Random) -> None:
    at, width = dice.randrange(4, head - 8), dice.choice((4, 8))
    data[at : at + width] = (dice.choice(EXTREMES) & ((1 << 8 * width) - 1)).to_bytes(width, "little")


def cut(data: bytearray, head: int, dice: random.Random) -> None:
    del data[dice.randrange(head + 100) :]


def lacking_a_piece(data: bytearray, head: int, dice: random.Random) -> None:
    at = dice.randrange(head)
    del data[at : at + dice.randint(1, 64)]


def with_a_piece_twice(data: bytearray, head: int, dice: random.Random) -> None:
    at, length = dice.randrange(head), dice.randint(1, 256)
    data[at:at] = data[at : at + length]


def with_a_piece_elsewhere(data: bytearray, head: int, dice: random.Random) -> None:
    at, to, length = dice.randrange(head), dice.randrange(head), dice.randint(1, 64)
    data[to : to + length] = data[at : at + length]


CHANGES: tuple[Callable[[bytearray, int, random.Random], None], ...] = (
    flipped, with_an_extreme, with_an_extreme, cut, lacking_a_piece, with_a_piece_twice, with_a_piece_elsewhere,
)  # fmt: skip


def is_refused(path: Path) -> bool:
    try:
        model_facts(read_gguf(path, arrays=False))
        model_facts(read_gguf(path))
        plan([path], mixture("Q4_K_M"), allow_requantize=True)
    except (GgufError, QuantizationError) as exc:
        if not str(exc).isprintable():
            raise RuntimeError(f"a terminal would obey {exc!a}") from exc
        return True
    return False


def peak_kilobytes() -> int:
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) if found else 0


def main() -> None:
    source, count = Path(sys.argv[1]), int(sys.argv[2])
    data, dice, refused = source.read_bytes(), random.Random(1), 0
    head = min(tensor.offset for tensor in read_gguf(source, arrays=False).tensors)
    with tempfile.TemporaryDirectory() as folder:
        broken = Path(folder) / "broken.gguf"
        before = peak_kilobytes()
        for number in range(count):
            changed = bytearray(data)
            CHANGES[number % len(CHANGES)](changed, head, dice)
            broken.write_bytes(changed)
            refused += is_refused(broken)
    print(refused, peak_kilobytes() - before)


if __name__ == "__main__":
    main()
