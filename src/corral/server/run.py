"""Bind, serve, and leave nothing behind: streams get an end, engines are reaped, the port is free."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import socket
from collections.abc import Sequence
from types import FrameType

import uvicorn

from corral.config import Address, Settings
from corral.engine.process import WORKER
from corral.errors import ConfigError
from corral.server.app import create_app
from corral.server.guard import is_loopback
from corral.server.inflight import Inflight

logger = logging.getLogger(__name__)

GRACE_S = 10  # for answers that are being ended; after that their connections are cut


def run(settings: Settings, worker: Sequence[str] = WORKER) -> None:
    """Serve until SIGINT or SIGTERM, or until idle for as long as the settings say. ``worker`` is the command line of an engine.

    Raises `ConfigError` when the address cannot be listened on.
    """
    inflight = Inflight()
    with _listen(settings.host) as listener:
        app = create_app(settings, inflight, worker)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_S,
            timeout_keep_alive=75,
        )
        host, port = listener.getsockname()[:2]
        logger.info("listening on %s, models in %s", Address(host, port).url, settings.models)
        if not is_loopback(settings.host.host):
            logger.warning("everyone who can reach port %d of this machine can use this server", port)
        # uvicorn raises the signal that ended it once more when all is done; being asked to end is no failure.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        _Server(config, inflight, settings.idle_exit, settings.drain_timeout).run(sockets=[listener])
    logger.info("stopped")


class _Server(uvicorn.Server):
    """uvicorn's server, which on its way out lets answers come to their end for a while, and then say that they are ended.

    A second signal ends the while.
    """

    def __init__(self, config: uvicorn.Config, inflight: Inflight, idle_exit_s: float, drain_s: float) -> None:
        super().__init__(config)
        self._inflight = inflight
        self._idle_exit_s = idle_exit_s
        self._drain_s = drain_s
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            super().handle_exit(sig, frame)
        elif self._loop is not None:
            self._loop.call_soon_threadsafe(self._inflight.urge)  # this is not the loop's turn, though its thread

    async def on_tick(self, counter: int) -> bool:
        state = getattr(self.config.app.state, "corral", None)  # type: ignore[union-attr]
        if state is not None and state.pool.idle and self._inflight.idle_s >= self._idle_exit_s:
            logger.info("ending after %.0f s without a request", self._inflight.idle_s)
            return True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if num := self._inflight.num_requests:
            logger.info("ending; %d requests have %g s to end, a second signal ends them now", num, self._drain_s)
        await self._inflight.drain(self._drain_s)
        self._inflight.close()
        await super().shutdown(sockets)


def _listen(address: Address) -> socket.socket:
    """A socket bound to ``address``. Raises `ConfigError` that says why it cannot be."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address.host, address.port))
        listener.listen(2048)
    except OSError as exc:
        listener.close()
        if exc.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"{address.host}:{address.port} is in use already, perhaps by Ollama or another Corral; "
                "stop that one, or choose another address: corral serve --host 127.0.0.1:11435"
            ) from exc
        raise ConfigError(f"cannot listen on {address.host}:{address.port}: {exc.strerror}") from exc
    return listener
