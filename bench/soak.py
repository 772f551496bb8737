"""A server under mixed load for a long time: answers, hang-ups, loads, evictions, engines that die. Nothing may be left of them.

    python bench/soak.py                 twenty minutes
    python bench/soak.py --minutes 3     fewer
    python bench/soak.py --seed 7        another order of events
    python bench/soak.py --json          the last line is one JSON object of all figures

It is here and not among the tests because its result is a trend, which takes minutes to show. Every half minute the load pauses and
all models are unloaded; then the server is looked at: resident memory, threads, open files and sockets, child processes, files in
its data folder. What has grown since the first looks has leaked. Exits with 1 and says what.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from models import SMALL, make
from overhead import Side, add_model, corral

from corral.store import Store
from corral.tiny import TINY_FILE

NAMES = ("tiny", "second", "third", "larger")
CLIENTS = 6
MEMORY_MB = 12.0  # that the median may grow by: what allocators and caches of names take
WARM_LOOKS = 2
KEPT_LOGS = 20  # of engines that were killed: a server keeps so many for its owner to read


@dataclass(frozen=True)
class Look:
    """The server with nothing to do."""

    memory_mb: float
    threads: int
    files: int
    sockets: int
    children: int
    data_files: int
    logs_too_many: int
    temporary_files: int


class Load:
    """Clients that do what clients do, until told to pause or stop."""

    def __init__(self, side: Side, server: psutil.Process, seed: int) -> None:
        self._side = side
        self._server = server
        self._dice = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self._go = asyncio.Event()
        self._go.set()
        self._busy = 0
        self.problems: list[str] = []

    async def ask(self, method: str, path: str, body: object = None, most_lines: int = 1 << 30) -> tuple[int, bytes]:
        """The status and what was read of the answer; a client that reads fewer lines hangs up."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._side.port)
        try:
            data = b"" if body is None else json.dumps(body).encode()
            head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(data)}\r\n"
            writer.write(f"{head}Connection: close\r\n\r\n".encode() + data)
            status = int((await reader.readline()).split()[1])
            lines = []
            async with asyncio.timeout(120):
                while (line := await reader.readline()) and len(lines) < most_lines:
                    lines.append(line)
            return status, b"".join(lines)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def client(self) -> None:
        acts = (self._chat, self._generate, self._hang_up, self._look_around, self._unload, self._large, self._wrong)
        weights = (10, 10, 6, 4, 2, 2, 2)
        while True:
            await self._go.wait()
            act = self._dice.choices(acts, weights)[0]
            if not self._go.is_set():
                continue
            self._busy += 1
            try:
                await act()
                self.counts[act.__name__.strip("_")] += 1
            except (OSError, IndexError, TimeoutError) as exc:
                self.problems.append(f"{act.__name__.strip('_')}: {exc!r}")
            finally:
                self._busy -= 1

    async def killer(self) -> None:
        """Ends an engine now and then."""
        while True:
            await asyncio.sleep(self._dice.uniform(3, 9))
            if self._go.is_set() and (children := engines(self._server)):
                with suppress(psutil.Error):
                    self._dice.choice(children).kill()
                    self.counts["killed engines"] += 1

    async def pause(self) -> None:
        self._go.clear()
        async with asyncio.timeout(120):
            while self._busy:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            for name in NAMES:
                await self.ask("POST", "/api/generate", {"model": name, "keep_alive": 0})
            while engines(self._server):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    def resume(self) -> None:
        self._go.set()

    def _options(self) -> dict[str, object]:
        return {"num_predict": self._dice.randrange(1, 24), "temperature": self._dice.choice([0, 0.8])}

    async def _chat(self) -> None:
        body = {"model": self._dice.choice(NAMES[:3]), "options": self._options(),
                "messages": [{"role": "user", "content": f"Hello {self._dice.random()}"}]}  # fmt: skip
        self._expect(*await self.ask("POST", "/api/chat", body))

    async def _generate(self) -> None:
        body = {"model": self._dice.choice(NAMES), "prompt": "word " * self._dice.randrange(1, 60),
                "options": self._options(), "stream": self._dice.random() < 0.5}  # fmt: skip
        self._expect(*await self.ask("POST", "/api/generate", body))

    async def _hang_up(self) -> None:
        body = {"model": self._dice.choice(NAMES), "prompt": "Once", "raw": True, "options": {"num_predict": 500}}
        await self.ask("POST", "/api/generate", body, most_lines=self._dice.randrange(0, 12))

    async def _look_around(self) -> None:
        for path in ("/api/tags", "/api/ps", "/metrics", "/ready"):
            await self.ask("GET", path)

    async def _unload(self) -> None:
        await self.ask("POST", "/api/generate", {"model": self._dice.choice(NAMES), "keep_alive": 0})

    async def _large(self) -> None:
        options = {"num_ctx": self._dice.choice([512, 1024, 2048]), "num_predict": 2}
        self._expect(*await self.ask("POST", "/api/generate", {"model": "larger", "prompt": "a", "options": options}))

    async def _wrong(self) -> None:
        for body in ({"model": "nobody", "prompt": "a"}, {"model": "tiny", "prompt": "a", "options": {"num_ctx": 0}}):
            await self.ask("POST", "/api/generate", body)

    def _expect(self, status: int, body: bytes) -> None:
        """A request is answered, or told that its engine was killed, twice at worst."""
        if status != 200 and b"ended" not in body and b"engine" not in body:
            self.problems.append(f"status {status}: {body[-200:]!r}")


