"""Streams of OpenAI's API that do not reach their end: the client goes away, or the engine dies."""

from __future__ import annotations

import socket
from pathlib import Path

import anyio
import openai
import psutil
import pytest
import uvicorn
from anyio.lowlevel import checkpoint

from corral.config import load_settings
from corral.names import ModelName
from corral.runtime.options import EngineWishes
from corral.server.app import create_app
from corral.server.inflight import Inflight
from corral.server.state import State
from tests.conftest import StartServer

RAW = {"raw": True}


@pytest.mark.anyio
@pytest.mark.parametrize("n", [1, 3])
async def test_a_client_that_stops_in_mid_stream_frees_every_slot(endless: Path, tmp_path: Path, n: int) -> None:
    settings = load_settings({"CORRAL_MODELS": str(endless), "CORRAL_DATA": str(tmp_path), "CORRAL_CONFIG": "none"})
    app = create_app(settings, Inflight())
    server = uvicorn.Server(uvicorn.Config(app, log_config=None))
    listener = socket.create_server(("127.0.0.1", 0))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, [listener])
        while not server.started:
            await checkpoint()
        state: State = app.state.corral
        spec = state.library.resolve(ModelName.parse("endless"))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        async with (
            openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client,
            state.pool.lease(spec, EngineWishes(), None) as lease,
        ):
            stream = await client.completions.create(
                model="endless", prompt="a", n=n, temperature=0, stream=True, extra_body=RAW
            )
            seen: set[int] = set()
            async for chunk in stream:
                seen |= {choice.index for choice in chunk.choices}
                if len(seen) == n:
                    break
            assert sum(await lease.engine.slots()) == n
            await stream.close()
            with anyio.fail_after(5):  # the answers would take half a minute
                while any(await lease.engine.slots()):
                    await checkpoint()
        server.should_exit = True


@pytest.mark.parametrize("n", [1, 2])
def test_an_engine_that_dies_in_mid_stream_is_the_clients_exception(endless: Path, serve: StartServer, n: int) -> None:
    server = serve(endless)
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        stream = client.completions.create(model="endless", prompt="a", n=n, temperature=0, stream=True, extra_body=RAW)
        chunks = iter(stream)
        assert next(chunks).choices[0].text
        (engine,) = [
            child
            for child in psutil.Process(server.process.pid).children()
            if "corral.engine.worker" in child.cmdline()
        ]
        engine.kill()
        with pytest.raises(openai.APIError, match="the engine ended unexpectedly"):
            list(chunks)
