"""The contestants of the benchmarks with many clients: Corral, the bare engine with as many slots, and with one slot.

All three have the same model, context and number formats. The bare ones read prompts in batches of the engine's own size, as it
does when nobody tells it otherwise; one slot is what Ollama's default gives.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from models import FORMATS, MEDIUM, SMALL, make, make_quantised
from overhead import Side, Stream, add_model, corral, engine_config

from corral.engine.process import run_engine
from corral.store import Store

# The worker, which leaves the sizes of batches alone.
OWN_BATCHES = (
    sys.executable,
    "-c",
    "from corral.engine import worker; worker._has_gpu = lambda _: True; worker.main()",
)
NAMES = ("corral", "bare", "one slot")


@asynccontextmanager
async def contestants(home: Path, *, quick: bool, number_format: str = "Q8_0") -> AsyncIterator[list[Side]]:
    """The three, each of them with the model ``bench`` in memory."""
    store, shape, path = Store(home / "models"), SMALL if quick else MEDIUM, home / "bench.gguf"
    plain = number_format in FORMATS
    add_model(
        store, "bench", make(shape, path, number_format) if plain else await make_quantised(shape, path, number_format)
    )
    config = engine_config(store, "bench")
    async with AsyncExitStack() as stack:
        through, _ = await stack.enter_async_context(corral(store.root, home / "data"))
        bare = await stack.enter_async_context(run_engine(config, log=home / "bare.log", argv=OWN_BATCHES))
        single = replace(config, slots=1, pool_tokens=0)
        one = await stack.enter_async_context(run_engine(single, log=home / "one.log", argv=OWN_BATCHES))
        yield [through, Side("bare", bare.port, bare.key), Side("one slot", one.port, one.key)]


def summary(results: list[Stream], total_s: float) -> dict[str, float]:
    """Tokens per second of all together, the time until all were done, and seconds to the first token."""
    firsts = sorted(result.first_s for result in results)
    return {
        "tokens_per_s": sum(result.tokens for result in results) / total_s,
        "total_s": total_s,
        "first_p50_s": statistics.median(firsts),
        "first_p95_s": firsts[min(len(firsts) - 1, round(0.95 * (len(firsts) - 1)))],
    }


def medians(rounds: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """The median of each figure, and of Corral's ratios to the others, over rounds in which all three were measured in turns."""
    figures = {n: {f: statistics.median(r[n][f] for r in rounds) for f in rounds[0][n]} for n in NAMES}
    for other in NAMES[1:]:
        figures[f"corral to {other}"] = {
            f: statistics.median(r["corral"][f] / r[other][f] for r in rounds) for f in rounds[0]["corral"]
        }
    return figures


def row(label: str, figures: dict[str, Any], name: str) -> str:
    """A line of a table in Markdown."""
    cells = [f"{figures[n][name]:.2f}" for n in NAMES]
    ratios = [f"{figures[f'corral to {n}'][name]:.2f}" for n in NAMES[1:]]
    return f"| {label} | {' | '.join(cells + ratios)} |"


HEADING = "| | Corral | bare engine | one slot | to bare | to one slot |\n| --- | --- | --- | --- | --- | --- |"
