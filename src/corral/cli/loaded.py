"""Models in memory: ``ps`` and ``stop``."""

from __future__ import annotations

from typing import Any

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
    ollama = not models or any("engine" not in model for model in models)  # whose server says less
    rows = [
        [
            model["name"],
            model["digest"][:12],
            human_bytes(model["size"]),
            processor(model["size"], model["size_vram"]),
            str(model["context_length"]),
            *([] if ollama else _load(model["engine"])),
            "Pinned" if model.get("engine", {}).get("pinned") else until(model["expires_at"]),
        ]
        for model in models
    ]
    more = [] if ollama else ["SLOTS", "QUEUE", "POOL"]
    print_table(["NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", *more, "UNTIL"], rows)
    for model in models:
        if lowered := model.get("engine", {}).get("lowered"):
            click.echo(f"{model['name']}: lowered, because memory ran out: {'; '.join(lowered)}", err=True)


def _load(engine: dict[str, Any]) -> list[str]:
    """How busy an engine is: slots in use and all, requests that wait, the part of the pool that is taken."""
    pool = engine["pool_tokens"]
    taken = f"{engine['pool_in_use'] / pool:.0%} of {pool}" if pool else "-"
    return [f"{engine['slots_in_use']}/{engine['slots']}", str(engine["queue"]), taken]


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