def engines(server: psutil.Process) -> list[psutil.Process]:
    return [child for child in server.children() if child.status() != psutil.STATUS_ZOMBIE]


def look(server: psutil.Process, data: Path, temporary: Path) -> Look:
    logs = list((data / "logs").glob("engine-*.log"))
    return Look(
        memory_mb=server.memory_info().rss / 1e6,
        threads=server.num_threads(),
        files=server.num_fds() - len(server.net_connections()),
        sockets=len(server.net_connections()),
        children=len(server.children(recursive=True)),
        data_files=sum(1 for path in data.rglob("*") if path.is_file()) - len(logs),
        logs_too_many=max(0, len(logs) - KEPT_LOGS),
        temporary_files=len(list(temporary.iterdir())),
    )


def leaks(looks: list[Look]) -> list[str]:
    """What has grown between the first and the last third of the looks."""
    third = max(1, len(looks) // 3)
    found = []
    for name in asdict(looks[0]):
        first, last = (
            statistics.median(getattr(each, name) for each in part) for part in (looks[:third], looks[-third:])
        )
        allowed = MEMORY_MB if name == "memory_mb" else 1 if name in ("threads", "files", "sockets") else 0
        if last - first > allowed:
            found.append(f"{name}: {first:.1f} at first, {last:.1f} at last")
    return found


async def soak(home: Path, minutes: float, seed: int) -> tuple[list[Look], Load, list[str]]:
    store = Store(home / "models")
    small = make(SMALL, home / "small.gguf")
    for name, weights in zip(NAMES, (TINY_FILE, TINY_FILE, TINY_FILE, small), strict=True):
        add_model(store, name, weights)
    data, temporary = home / "data", home / "temporary"
    temporary.mkdir()
    looks: list[Look] = []
    ends = time.monotonic() + minutes * 60
    variables = {"CORRAL_MAX_LOADED_MODELS": "2", "CORRAL_KEEP_ALIVE": "4s", "TMPDIR": str(temporary)}
    async with corral(store.root, data, **variables) as (side, server):
        load = Load(side, server, seed)
        tasks = [asyncio.create_task(load.client()) for _ in range(CLIENTS)]
        tasks.append(asyncio.create_task(load.killer()))
        try:
            while time.monotonic() < ends:
                await asyncio.sleep(min(30.0, minutes * 60 / 9))
                await load.pause()
                looks.append(look(server, data, temporary))
                print(f"{len(looks):3} {sum(load.counts.values()):6} acts  {looks[-1]}", flush=True)
                load.resume()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await load.pause()
        children = server.children(recursive=True)
    orphans = [str(child.pid) for child in children if child.is_running()]
    return looks[WARM_LOOKS:] or looks, load, [f"processes after the end: {', '.join(orphans)}"] if orphans else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=20.0, help="how long")
    parser.add_argument("--seed", type=int, default=1, help="another order of events")
    parser.add_argument("--json", action="store_true", help="print the figures as the last line, as one JSON object")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        looks, load, left = asyncio.run(soak(Path(folder), arguments.minutes, arguments.seed))
    found = [*leaks(looks), *left, *load.problems[:10]]
    print(", ".join(f"{count} {name}" for name, count in load.counts.most_common()))
    print("\n".join(f"leaked or failed: {line}" for line in found) or "nothing leaked")
    if arguments.json:
        print(json.dumps({"first": asdict(looks[0]), "last": asdict(looks[-1]), "acts": load.counts, "found": found}))
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
