"""How many sentences per second are embedded: in lists, one by one, and by the bare engine, in turns, in one run.

    python bench/embeddings.py            about two minutes
    python bench/embeddings.py --quick    about half a minute
    python bench/embeddings.py --json     the last line is one JSON object of all figures

The model is all-MiniLM-L6-v2, converted here. The bare engine is a worker of its own, started as the server starts one, and gets
the same list in one call of its own HTTP server; what it answers is read as text and not looked at, and so is Corral's answer.
Marks: lists at least as fast as 0.90 of the bare engine, and 1.5 times as fast as one call per sentence.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from overhead import Side, add_model, compare, corral, engine_config

from corral.convert import convert_model
from corral.engine.process import run_engine
from corral.store import Store

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests import minilm

NAME = "minilm"
MARKS = {"list": 0.9, "single": 1.5}
WORDS = [
    "the", "a", "cat", "dog", "man", "woman", "child", "city", "river", "house", "sits", "runs", "plays", "reads", "writes",
    "eats", "outside", "inside", "near", "under", "over", "with", "and", "but", "guitar", "book", "letter", "bread", "water",
    "old", "new", "small", "large", "red", "green", "slow", "quick", "often", "never", "today", "yesterday",
]  # fmt: skip


def sentences(number: int) -> list[str]:
    """Sentences of 5 to 25 words, each another one."""
    chosen = random.Random(7)
    return [" ".join(chosen.choices(WORDS, k=chosen.randint(5, 25))) + f" {i}." for i in range(number)]


async def ask(side: Side, body: dict[str, Any]) -> bytes:
    """The whole answer, head included."""
    path = "/v1/embeddings" if side.key else "/api/embed"
    data = json.dumps({"model": NAME, **body}).encode()
    authorization = f"Authorization: Bearer {side.key}\r\n" if side.key else ""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{authorization}Content-Length: {len(data)}\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", side.port)
    writer.write(f"{head}Connection: close\r\n\r\n".encode() + data)
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200"), answer[:500]
    return answer


async def in_a_list(side: Side, texts: list[str]) -> float:
    started = time.perf_counter()
    answer = await ask(side, {"input": texts})
    assert answer.count(b"],") >= len(texts) - 1
    return len(texts) / (time.perf_counter() - started)


async def one_by_one(side: Side, texts: list[str]) -> float:
    started = time.perf_counter()
    for text in texts:
        await ask(side, {"input": text})
    return len(texts) / (time.perf_counter() - started)


async def measure(home: Path, *, quick: bool) -> dict[str, Any]:
    folder = minilm.published()
    if folder is None:
        raise SystemExit(minilm.MISSING)
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    weights = home / "minilm.gguf"
    assert [step async for step in convert_model(files, weights, name=NAME)]
    store = Store(home / "models")
    add_model(store, NAME, weights)
    rounds, number, single = (3, 128, 32) if quick else (9, 512, 64)
    texts = sentences(number)
    async with corral(store.root, home / "data") as (through, _):
        await ask(through, {"input": "loads the model"})
        async with run_engine(engine_config(store, NAME), log=home / "engine.log") as engine:
            bare = Side("bare", engine.port, engine.key)

            async def rates(side: Side) -> dict[str, float]:
                return {
                    "list_per_s": await in_a_list(side, texts),
                    "single_per_s": await one_by_one(side, texts[:single]),
                }

            found = await compare(bare, through, rounds, rates)
    return {
        "sentences": number,
        "quick": quick,
        **found,
        "list_over_bare": found["ratio"]["list_per_s"],
        "list_over_single": found["corral"]["list_per_s"] / found["corral"]["single_per_s"],
        "marks": {"list_over_bare": MARKS["list"], "list_over_single": MARKS["single"]},
    }


def table(figures: dict[str, Any]) -> str:
    rows = [("sentences per second", "bare engine", "Corral", "ratio")]
    for name, label in (("list_per_s", f"a list of {figures['sentences']}"), ("single_per_s", "one call each")):
        bare, through, ratio = (figures[side][name] for side in ("bare", "corral", "ratio"))
        rows.append((label, f"{bare:,.0f}", f"{through:,.0f}", f"{ratio:.2f}"))
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "| --- | --- | --- | --- |")
    lines.append(
        f"\nlists: {figures['list_over_bare']:.2f} of the bare engine (mark {MARKS['list']:.2f}), "
        f"{figures['list_over_single']:.2f} times one call per sentence (mark {MARKS['single']:.2f})"
    )
    return "\n".join(lines)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, shorter lists")
    parser.add_argument("--json", action="store_true", help="print the figures as the last line, as one JSON object")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = await measure(Path(folder), quick=arguments.quick)
    print(table(figures))
    if arguments.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    asyncio.run(main())
