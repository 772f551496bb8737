"""``corral import``: models that are on this machine already."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from corral.cli.console import human_bytes, print_json, print_table
from corral.config import load_settings
from corral.errors import ConfigError, CorralError, InvalidRequest

if TYPE_CHECKING:
    from corral.library.elsewhere import Elsewhere
    from corral.store import Store


@click.command("import")
@click.argument("path", required=False, type=click.Path(path_type=Path))
@click.argument("name", default="")
@click.option("--scan", is_flag=True, help="Look where Hugging Face, Ollama, LM Studio and llama.cpp keep models.")
@click.option("--dry-run", is_flag=True, help="Show what would be taken in, and leave it.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found and what became of it as JSON.")
def import_command(path: Path | None, name: str, scan: bool, dry_run: bool, yes: bool, as_json: bool) -> int:
    """Take in the model in PATH (a GGUF file, one of its parts, or their folder) as NAME, or with --scan what other programs have.

    Files are linked where the file system allows it, so they take no room twice; else they are copied.
    """
    if (path is None) is not scan:
        raise click.UsageError("give either a PATH or --scan", click.get_current_context())
    from corral.library import elsewhere
    from corral.server.guard import is_loopback
    from corral.store import Store

    settings = load_settings()
    if not is_loopback(settings.host.reachable_host):
        raise ConfigError(
            f"models are taken in on the machine they are on, and CORRAL_HOST names {settings.host.host}; "
            "run this command there"
        )
    store = Store(settings.models)
    models: list[Elsewhere] = []
    for item in elsewhere.scan(os.environ, store.root) if path is None else [elsewhere.at(path, name)]:
        if isinstance(item, elsewhere.Elsewhere):
            models.append(item)
        else:
            click.echo(f"passed over {_plain(item.path)}: {_plain(item.why)}", err=True)
    states = {model: _state(store, model) for model in models}
    wanted = [model for model, state in states.items() if state == "new" or (path is not None and state == "here")]
    if not as_json and scan:
        _show(states)
    if dry_run or not wanted or not (yes or _agreed(wanted, store, asks=scan)):
        if as_json:
            print_json({"models": [_document(model, state) for model, state in states.items()]})
        return 0
    done = {model: _take_in(store, model) for model in wanted}
    if as_json:
        print_json({"models": [_document(model, done.get(model, state)) for model, state in states.items()]})
    return 1 if any(state.startswith("failed") for state in done.values()) else 0


def _state(store: Store, model: Elsewhere) -> str:
    from corral.library import elsewhere

    try:
        return "here" if elsewhere.check_here(store, model) else "new"
    except CorralError as exc:
        return f"failed: {exc}"


def _show(states: dict[Elsewhere, str]) -> None:
    if not states:
        click.echo("no model of another program was found")
        return
    rows = [[m.name.short, human_bytes(m.size), _plain(m.where), _plain(state)] for m, state in states.items()]
    print_table(["NAME", "SIZE", "WHERE", "STATE"], rows)


def _agreed(models: Sequence[Elsewhere], store: Store, *, asks: bool) -> bool:
    """Whether to go on: on a terminal the user is asked. Raises `InvalidRequest` when there is no room for copies."""
    from corral.library.importing import needs_copies

    copies, free = needs_copies(models, store), store.free_bytes()
    if copies > free:
        raise InvalidRequest(
            f"{human_bytes(copies)} have to be copied from another device to {store.root}, and {human_bytes(free)} are free there"
        )
    if not asks or sys.stdin is None or not sys.stdin.isatty():
        return True
    how = f", copying {human_bytes(copies)}" if copies else ""
    return click.confirm(f"Take in {len(models)} models{how}?", default=True, err=True)


def _take_in(store: Store, model: Elsewhere) -> str:
    """What became of it: how its files were placed, or why it failed."""
    from corral.library.importing import take_in

    try:
        with _progress(model) as bar:
            taken = take_in(store, model, bar.update if bar is not None else lambda count: None)
    except CorralError as exc:
        click.echo(f"Error: {model.name.short}: {_plain(str(exc))}", err=True)
        return f"failed: {exc}"
    how = ", ".join(f"{count} {kind}" if count > 1 else kind for kind, count in Counter(taken.placed).items())
    click.echo(f"took in {model.name.short} ({how})", err=True)
    return how


def _progress(model: Elsewhere) -> AbstractContextManager[Any]:
    if not sys.stderr.isatty():
        return nullcontext()
    return click.progressbar(length=model.size, label=f"hashing {model.name.short}", file=sys.stderr)


def _document(model: Elsewhere, state: str) -> dict[str, object]:
    return {"name": model.name.short, "size": model.size, "where": model.where, "state": state}


def _plain(text: object) -> str:
    """``text`` without what could write over a terminal: names of files are anybody's."""
    return "".join(c if c.isprintable() else "?" for c in str(text))
