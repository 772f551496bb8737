"""What becomes of the engine's slot when a client hangs up, by the engine's own listing."""

from __future__ import annotations

import json
import socket
import struct
from pathlib import Path

import anyio
import pytest
import uvicorn
from anyio.lowlevel import checkpoint

from corral.config import load_settings
from corral.names import ModelName
from corral.runtime.options import EngineWishes
from corral.server.app import create_app
from corral.server.inflight import Inflight
from corral.server.state import State

pytestmark = pytest.mark.anyio

BODIES = {
    "/api/generate": {"model": "endless", "prompt": "a", "raw": True, "options": {"temperature": 0}},
    "/v1/messages": {
        "model": "endless",
        "max_tokens": 10_000,
        "temperature": 0,
        "messages": [{"role": "user", "content": "a"}],
    },
}


@pytest.mark.parametrize("ending", ["closed", "reset"])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", BODIES)
async def test_a_client_that_hangs_up_frees_its_slot(
    endless: Path, tmp_path: Path, path: str, ending: str, stream: bool
) -> None:
    settings = load_settings({"CORRAL_MODELS": str(endless), "CORRAL_DATA": str(tmp_path), "CORRAL_CONFIG": "none"})
    app = create_app(settings, Inflight())
    server = uvicorn.Server(uvicorn.Config(app, log_config=None))
    data = json.dumps({**BODIES[path], "stream": stream}).encode()
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, [listener])
        while not server.started:
            await checkpoint()
        state: State = app.state.corral
        spec = state.library.resolve(ModelName.parse("endless"))
        async with (
            await anyio.connect_tcp("127.0.0.1", port) as client,
            state.pool.lease(spec, EngineWishes(), None) as lease,
        ):
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
            await client.send(head.encode() + data)
            while not any(await lease.engine.slots()):
                await checkpoint()
            if ending == "reset":
                raw = client.extra(anyio.abc.SocketAttribute.raw_socket)
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await client.aclose()
            with anyio.fail_after(5):  # the answer would take half a minute
                while any(await lease.engine.slots()):
                    await checkpoint()
        server.should_exit = True
