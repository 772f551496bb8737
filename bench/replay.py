"""A stand-in for the engine that costs next to nothing, to see how many chunks per second the server itself passes on.

    python bench/replay.py server    ``corral serve``, but with this engine
    python bench/replay.py worker    the engine: it answers every completion with the same chunk, again and again

On a machine with two cores a real engine is the bottleneck of sixteen streams, and shows nothing of the server.
"""

from __future__ import annotations

import asyncio
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
_TIMINGS = {"cache_n": 0, "prompt_n": 24, "prompt_ms": 1.0, "predicted_n": 1, "predicted_ms": 1.0}


def _event(fields: dict[str, object]) -> bytes:
    data = b"data: " + json.dumps(fields, separators=(",", ":")).encode() + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(data), data)


_CHUNK = _event(_TOKEN)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
        tokens = json.loads(await reader.readexactly(length))["n_predict"]
        writer.write(_HEAD)
        for _ in range(tokens):  # one event, one write, as an engine does it; the other streams get theirs in between
            writer.write(_CHUNK)
            await writer.drain()
            await asyncio.sleep(0)
        timings = _TIMINGS | {"predicted_n": tokens}
        writer.write(_event({**_TOKEN, "content": "", "stop": True, "stop_type": "limit", "timings": timings}))
        writer.write(b"0\r\n\r\n")
        await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def _worker() -> None:
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, sys.stdin.buffer.readline)
    server = await asyncio.start_server(_answer, "127.0.0.1", 0)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await loop.run_in_executor(None, sys.stdin.buffer.read)


def main() -> None:
    if sys.argv[1:] == ["worker"]:
        asyncio.run(_worker())
    else:
        logging.basicConfig(level=logging.INFO, stream=sys.stderr)
        run(load_settings(os.environ), WORKER)


if __name__ == "__main__":
    main()
