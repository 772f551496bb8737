"""What each API costs the server per token: 64 streams at once of an engine that gives 10,000 tokens a second to all together.

    python bench/dialects.py            about a minute and a half
    python bench/dialects.py --quick    a few seconds each
    python bench/dialects.py --json     the last line is one JSON object of all figures

The engine is a stand-in (`replay.py`). The server is bound to one core, engine and load to the others where there are any. Told
are the tokens that reached the clients per second; the processor time the server took, as a share of one core; and microseconds
per token, which a busy machine disturbs least: below 100, one core is enough.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from overhead import Side, add_model, corral

from corral.store import Store
from corral.tiny import TINY_FILE

STREAMS = 64
TOKENS_PER_S = 10_000
WORD = b'" word"'  # the text of every token, as JSON has it in every dialect


@dataclass(frozen=True)
class Dialect:
    """One API: where to ask, and with what. ``per_token`` is how often the text of a token stands in its stream."""

    name: str
    path: str
    body: dict[str, Any]
    limit: str
    per_token: int = 1

    def request(self, tokens: int) -> bytes:
        body: dict[str, Any] = {"model": "tiny", "stream": True, **self.body}
        *outer, last = self.limit.split(".")
        holder = body.setdefault(outer[0], {}) if outer else body
        holder[last] = tokens
        data = json.dumps(body).encode()
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + data


MESSAGES = [{"role": "user", "content": "Hello"}]
DIALECTS = (
    Dialect("native, generate", "/api/generate", {"prompt": "Hello", "raw": True}, "options.num_predict"),
    Dialect("native, chat", "/api/chat", {"messages": MESSAGES, "think": False}, "options.num_predict"),
    Dialect("openai, completions", "/v1/completions", {"prompt": "Hello", "raw": True}, "max_tokens"),
    Dialect("openai, chat", "/v1/chat/completions", {"messages": MESSAGES, "think": False}, "max_completion_tokens"),
    Dialect("responses", "/v1/responses", {"input": "Hello", "think": False, "store": False}, "max_output_tokens"),
    Dialect("anthropic", "/v1/messages", {"messages": MESSAGES, "thinking": {"type": "disabled"}}, "max_tokens"),
)


async def one(side: Side, dialect: Dialect, tokens: int) -> int:
    """Tokens of one stream, counted in its bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", side.port)
    writer.write(dialect.request(tokens))
    found, rest = 0, b""
    while data := await reader.read(1 << 16):
        data = rest + data
        found += data.count(WORD)
        rest = data[-len(WORD) + 1 :]  # what may be the beginning of one, and is none yet
    writer.close()
    assert found == tokens * dialect.per_token, f"{dialect.name}: {found} of {tokens} tokens; the end was {rest!r}"
    return found // dialect.per_token


async def measure(side: Side, server: psutil.Process, dialect: Dialect, seconds: float) -> dict[str, float]:
    """Figures of one turn, in which every stream has so many tokens that it lasts for ``seconds`` at the full rate."""
    tokens = int(TOKENS_PER_S * seconds / STREAMS)
    before, started = server.cpu_times(), time.perf_counter()
    told = sum(await asyncio.gather(*(one(side, dialect, tokens) for _ in range(STREAMS))))
    took, after = time.perf_counter() - started, server.cpu_times()
    busy = after.user + after.system - before.user - before.system
    return {"tokens_per_s": told / took, "core_share": busy / took, "us_per_token": busy / told * 1e6}


@asynccontextmanager
async def bound(models: Path, home: Path) -> AsyncIterator[tuple[Side, psutil.Process]]:
    """The server on a core of its own."""
    script = str(Path(__file__).with_name("replay.py"))
    async with corral(models, home, [script, "server"]) as (side, process):
        cores = sorted(psutil.Process().cpu_affinity())
        await one(side, DIALECTS[0], 1)  # the engine is loaded, on any core
        if len(cores) > 1:
            process.cpu_affinity(cores[:1])
            for engine in process.children():
                engine.cpu_affinity(cores[1:])
            psutil.Process().cpu_affinity(cores[1:])
        yield side, process


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="shorter turns, and fewer")
    parser.add_argument("--json", action="store_true", help="print the figures as the last line, as one JSON object")
    arguments = parser.parse_args()
    rounds, seconds = (1, 1.0) if arguments.quick else (5, 3.0)
    os.environ |= {"REPLAY_TOKENS_PER_S": str(TOKENS_PER_S), "CORRAL_NUM_PARALLEL": str(STREAMS)}
    found: dict[str, list[dict[str, float]]] = {dialect.name: [] for dialect in DIALECTS}
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "models")
        add_model(store, "tiny", TINY_FILE)
        async with bound(store.root, Path(folder) / "data") as (side, process):
            for number in range(rounds + 1):
                for dialect in DIALECTS:
                    result = await measure(side, process, dialect, seconds if number else 0.2)
                    if number:  # the first round warms up
                        found[dialect.name].append(result)
    figures = {
        name: {key: statistics.median(row[key] for row in rows) for key in rows[0]} for name, rows in found.items()
    }
    print(table(figures))
    if arguments.json:
        print(json.dumps({"streams": STREAMS, "asked_tokens_per_s": TOKENS_PER_S, "dialects": figures}))


def table(figures: dict[str, dict[str, float]]) -> str:
    lines = [
        f"| {STREAMS} streams | tokens per second | of one core | microseconds per token |",
        "| --- | --- | --- | --- |",
    ]
    for name, row in figures.items():
        lines.append(f"| {name} | {row['tokens_per_s']:,.0f} | {row['core_share']:.2f} | {row['us_per_token']:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    asyncio.run(main())
