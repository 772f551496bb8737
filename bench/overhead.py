"""What Corral costs over the bare engine: the same worker asked directly and through the server, in turns, in one run.

    python bench/overhead.py            about three minutes
    python bench/overhead.py --quick    about half a minute, on a smaller model
    python bench/overhead.py --json     the last line is one JSON object of all figures

The bare engine is a worker of its own, started as the server starts one. Each figure is a median over rounds in which both
sides are measured one after the other, so that a noisy machine disturbs both alike. The load comes from one process that only
counts bytes, in the same way for both sides.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import replay
from models import MEDIUM, SMALL, make

from corral.config import load_settings
from corral.engine.base import EngineConfig
from corral.engine.process import run_engine
from corral.library import Library
from corral.names import ModelName
from corral.runtime.options import EngineWishes
from corral.runtime.plans import planned_config
from corral.store import Manifest, MediaType, Store
from corral.store.manifest import CONFIG_TYPE
from corral.tiny import TINY_FILE

PROMPT = "".join(f"[{i}]" for i in range(100))


@dataclass(frozen=True)
class Side:
    """Where to ask, and how: the bare engine's completion or Corral's raw generate, which mean the same."""

    name: str
    port: int
    key: str

    def request(self, model: str, prompt: str, tokens: int) -> bytes:
        if self.key:
            path = "/completion"
            body: dict[str, Any] = {"prompt": prompt, "n_predict": tokens, "stream": True, "temperature": 0,
                                    "cache_prompt": True}  # fmt: skip
        else:
            path = "/api/generate"
            options = {"num_predict": tokens, "temperature": 0}
            body = {"model": model, "prompt": prompt, "raw": True, "stream": True, "options": options}
        data = json.dumps(body).encode()
        authorization = f"Authorization: Bearer {self.key}\r\n" if self.key else ""
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{authorization}Content-Length: {len(data)}\r\n"
        return f"{head}Connection: close\r\n\r\n".encode() + data


@dataclass(frozen=True)
class Stream:
    """One answer: chunks with text, tokens by the engine's own count, seconds to the first chunk and to the end."""

    chunks: int
    tokens: int
    first_s: float
    total_s: float


async def stream(side: Side, model: str, prompt: str, tokens: int) -> Stream:
    started = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", side.port)
    writer.write(side.request(model, prompt, tokens))
    chunks, first = 0, 0.0
    mark = b'"content":"' if side.key else b'"response":"'
    end = b'"stop":true' if side.key else b'"done":true'
    rest = b""
    while data := await reader.read(1 << 16):
        # The last line may be cut; what was counted is not counted again.
        data = rest + data
        cut = data.rfind(b"\n") + 1
        whole, rest = data[:cut], data[cut:]
        chunks += whole.count(mark) - whole.count(end)
        if chunks and not first:
            first = time.perf_counter() - started
        if end in whole:
            counted = re.search(rb'"(?:predicted_n|eval_count)":(\d+)', whole)
            tokens = int(counted[1]) if counted else 0
    writer.close()
    return Stream(chunks, tokens, first, time.perf_counter() - started)


async def one(side: Side, model: str, prompt: str, tokens: int) -> dict[str, float]:
    """Tokens per second after the first one, and milliseconds to that, of a single stream."""
    result = await stream(side, model, prompt, tokens)
    assert result.tokens == tokens, f"{side.name} answered {result.tokens} of {tokens} tokens"
    return {"tokens_per_s": (tokens - 1) / (result.total_s - result.first_s), "first_ms": result.first_s * 1000}


async def one_token(side: Side, repeat: int) -> float:
    """Milliseconds of an answer of one token."""
    times = [(await stream(side, "tiny", "<|im_start|>user\nHello", 1)).total_s for _ in range(repeat)]
    return statistics.median(times) * 1000


async def chunks_per_s(side: Side, streams: int, tokens: int) -> float:
    """Chunks per second of so many streams at once on Tiny."""
    prompts = [
        f"<|im_start|>user\nTell me a story about {i}.<|im_end|>\n<|im_start|>assistant\nOnce" for i in range(streams)
    ]
    started = time.perf_counter()
    results = await asyncio.gather(*(stream(side, "tiny", prompt, tokens) for prompt in prompts))
    return sum(result.chunks for result in results) / (time.perf_counter() - started)


@asynccontextmanager
async def corral(
    models: Path, home: Path, command: Sequence[str] = ("-m", "corral", "serve"), **variables: str
) -> AsyncIterator[tuple[Side, psutil.Process]]:
    """A server in a process of its own, which logs to a file. ``variables`` are settings, as the environment has them."""
    home.mkdir(parents=True, exist_ok=True)
    log = home / "server.log"
    environment = {**os.environ, "CORRAL_HOST": "127.0.0.1:0", "CORRAL_MODELS": str(models), "CORRAL_DATA": str(home),
                   "CORRAL_CONFIG": str(home / "none.toml"), "CORRAL_KEEP_ALIVE": "-1", **variables}  # fmt: skip
    with log.open("wb") as stderr:
        process = subprocess.Popen([sys.executable, *command], stderr=stderr, env=environment)
    try:
        while not (found := re.search(r"listening on http://127\.0\.0\.1:(\d+)", log.read_text())):
            assert process.poll() is None, log.read_text()
            await asyncio.sleep(0.02)
        yield Side("corral", int(found[1]), ""), psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


