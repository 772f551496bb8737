"""What it takes to change models: two that may not be in memory together, asked in turns, against the engine's own start.

    python bench/swap.py            about two minutes
    python bench/swap.py --quick    about half a minute, with smaller models
    python bench/swap.py --json     the last line is one JSON object of all figures

A swap is a request of one token to the model that is not loaded: the other is unloaded, its process reaped, this one loaded, and
the token generated. The bare figure is a worker started as the server starts one, and asked for the same token.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

from models import MEDIUM, SMALL, make
from overhead import Side, add_model, corral, engine_config, stream

from corral.engine.process import run_engine
from corral.store import Store

PROMPT = "[1]"


async def measure(home: Path, *, quick: bool) -> dict[str, object]:
    shape = SMALL if quick else MEDIUM
    store = Store(home / "models")
    weights = make(shape, home / "bench.gguf")
    for name in ("one", "two"):
        add_model(store, name, weights)
    rounds = 6 if quick else 12
    swaps, bare, again = [], [], []
    async with corral(store.root, home / "data", CORRAL_MAX_LOADED_MODELS="1") as (side, _):
        for number in range(2 * rounds):
            name = ("one", "two")[number % 2]
            started = time.perf_counter()
            await stream(side, name, PROMPT, 1)
            swapped = time.perf_counter() - started
            started = time.perf_counter()
            await stream(side, name, PROMPT, 1)
            answered = time.perf_counter() - started
            if number > 1:  # the first of each name warms caches
                swaps.append(swapped)
                again.append(answered)
    config = engine_config(store, "one")
    for number in range(rounds):
        started = time.perf_counter()
        async with run_engine(config, log=home / "bare.log") as engine:
            await stream(Side("bare", engine.port, engine.key), "", PROMPT, 1)
            if number:
                bare.append(time.perf_counter() - started)
    swap_s, bare_s = statistics.median(swaps), statistics.median(bare)
    return {
        "parameters": shape.parameters,
        "quick": quick,
        "context": config.context,
        "pool_tokens": config.pool_tokens,
        "swap_s": swap_s,
        "swap_worst_s": max(swaps),
        "bare_load_s": bare_s,
        "ratio": swap_s / bare_s,
        "loaded_s": statistics.median(again),
    }


def table(figures: dict[str, object]) -> str:
    size = f"{float(str(figures['parameters'])) / 1e9:.2f} billion parameters, Q8_0"
    rows = [
        f"| changing models and one token ({size}) | median, s | worst, s |",
        "| --- | --- | --- |",
        f"| a swap through Corral | {figures['swap_s']:.2f} | {figures['swap_worst_s']:.2f} |",
        f"| the engine's own start, the same token | {figures['bare_load_s']:.2f} | |",
        f"| ratio | {figures['ratio']:.2f} | |",
        f"| the token alone, model in memory | {figures['loaded_s']:.3f} | |",
    ]
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, smaller models")
    parser.add_argument("--json", action="store_true", help="print the figures as the last line, as one JSON object")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(measure(Path(folder), quick=arguments.quick))
    print(table(figures))
    if arguments.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
