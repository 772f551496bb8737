"""What an engine is asked at once, on a server that answers nobody until it is told."""

from __future__ import annotations

import asyncio
from contextlib import closing
from dataclasses import dataclass
from typing import cast

import pytest

from corral.engine.base import EngineConfig
from corral.engine.llama import LlamaEngine
from corral.engine.process import EngineProcess
from corral.tiny import TINY_FILE

pytestmark = pytest.mark.anyio


@dataclass
class Process:
    """As much of a process as an engine asks of it."""

    port: int
    key: str = ""


async def test_many_small_questions_do_not_come_to_an_engine_all_at_once() -> None:
    """It lets connections break when far more come than it has threads, and would be taken for dead."""
    asked = most = 0
    answer = asyncio.Event()
    served: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked, most
        served.append(cast("asyncio.Task[None]", asyncio.current_task()))
        with closing(writer):
            if not await reader.readline():
                return  # opened for the next request, which did not come
            asked += 1
            most = max(most, asked)
            await answer.wait()
            asked -= 1
            writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 14\r\nConnection: close\r\n\r\n{"tokens":[1]}')
            await writer.drain()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        process = cast(EngineProcess, Process(server.sockets[0].getsockname()[1]))
        with closing(LlamaEngine(EngineConfig(TINY_FILE), process)) as engine:
            questions = [asyncio.create_task(engine.tokenise("a")) for _ in range(64)]
            while asked < 8:  # noqa: ASYNC110
                await asyncio.sleep(0)
            for _ in range(200):
                await asyncio.sleep(0)
            answer.set()
            assert await asyncio.gather(*questions) == [[1]] * 64
        await asyncio.gather(*served)
    assert most == 8
