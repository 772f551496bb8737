"""What quantising costs over what it must do: read a model, make floats of it, write as many bytes as the new file has.

    python bench/quantise.py            1.1 billion parameters in F16, three rounds
    python bench/quantise.py --quick    0.12 billion, one round
    python bench/quantise.py --json     the last line is one JSON object of all figures

The mark is numpy on one core, in pieces as Corral has them. Corral quantises on all cores, in a process of its own, whose peak of
memory it asks the kernel for. Both read what the first of them left in the file cache, and both flush what they wrote.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import runpy
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from models import Shape, make

from corral.gguf.quantise import WORKER, quantise

LARGE = Shape(layers=16, width=2048, heads=32, kv_heads=8, head_width=64, feed_forward=8192, vocabulary=65536)
QUICK = Shape(layers=10, width=1024, heads=16, kv_heads=4, head_width=64, feed_forward=2560, vocabulary=16384)
MIXTURES = ("Q4_K_M", "Q8_0")
PIECE = 1 << 19


def by_numpy(source: Path, target: Path, size: int) -> float:
    """Seconds to read ``source``, make floats of it, and write ``size`` bytes to ``target``."""
    began = time.perf_counter()
    written, share = 0, size / source.stat().st_size
    with source.open("rb") as read, target.open("wb") as write:
        while piece := read.read(PIECE):
            floats = np.frombuffer(piece[: len(piece) // 2 * 2], np.float16).astype(np.float32)
            due = int(read.tell() * share) - written
            written += write.write(floats.view(np.uint8)[:due])
        write.flush()
        os.fsync(write.fileno())
    return time.perf_counter() - began


async def by_corral(source: Path, target: Path, file_type: str) -> tuple[float, float]:
    """Seconds to quantise ``source`` to ``target``, and the most memory that took, in MB."""
    began = time.perf_counter()
    note = target.with_name("memory")
    async for _ in quantise([source], target, file_type, argv=(sys.executable, __file__, "--worker", str(note))):
        pass
    return time.perf_counter() - began, float(note.read_text())


def worker(note: Path) -> None:
    """Be the process that quantises, and leave a note of the memory it took."""
    runpy.run_module(WORKER[-1], run_name="__main__")
    # Not by getrusage(2), which counts what the parent had when this process was made of it.
    peak = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    note.write_text(str(int(peak[1]) / 1000 if peak else 0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller model, one round")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments.worker)
        return
    shape, rounds = (QUICK, 1) if arguments.quick else (LARGE, 3)
    figures: dict[str, dict[str, float]] = {}
    most_memory = 0.0
    with tempfile.TemporaryDirectory(prefix="corral-bench-") as temporary:
        folder = Path(temporary)
        source, target = make(shape, folder / "source.gguf", "F16"), folder / "target.gguf"
        for file_type in MIXTURES:
            taken: dict[str, list[float]] = {"corral": [], "numpy": []}
            for _ in range(rounds):
                seconds, memory = asyncio.run(by_corral(source, target, file_type))
                taken["corral"].append(seconds)
                most_memory = max(most_memory, memory)
                size = target.stat().st_size
                taken["numpy"].append(by_numpy(source, folder / "mark", size))
            figures[file_type] = {
                "corral_s": statistics.median(taken["corral"]),
                "numpy_s": statistics.median(taken["numpy"]),
                "ratio": statistics.median(a / b for a, b in zip(taken["corral"], taken["numpy"], strict=True)),
                "bytes": size,
            }
        source_bytes = source.stat().st_size
    print(
        f"| {shape.parameters / 1e9:.2f} billion parameters, F16, {source_bytes / 1e9:.2f} GB to | GB | s | numpy, s | ratio |"
    )
    print("| --- | --- | --- | --- | --- |")
    for name, of in figures.items():
        print(f"| {name} | {of['bytes'] / 1e9:.2f} | {of['corral_s']:.2f} | {of['numpy_s']:.2f} | {of['ratio']:.2f} |")
    print(f"\nThe process that quantises takes {most_memory:.0f} MB of memory at most, on {os.cpu_count()} cores")
    if arguments.json:
        print(
            json.dumps({"parameters": shape.parameters, "bytes": source_bytes, "memory_mb": most_memory, "to": figures})
        )


if __name__ == "__main__":
    main()
