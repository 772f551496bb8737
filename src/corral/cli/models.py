"""Models on this machine: ``list``, ``show``, ``cp``, ``rm``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from corral.cli.background import client_with_server
from corral.cli.console import print_json, print_models, print_sections
from corral.errors import CorralError, ServerError
from corral.gguf import human_count


@click.command("list")
@click.argument("prefix", default="")
@click.option("--json", "as_json", is_flag=True, help="Print the server's own answer.")
def list_command(prefix: str, as_json: bool) -> None:
    """List the models on this machine whose names begin with PREFIX, newest first."""
    models = [m for m in client_with_server().tags() if m["name"].lower().startswith(prefix.lower())]
    if as_json:
        print_json({"models": models})
        return
    print_models(models)


@click.command("show")
@click.argument("model")
@click.option("--license", is_flag=True, help="Its licence.")
@click.option("--modelfile", is_flag=True, help="The Modelfile that would make it.")
@click.option("--parameters", is_flag=True, help="Its parameters.")
@click.option("--template", is_flag=True, help="Its prompt template.")
@click.option("--system", is_flag=True, help="Its system message.")
@click.option("-v", "--verbose", is_flag=True, help="Metadata and tensors, too.")
@click.option("--json", "as_json", is_flag=True, help="Print the server's own answer.")
def show_command(model: str, verbose: bool, as_json: bool, **wanted: bool) -> None:
    """Show what a model is, or one part of it."""
    chosen = [name for name, on in wanted.items() if on]
    if len(chosen) > 1:
        every = ", ".join(f"'--{name}'" for name in sorted(wanted))
        raise click.UsageError(f"only one of {every} can be specified", click.get_current_context())
    try:
        details = client_with_server().show(model, verbose=verbose)
    except ServerError as exc:
        if exc.status != 404:
            raise
        raise CorralError(f"{exc}; try: corral list") from exc
    if as_json:
        print_json(details)
    elif chosen:
        click.echo(details.get(chosen[0], "").rstrip("\n"))
    else:
        print_sections(sections(details, verbose))


@click.command("cp")
@click.argument("source")
@click.argument("destination")
def cp_command(source: str, destination: str) -> None:
    """Give the model SOURCE the second name DESTINATION."""
    client_with_server().copy(source, destination)
    click.echo(f"copied '{source}' to '{destination}'")


@click.command("rm")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
def rm_command(models: tuple[str, ...]) -> None:
    """Remove models. Files that another model uses stay."""
    client = client_with_server()
    for model in models:
        client.delete(model)
        click.echo(f"deleted '{model}'")


def sections(details: dict[str, Any], verbose: bool) -> list[tuple[str, Sequence[Sequence[str]]]]:
    """What ``show`` prints: titles and rows of equal length."""
    info = details.get("model_info", {})
    architecture = info.get("general.architecture") or details["details"].get("family", "")
    model = [
        [label, details[key]]
        for label, key in (("Remote model", "remote_model"), ("Remote URL", "remote_host"))
        if details.get(key)
    ]
    model.append(["architecture", architecture])
    count = info.get("general.parameter_count")
    model.append(["parameters", details["details"].get("parameter_size") or (human_count(count) if count else "")])
    for label, key in (("context length", "context_length"), ("embedding length", "embedding_length")):
        if f"{architecture}.{key}" in info:
            model.append([label, str(info[f"{architecture}.{key}"])])
    model.append(["quantization", details["details"].get("quantization_level", "")])
    if details.get("requires"):
        model.append(["requires", details["requires"]])
    found: list[tuple[str, Sequence[Sequence[str]]]] = [("Model", model)]
    if details.get("capabilities"):
        found.append(("Capabilities", [[capability] for capability in details["capabilities"]]))
    if details.get("projector_info"):
        found.append(("Projector", _projector(details["projector_info"])))
    if details.get("parameters"):
        found.append(("Parameters", [_pair(line) for line in details["parameters"].splitlines()]))
    if verbose:
        found.append(("Metadata", [[key, _short(value)] for key, value in sorted(info.items())]))
        tensors = details.get("tensors", [])
        found.append(("Tensors", [[t["name"], t["type"], str(t["shape"])] for t in tensors]))
    for title in ("system", "license"):
        lines = [line.strip() for line in details.get(title, "").splitlines() if line.strip()]
        if lines:
            shown = [[line] for line in lines[:2]] + ([["..."]] if len(lines) > 2 else [])
            found.append((title.capitalize(), shown))
    return [(title, rows) for title, rows in found if rows]


def _projector(info: dict[str, Any]) -> list[list[str]]:
    """What a projector is; its two parts, if it has two, are told one after the other."""
    count = info.get("general.parameter_count")
    rows = [["architecture", str(info.get("general.architecture", ""))]]
    rows += [["parameters", human_count(count)]] if count else []
    for part in ("vision", "audio"):
        for label, key in (("embedding length", "embedding_length"), ("dimensions", "projection_dim")):
            if (value := info.get(f"clip.{part}.{key}")) is not None:
                rows.append([label, str(value)])
    return rows


def _pair(line: str) -> list[str]:
    """A parameter and its value; a value of several lines goes on with lines that may be one word."""
    name, _, value = line.partition(" ")
    return [name, value.strip()]


def _short(value: object) -> str:
    """A value on one line; of a long list the beginning and how much there is besides."""
    if not isinstance(value, list):
        return str(value).replace("\n", "\\n")[:100]
    shown = ", ".join(str(item) for item in value[:5])
    return f"[{shown}, ...+{len(value) - 5} more]" if len(value) > 5 else f"[{shown}]"
