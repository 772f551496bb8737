"""Prompts with a beginning in common, against the bare engine with as many slots and with one.

    python bench/prefix.py            about a quarter of an hour
    python bench/prefix.py --quick    a minute, on a smaller model
    python bench/prefix.py --json     the last line is one JSON object of all figures

*together*: eight clients arrive at once with 2,000 tokens in common and 40 of their own. *conversation*: one client,
whose prompt grows over 30 turns, as an agent's does. In each round the three are asked in turns; every round has its own beginning.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from contestants import HEADING, contestants, medians, row, summary
from models import WRITABLE
from overhead import Side, stream


def words(number: int, count: int) -> str:
    rng = random.Random(number)
    return "".join(f"[{rng.randrange(WRITABLE)}]" for _ in range(count))


async def together(side: Side, number: int, common: int) -> dict[str, float]:
    beginning = words(number, common)
    asked = [beginning + words(1000 * number + client, 40) for client in range(8)]
    started = time.perf_counter()
    results = await asyncio.gather(*(stream(side, "bench", prompt, 16) for prompt in asked))
    return summary(list(results), time.perf_counter() - started)


async def conversation(side: Side, number: int, turns: int) -> dict[str, float]:
    prompt = words(number, 300)
    started, results = time.perf_counter(), []
    for turn in range(turns):
        results.append(await stream(side, "bench", prompt, 8))
        prompt += words(1000 * number + turn, 40)
    return summary(results, time.perf_counter() - started)


async def measure(home: Path, *, quick: bool) -> dict[str, Any]:
    rounds, common, turns = (2, 1000, 10) if quick else (3, 2000, 30)
    figures: dict[str, Any] = {"quick": quick}
    async with contestants(home, quick=quick) as sides:
        for side in sides:
            await stream(side, "bench", "[0]", 1)
        for name, size, run in (("together", common, together), ("conversation", turns, conversation)):
            found = []
            for number in range(rounds):
                order = sides if number % 2 else sides[::-1]
                seed = 10 * number + (name == "together")
                found.append({side.name: await run(side, seed, size) for side in order})
            figures[name] = medians(found)
            print(row(f"{name}: all done after, s", figures[name], "total_s"))
            print(row(f"{name}: median first token, s", figures[name], "first_p50_s"), flush=True)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, a smaller model")
    parser.add_argument("--json", action="store_true", help="print the figures as the last line, as one JSON object")
    arguments = parser.parse_args()
    print(HEADING)
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(measure(Path(folder), quick=arguments.quick))
    if arguments.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
