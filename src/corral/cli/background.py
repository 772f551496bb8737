"""A server where there is none: commands that need one start it, in the background, and say so."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import click

from corral.client import Client
from corral.config import Settings, load_settings
from corral.durations import FOREVER_S
from corral.errors import CorralError, ServerUnreachable

IDLE_EXIT = "5m"
START_S = 20.0
_POLL_S = 0.05


def client_with_server(settings: Settings | None = None) -> Client:
    """A client for the server that the settings name; one is started if none answers and it would be on this machine."""
    settings = settings or load_settings()
    client = Client(settings.host)
    if client.reachable():
        return client
    host = settings.host.host
    if not (host in ("localhost", "::1") or host.startswith("127.")):
        raise ServerUnreachable(f"no server answers at {settings.host.url}; is it running there?")
    _start(settings, client)
    return client


def client_of_running_server() -> Client:
    """A client for a server that must be running already. Raises `ServerUnreachable`."""
    settings = load_settings()
    client = Client(settings.host)
    if not client.reachable():
        raise ServerUnreachable(f"no server is running at {settings.host.url}; try: corral serve")
    return client


def _start(settings: Settings, client: Client) -> None:
    """Start a server and wait until it answers. Raises `CorralError` with the end of its log when it does not."""
    log = settings.data / "logs" / "server.log"
    environment = dict(os.environ)
    if settings.idle_exit == FOREVER_S and not environment.get("CORRAL_IDLE_EXIT", "").strip():
        environment["CORRAL_IDLE_EXIT"] = IDLE_EXIT
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            log_start = output.tell()
            process = subprocess.Popen(
                # -P: what lies in the current folder is not ours, whatever its name
                [sys.executable, "-P", "-m", "corral", "serve"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env=environment,
            )
    except OSError as exc:
        raise CorralError(f"a server cannot be started: {exc}") from exc
    try:
        _wait(process, client, log, log_start)
    except BaseException:
        process.terminate()  # nobody would know of it
        raise
    if process.poll() is None:
        click.echo(
            f"started a server in the background on {client.address.url} (it ends by itself when idle)", err=True
        )


def _wait(process: subprocess.Popen[bytes], client: Client, log: Path, log_start: int) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        ended = process.poll() is not None
        if _answers(client, deadline):  # perhaps the server of another command that was faster; it serves us as well
            return
        if ended:
            raise CorralError(f"the server ended at once; the end of {log}:\n{_tail(log, log_start)}")
        time.sleep(_POLL_S)
    raise CorralError(f"the server did not answer within {START_S:g} s; the end of {log}:\n{_tail(log, log_start)}")


def _answers(client: Client, deadline: float) -> bool:
    """Whether it does; one that listens and is still opening its store is waited for."""
    try:
        return client.reachable(timeout_s=max(_POLL_S, deadline - time.monotonic()))
    except ServerUnreachable as exc:
        if isinstance(exc.__cause__, OSError):
            return False
        raise


def _tail(log: Path, start: int) -> str:
    text = log.read_bytes()[start:].decode(errors="replace")
    return "\n".join(text.strip().splitlines()[-5:])
