"""Many clients at once: tokens per second and time to first token, against the bare engine with as many slots and with one.

    python bench/concurrency.py            about half an hour
    python bench/concurrency.py --quick    two minutes, on a smaller model
    python bench/concurrency.py --json     the last line is one JSON object of all figures
    python bench/concurrency.py --clients 8,16 --format Q4_K_M

Each client asks once, all at the same moment, with a prompt of about a hundred tokens of its own. In each round the three are asked
in turns, and the figures are medians over the rounds, ratios those of one round.
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


def prompts(clients: int, number: int) -> list[str]:
    """Prompts with nothing in common, of 60 to 140 tokens; each round has its own."""
    rng = random.Random(number)
    return ["".join(f"[{rng.randrange(WRITABLE)}]" for _ in range(rng.randrange(60, 141))) for _ in range(clients)]


async def burst(side: Side, clients: int, tokens: int, number: int) -> dict[str, float]:
    started = time.perf_counter()
    results = await asyncio.gather(*(stream(side, "bench", prompt, tokens) for prompt in prompts(clients, number)))
    assert all(result.tokens == tokens for result in results), f"{side.name}: an answer was cut"
    return summary(list(results), time.perf_counter() - started)


async def measure(home: Path, clients: list[int], number_format: str, *, quick: bool) -> dict[str, Any]:
    tokens, rounds = (32, 2) if quick else (64, 5)
    figures: dict[str, Any] = {"quick": quick, "format": number_format}
    async with contestants(home, quick=quick, number_format=number_format) as sides:
        for side in sides:
            await stream(side, "bench", prompts(1, 0)[0], tokens)
        for num in clients:
            found = []
            for number in range(rounds):
                turns = sides if number % 2 else sides[::-1]
                found.append({side.name: await burst(side, num, tokens, 1000 * num + number) for side in turns})
            figures[str(num)] = medians(found)
            print(row(f"{num} clients, tokens per second", figures[str(num)], "tokens_per_s"))
            print(row(f"{num} clients, median first token, s", figures[str(num)], "first_p50_s"))
            print(row(f"{num} clients, 95 % of first tokens, s", figures[str(num)], "first_p95_s"), flush=True)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, a smaller model")
    parser.add_argument("--json", action="store_true", help="print the figures as the last line, as one JSON object")
    parser.add_argument("--clients", help="numbers of clients, comma-separated")
    parser.add_argument("--format", default="Q8_0", help="of the model's numbers: Q8_0, or a mixture such as Q4_K_M")
    arguments = parser.parse_args()
    clients = [int(n) for n in (arguments.clients or "1,2,4,8,16,32").split(",")]
    print(HEADING)
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(measure(Path(folder), clients, arguments.format, quick=arguments.quick))
    if arguments.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
