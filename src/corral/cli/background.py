"""A server where there is none: commands that need one start it, in the background, and say so."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import click

from corral.client import Client
from corral.config import Settings, load_settings
from corral.errors import CorralError, ServerUnreachable

IDLE_EXIT = "5m"
START_S = 30.0
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def client_with_server(settings: Settings | None = None) -> Client:
    """A client for the server that the settings name; one is started if none answers and it would be on this machine."""
    settings = settings or load_settings()
    client = Client(settings.host)
    if client.reachable():
        return client
    if settings.host.host not in _LOOPBACK:
        raise ServerUnreachable(f"no server answers at {settings.host.url}; is it running there?")
    _start(settings, client)
    return client


def client_of_running_server() -> Client:
    """A client for a server that must be running already. Raises `ServerUnreachable`."""
    settings = load_settings()
    client = Client(settings.host)
    if not client.reachable():
        raise ServerUnreachable(f"no server answers at {settings.host.url}; try: corral serve")
    return client


def _start(settings: Settings, client: Client) -> None:
    log = settings.data / "logs" / "server.log"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "corral", "serve"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={"CORRAL_IDLE_EXIT": IDLE_EXIT, **os.environ},
            )
    except OSError as exc:
        raise CorralError(f"a server cannot be started: {exc}") from exc
    click.echo(f"started a server in the background on {client.address.url}; it ends by itself when idle", err=True)
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if client.reachable():
            return
        if process.poll() is not None:
            if client.reachable():  # another command was faster, and its server serves us as well
                return
            raise CorralError(f"the server ended at once; the end of {log}:\n{_tail(log.read_text(errors='replace'))}")
        time.sleep(0.02)
    raise CorralError(f"the server did not answer within {START_S:g} s; see {log}")


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-5:])
