"""Models that come and go: ``pull``, ``push``, and what their progress looks like. stdout stays empty."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

from corral.cli.background import client_with_server
from corral.cli.console import human_bytes
from corral.client import Document
from corral.errors import CorralError, ServerError

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

_LARGE_BYTES = 1_000_000  # what is smaller comes in one moment
_BESIDE_BAR = 66  # columns: name, percent, sizes, rate, time
_BAR = 40
_NARROW = _BESIDE_BAR + 8
_PERCENT = 10  # between two lines about one layer, where there is no terminal


@click.command("pull")
@click.argument("model")
@click.option("--insecure", is_flag=True, help="Talk to the registry over plain HTTP.")
def pull_command(model: str, insecure: bool) -> None:
    """Get MODEL from its registry: NAME[:TAG] from Ollama's, hf.co/USER/REPO[:QUANT], or HOST/NAMESPACE/NAME[:TAG].

    What came is kept when a pull is interrupted; the same command goes on from there.
    """
    follow(client_with_server().pull(model, insecure=insecure), _again("pull", insecure), model)


@click.command("push")
@click.argument("model")
@click.option("--insecure", is_flag=True, help="Talk to the registry over plain HTTP.")
def push_command(model: str, insecure: bool) -> None:
    """Bring MODEL to the registry that its name says; to give it such a name: corral cp.

    What is there is not sent again; an interrupted push goes on where it was.
    """
    follow(client_with_server().push(model, insecure=insecure), _again("push", insecure), model)


def _again(command: str, insecure: bool) -> str:
    return f"{command} --insecure" if insecure else command


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
    """A bar for each large blob that is not there yet; what is said after them stands below them."""
    from rich.console import Console
    from rich.progress import Progress, TaskID

    console = Console(stderr=True)
    bars: dict[str, TaskID] = {}
    with Progress(*_columns(console.width), console=console) as progress:
        for step in steps:
            digest, total, completed = step.get("digest"), step.get("total", 0), step.get("completed", 0)
            if not digest:
                progress.stop()
                console.print(step["status"], highlight=False, markup=False, overflow="ellipsis", no_wrap=True)
            elif digest in bars:
                progress.update(bars[digest], completed=completed)
            elif total >= _LARGE_BYTES and completed < total:
                progress.start()
                bars[digest] = progress.add_task(step["status"], total=total, completed=completed)


def _columns(width: int) -> Sequence[ProgressColumn]:
    """What fits into a line of the terminal; a line that is too long would be broken, and could not be drawn over."""
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    name = TextColumn("{task.description}", markup=False)
    percent = TextColumn("{task.percentage:>3.0f}%")
    if width < _NARROW:
        return name, percent, TimeRemainingColumn()
    bar = BarColumn(min(_BAR, width - _BESIDE_BAR))
    return name, bar, percent, DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()


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
