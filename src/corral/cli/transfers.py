"""Models that come and go: ``pull``, ``push``, and what their progress looks like. stdout stays empty."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import click

from corral.cli.background import client_with_server
from corral.cli.console import human_bytes
from corral.client import Document
from corral.errors import CorralError, ServerError

_PERCENT = 10  # between two lines about one layer, where there is no terminal


@click.command("pull")
@click.argument("model")
@click.option("--insecure", is_flag=True, help="Talk to the registry over plain HTTP.")
def pull_command(model: str, insecure: bool) -> None:
    """Get MODEL from its registry: NAME[:TAG] from Ollama's, hf.co/USER/REPO[:QUANT], or HOST/NAMESPACE/NAME[:TAG].

    What came is kept when a pull is interrupted; the same command goes on from there.
    """
    follow(client_with_server().pull(model, insecure=insecure), "pull", model)


@click.command("push")
@click.argument("model")
@click.option("--insecure", is_flag=True, help="Talk to the registry over plain HTTP.")
def push_command(model: str, insecure: bool) -> None:
    """Bring MODEL to the registry that its name says; to give it such a name: corral cp.

    What is there is not sent again; an interrupted push goes on where it was.
    """
    follow(client_with_server().push(model, insecure=insecure), "push", model)


def follow(steps: Iterable[Document], command: str, model: str) -> None:
    """Show the steps of a transfer: a bar a layer on a terminal, else plain lines. Raises what went wrong."""
    try:
        show_steps(steps)
    except KeyboardInterrupt:
        click.echo(f"Stopped. What came over is kept; to go on: corral {command} {model}", err=True)
        raise
    except ServerError as exc:
        if "file does not exist" in str(exc):
            raise CorralError(
                f'the registry has no model "{model}" ({exc}); try: corral list, or look for its name'
            ) from exc
        raise


def show_steps(steps: Iterable[Document]) -> None:
    """A bar for each file on a terminal, else plain lines; on stderr."""
    (_bars if sys.stderr.isatty() else _lines)(steps)


def _bars(steps: Iterable[Document]) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
    from rich.progress import TransferSpeedColumn as Speed

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), Speed(), TimeRemainingColumn())
    bars: dict[str, TaskID] = {}
    with Progress(*columns, console=Console(stderr=True)) as progress:
        for step in steps:
            digest = step.get("digest")
            if not digest:
                progress.console.print(step["status"], highlight=False, markup=False)
                continue
            if digest not in bars:
                bars[digest] = progress.add_task(step["status"], total=step.get("total", 0))
            progress.update(bars[digest], completed=step.get("completed", 0))


def _lines(steps: Iterable[Document]) -> None:
    shown: dict[str, int] = {}
    for step in steps:
        digest, total = step.get("digest"), step.get("total", 0)
        if not digest:
            click.echo(step["status"], err=True)
            continue
        percent = 100 * step.get("completed", 0) // total if total else 100
        if percent // _PERCENT > shown.get(digest, -1):
            shown[digest] = percent // _PERCENT
            click.echo(f"{step['status']}: {percent} % of {human_bytes(total)}", err=True)
