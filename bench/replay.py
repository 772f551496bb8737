"""A stand-in for the engine that costs next to nothing, to see how many chunks per second the server itself passes on.

    python bench/replay.py server    ``corral serve``, but with this engine
    python bench/replay.py worker    the engine: it answers every completion and chat with the same chunk, again and again

With ``REPLAY_TOKENS_PER_S`` it gives so many tokens a second to all streams together, one to each in a step, as an engine that
decodes them in one batch; else as many as are taken.

On a machine with two cores a real engine is the bottleneck of sixteen streams, and shows nothing of the server.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import os
import sys

from corral.config import load_settings
from corral.server import run

WORKER = (sys.executable, __file__, "worker")

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_TOKEN = {"index": 0, "content": " word", "tokens": [7], "stop": False, "id_slot": 0, "tokens_predicted": 1,
          "tokens_evaluated": 24}  # fmt: skip
_ENDS = {"content": "", "stop": True, "stop_type": "limit"}
_CHAT = {"created": 1, "id": "chatcmpl-mATrJrvgDZSpOu5bPMrw68oz76SnPblt", "model": "/models/blobs/sha256-0123456789abcdef",
         "system_fingerprint": "b1-unknown", "object": "chat.completion.chunk"}  # fmt: skip
_TIMINGS = {"cache_n": 0, "prompt_n": 24, "prompt_ms": 1.0, "predicted_n": 1, "predicted_ms": 1.0}


def _event(fields: dict[str, object]) -> bytes:
    data = b"data: " + json.dumps(fields, separators=(",", ":")).encode() + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(data), data)


def _chat(delta: dict[str, object], reason: str | None = None) -> dict[str, object]:
    return {"choices": [{"finish_reason": reason, "index": 0, "delta": delta}], **_CHAT}


# For each path: the chunk of a token, the fields of the last one, and the name of the limit.
_PATHS = {
    b"/completion": (_event(_TOKEN), {**_TOKEN, **_ENDS}, "n_predict"),
    b"/v1/chat/completions": (_event(_chat({"content": " word"})), _chat({}, "length"), "max_tokens"),
}


class _Steps:
    """The steps in which an engine gives a token to each of its streams."""

    def __init__(self, tokens_per_s: float) -> None:
        self.streams = 0
        self._tokens_per_s = tokens_per_s
        self._step = asyncio.Event()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while self._tokens_per_s:
            due = max(due + max(self.streams, 1) / self._tokens_per_s, loop.time() - 0.1)  # what was late is caught up
            await asyncio.sleep(due - loop.time())
            step, self._step = self._step, asyncio.Event()
            step.set()

    async def next(self) -> None:
        if self._tokens_per_s:
            await self._step.wait()
        else:
            await asyncio.sleep(0)


async def _answer(steps: _Steps, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        chunk, end, limit = _PATHS[head.split(b" ")[1]]
        tokens = json.loads(await reader.readexactly(length))[limit]
        writer.write(_HEAD)
        steps.streams += 1
        try:
            for _ in range(
                tokens
            ):  # one event, one write, as an engine does it; the other streams get theirs in between
                await steps.next()
                writer.write(chunk)
                await writer.drain()
        finally:
            steps.streams -= 1
        writer.write(_event({**end, "timings": _TIMINGS | {"predicted_n": tokens}}))
        writer.write(b"0\r\n\r\n")
        await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def _worker() -> None:
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, sys.stdin.buffer.readline)
    steps = _Steps(float(os.environ.get("REPLAY_TOKENS_PER_S", "0")))
    server = await asyncio.start_server(functools.partial(_answer, steps), "127.0.0.1", 0)
    ticking = asyncio.create_task(steps.run())
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await loop.run_in_executor(None, sys.stdin.buffer.read)
    ticking.cancel()


def main() -> None:
    if sys.argv[1:] == ["worker"]:
        asyncio.run(_worker())
    else:
        logging.basicConfig(level=logging.INFO, stream=sys.stderr)
        run(load_settings(os.environ), WORKER)


if __name__ == "__main__":
    main()
