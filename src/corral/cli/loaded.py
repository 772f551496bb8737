"""Models in memory: ``ps`` and ``stop``."""

from __future__ import annotations

import click

from corral.cli.background import client_of_running_server
from corral.cli.console import human_bytes, print_json, print_table, processor, until
from corral.errors import CorralError, ServerError


@click.command("ps")
@click.argument("prefix", default="")
@click.option("--json", "as_json", is_flag=True, help="Print the server's own answer.")
def ps_command(prefix: str, as_json: bool) -> None:
    """List the models in memory whose names begin with PREFIX."""
    models = [m for m in client_of_running_server().ps() if m["name"].lower().startswith(prefix.lower())]
    if as_json:
        print_json({"models": models})
        return
    rows = [
        [
            model["name"],
            model["digest"][:12],
            human_bytes(model["size"]),
            processor(model["size"], model["size_vram"]),
            str(model["context_length"]),
            until(model["expires_at"]),
        ]
        for model in models
    ]
    print_table(["NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"], rows)


@click.command("stop")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
def stop_command(models: tuple[str, ...]) -> None:
    """Unload models; one that answers somebody goes when it has finished."""
    client = client_of_running_server()
    for model in models:
        try:
            client.unload(model)
        except ServerError as exc:
            if exc.status == 404:
                raise CorralError(f'couldn\'t find model "{model}" to stop') from exc
            raise
