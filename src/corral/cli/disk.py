"""The room that models take: ``prune`` and ``verify``."""

from __future__ import annotations

import click

from corral.cli.background import client_with_server
from corral.cli.console import human_bytes, print_json, print_table
from corral.cli.transfers import show_steps
from corral.durations import parse_age
from corral.errors import InvalidRequest


def _age(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None:
        try:
            parse_age(value)
        except InvalidRequest as exc:
            raise click.BadParameter(f"{exc}; try: 30d, 12h") from exc
    return value


@click.command("prune")
@click.option(
    "--older-than",
    callback=_age,
    metavar="AGE",
    help="Leave what is younger, e.g. 7d or 12h. [default: 1h, for half-done downloads 30d]",
)
@click.option("--dry-run", is_flag=True, help="Show what would go, and leave it.")
@click.option("--json", "as_json", is_flag=True, help="Print the server's own answer.")
def prune_command(older_than: str | None, dry_run: bool, as_json: bool) -> None:
    """Remove files that no model uses, and half-done downloads."""
    answer = client_with_server().prune(older_than, dry_run=dry_run)
    if as_json:
        print_json(answer)
        return
    if answer["files"]:
        rows = [[file["name"][:25], file["kind"], human_bytes(file["size"])] for file in answer["files"]]
        print_table(["FILE", "KIND", "SIZE"], rows)
    would = "would free" if dry_run else "freed"
    click.echo(f"{would} {human_bytes(answer['size'])} in {len(answer['files'])} files")
    if answer["blobs_unknown"]:
        click.echo("(a manifest cannot be read, so no blob was touched; to see which: corral verify)", err=True)


@click.command("verify")
@click.argument("models", nargs=-1, metavar="[MODEL...]")
@click.option("--repair", is_flag=True, help="Fetch what is damaged again.")
@click.option("--insecure", is_flag=True, help="Talk to the registry over plain HTTP.")
def verify_command(models: tuple[str, ...], repair: bool, insecure: bool) -> None:
    """Look whether the files of MODELs, or of all models, hold what they should."""
    show_steps(client_with_server().verify(models, repair=repair, insecure=insecure))