async def compare(
    bare: Side, through: Side, rounds: int, measure: Callable[[Side], Awaitable[dict[str, float]]]
) -> dict[str, dict[str, float]]:
    """Medians of both sides and of their ratio, measured in turns; who goes first alternates."""
    found: dict[str, list[dict[str, float]]] = {bare.name: [], through.name: []}
    for number in range(rounds + 1):
        for side in (bare, through) if number % 2 else (through, bare):
            result = await measure(side)
            if number:  # the first round warms caches
                found[side.name].append(result)
    names = found[bare.name][0]
    medians = {s: {n: statistics.median(r[n] for r in rows) for n in names} for s, rows in found.items()}
    pairs = list(zip(found[through.name], found[bare.name], strict=True))
    medians["ratio"] = {n: statistics.median(t[n] / b[n] for t, b in pairs) for n in names}
    return medians


def add_model(store: Store, name: str, weights: Path) -> None:
    config = {"model_format": "gguf", "model_family": "qwen3", "architecture": "amd64", "os": "linux"}
    layer = store.add_file(weights, MediaType.MODEL)
    store.write(ModelName.parse(name), Manifest(store.add_bytes(json.dumps(config).encode(), CONFIG_TYPE), (layer,)))


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, a smaller model")
    parser.add_argument("--json", action="store_true", help="print the figures as the last line, as one JSON object")
    arguments = parser.parse_args()
    quick = arguments.quick
    with tempfile.TemporaryDirectory() as folder:
        figures = await measure(Path(folder), quick=quick)
    print(table(figures))
    if arguments.json:
        print(json.dumps(figures))


async def measure(home: Path, *, quick: bool) -> dict[str, Any]:
    shape = SMALL if quick else MEDIUM
    weights = make(shape, home / "bench.gguf")
    store = Store(home / "models")
    add_model(store, "bench", weights)
    add_model(store, "tiny", TINY_FILE)
    figures: dict[str, Any] = {"parameters": shape.parameters, "quick": quick}
    async with corral(store.root, home / "data") as (through, process):
        figures["server_memory_mb"] = process.memory_info().rss / 1e6
        for name in ("bench", "tiny"):
            started = time.perf_counter()
            await stream(through, name, "a", 1)
            figures[f"{name}_load_s"] = time.perf_counter() - started
            config = engine_config(store, name)
            async with run_engine(config, log=home / f"{name}.log") as engine:
                bare = Side("bare", engine.port, engine.key)
                if name == "bench":
                    # Short turns, many of them: what disturbs this machine lasts for seconds.
                    rounds, tokens = (5, 16) if quick else (25, 32)
                    figures["one_stream"] = await compare(
                        bare, through, rounds, lambda side, tokens=tokens: one(side, "bench", PROMPT, tokens)
                    )
                else:
                    figures |= await tiny_figures(bare, through, quick)
    figures["replay"] = await replay_figures(store, home, quick)
    return figures


async def replay_figures(store: Store, home: Path, quick: bool) -> dict[str, dict[str, float]]:
    """Chunks per second of 16 streams with an engine that costs next to nothing."""
    script = str(Path(__file__).with_name("replay.py"))
    async with (
        corral(store.root, home / "replay", [script, "server"]) as (through, _),
        run_engine(engine_config(store, "tiny"), log=home / "replay.log", argv=replay.WORKER) as engine,
    ):

        async def chunks(side: Side) -> dict[str, float]:
            return {"chunks_per_s_16": await chunks_per_s(side, 16, 200 if quick else 500)}

        return await compare(Side("bare", engine.port, engine.key), through, 3 if quick else 7, chunks)


async def tiny_figures(bare: Side, through: Side, quick: bool) -> dict[str, Any]:
    rounds, repeat, tokens = (3, 10, 100) if quick else (9, 30, 200)

    async def answer(side: Side) -> dict[str, float]:
        return {"one_token_ms": await one_token(side, repeat)}

    async def chunks(side: Side) -> dict[str, float]:
        return {f"chunks_per_s_{n}": await chunks_per_s(side, n, tokens) for n in (1, 16)}

    return {
        "one_token": await compare(bare, through, rounds, answer),
        "chunks": await compare(bare, through, rounds, chunks),
    }


def engine_config(store: Store, name: str) -> EngineConfig:
    """What the server starts its engine with, by the server's own rules, so that both sides run the same thing."""
    spec = Library(store).resolve(ModelName.parse(name))
    free = psutil.virtual_memory().available
    return planned_config(spec, load_settings({}), EngineWishes(), free)[0]


def table(figures: dict[str, Any]) -> str:
    size = f"{figures['parameters'] / 1e9:.1f} billion parameters, Q8_0"
    rows = [("", "bare engine", "Corral", "ratio")]
    for group, name, label in (
        ("one_stream", "tokens_per_s", f"tokens per second, one stream ({size})"),
        ("one_stream", "first_ms", f"first token of a prompt of 100 tokens, ms ({size})"),
        ("one_token", "one_token_ms", "answer of one token, ms (Tiny)"),
        ("chunks", "chunks_per_s_1", "chunks per second, 1 stream (Tiny)"),
        ("chunks", "chunks_per_s_16", "chunks per second, 16 streams (Tiny)"),
        ("replay", "chunks_per_s_16", "chunks per second, 16 streams (an engine that only replays)"),
    ):
        bare, through, ratio = (figures[group][side][name] for side in ("bare", "corral", "ratio"))
        digits = 0 if bare >= 1000 else 1 if bare >= 10 else 2
        rows.append((label, f"{bare:,.{digits}f}", f"{through:,.{digits}f}", f"{ratio:.2f}"))
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "| --- | --- | --- | --- |")
    lines.append(
        f"\nload of Tiny {figures['tiny_load_s']:.2f} s; server memory before any model {figures['server_memory_mb']:.0f} MB"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    asyncio.run(main())
