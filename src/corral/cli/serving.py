"""``corral serve``."""

from __future__ import annotations

import os

import click

from corral.config import load_settings
from corral.logs import configure


@click.command("serve")
@click.option("--host", metavar="HOST[:PORT]", help="Address to listen on; default 127.0.0.1:11434, or CORRAL_HOST.")
@click.option("--idle-exit", metavar="DURATION", help="End after this long without a request and a loaded model.")
@click.option("--preload", multiple=True, metavar="MODEL", help="Load MODEL at the start; may be given several times.")
@click.option("--pin", multiple=True, metavar="MODEL", help="Load MODEL at the start and never unload it.")
def serve_command(host: str | None, idle_exit: str | None, preload: tuple[str, ...], pin: tuple[str, ...]) -> None:
    """Start the server: Ollama's API, on CORRAL_HOST (or OLLAMA_HOST).

    It logs one line a request on stderr, and ends with Ctrl-C or SIGTERM.
    """
    overrides = {
        "CORRAL_HOST": host,
        "CORRAL_IDLE_EXIT": idle_exit,
        "CORRAL_PRELOAD": ",".join(preload),
        "CORRAL_PIN": ",".join(pin),
    }
    settings = load_settings({**os.environ, **{name: value for name, value in overrides.items() if value}})
    configure(settings.log_level.upper())
    from corral.server import run

    run(settings)
