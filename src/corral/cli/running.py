"""``corral run``: one answer, a chat, or the vector of a text."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import click

from corral.cli.answering import notices, print_answer, timings
from corral.cli.attachments import Prompt, attached
from corral.cli.background import client_with_server
from corral.cli.session import Session
from corral.client import Client, Document
from corral.config import load_settings
from corral.durations import parse_duration
from corral.errors import InvalidRequest, ServerError

_LEVELS = ("high", "medium", "low", "max")


def _think(ctx: click.Context, parameter: click.Parameter, value: str | None) -> bool | str | None:
    if value is None:
        return None
    if value in ("", "true"):
        return True
    if value == "false":
        return False
    if value in _LEVELS:
        return value
    raise click.BadParameter(f'"{value}" (must be true, false, high, medium, low, or max)')


def _keep_alive(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None:
        try:
            parse_duration(value)
        except InvalidRequest as exc:
            raise click.BadParameter(str(exc)) from exc
    return value


def _format(ctx: click.Context, parameter: click.Parameter, value: str | None) -> object:
    """``json``, a JSON Schema, or ``@`` and the file it is in."""
    if value is None or value in ("", "json"):
        return value or None
    try:
        text = Path(value[1:]).read_text() if value.startswith("@") else value
        schema = json.loads(text)
    except OSError as exc:
        raise click.BadParameter(f"cannot read {value[1:]}: {exc.strerror}") from exc
    except ValueError:
        schema = None
    if not isinstance(schema, dict):
        raise click.BadParameter(
            f'"{value}" is neither "json" nor a JSON Schema object, nor @ and a file that holds one'
        )
    return schema


class _RunCommand(click.Command):
    """A bare ``--think`` or ``--truncate`` is true and leaves the next word alone: a value must be attached, as in Ollama."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        bare = ("--think", "--truncate")
        attached = [f"{argument}=true" if argument in bare else argument for argument in args[:end]]
        return super().parse_args(ctx, attached + args[end:])


@click.command("run", cls=_RunCommand)
@click.argument("model")
@click.argument("prompt", nargs=-1)
@click.option("--keepalive", callback=_keep_alive, metavar="DURATION", help="How long the model stays loaded, e.g. 5m.")
@click.option("--verbose", is_flag=True, help="Show the timings of each answer.")
@click.option("--format", "output", callback=_format, metavar="json|SCHEMA|@FILE", help="The form of the answer.")
@click.option(
    "--think",
    callback=_think,
    metavar="[=LEVEL]",
    help="true, false, high, medium, low, max; alone it is true.",
)
@click.option("--hidethinking", is_flag=True, help="Think, but do not show it.")
@click.option("--dimensions", type=int, help="Embedding models: how many numbers of the vector.")
@click.option(
    "--truncate", type=bool, metavar="[=false]", help="Embedding models: cut a text that is too long, or refuse it."
)
@click.option("--nowordwrap", is_flag=True, hidden=True, help="Accepted: answers are never wrapped.")
def run_command(
    model: str,
    prompt: tuple[str, ...],
    keepalive: str | None,
    verbose: bool,
    output: object,
    think: bool | str | None,
    hidethinking: bool,
    dimensions: int | None,
    truncate: bool | None,
    nowordwrap: bool,
) -> None:
    """Answer PROMPT (and what comes by a pipe, before it) with MODEL; without either, chat.

    Files that PROMPT names go along, if MODEL sees or hears: corral run MODEL "What is on ./photo.jpg?"

    stdout gets the answer, of an embedding model the vector as JSON. Thoughts are shown on a terminal; when stdout is a pipe
    or a file they go to stderr.
    """
    terminal = sys.stdin is not None and sys.stdin.isatty()
    text = " ".join(part for part in ("" if terminal else _piped(), *prompt) if part)
    settings = load_settings()
    client = client_with_server(settings)
    session = Session(
        client,
        model,
        _details(client, model),
        think=think,
        show_thinking=not hidethinking,
        format=output,
        keep_alive=keepalive,
        verbose=verbose,
    )
    if "embedding" in session.details.get("capabilities", ()):
        _vector(session, text, {"dimensions": dimensions, "truncate": truncate})
    elif text:
        _one_answer(session, text)
    elif terminal and sys.stdout.isatty():
        from corral.cli.chat import chat

        chat(session, settings)
    else:
        client.load(model, keepalive)


def _piped() -> str:
    """What comes by a pipe, without its final line end. Raises `InvalidRequest` when it is not text."""
    if sys.stdin is None:  # closed
        return ""
    try:
        return sys.stdin.buffer.read().decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as exc:
        raise InvalidRequest(f"what came by the pipe is not text in UTF-8: {exc.reason} at byte {exc.start}") from exc


def _details(client: Client, model: str) -> dict[str, Any]:
    try:
        return client.show(model)
    except ServerError as exc:
        if exc.status != 404:
            raise
    from corral.cli.transfers import follow

    follow(client.pull(model), "pull", model)
    return client.show(model)


def _vector(session: Session, text: str, wanted: dict[str, Any]) -> None:
    """Print the vector of ``text`` as one line of JSON. Raises `InvalidRequest` when there is no text."""
    if not text:
        usage = f'corral run {session.model} "your text here"'
        raise InvalidRequest(f"embedding models require input text. Usage: {usage}")
    body = {"model": session.model, "input": [text], "keep_alive": session.keep_alive, **wanted}
    answer = session.client.embed(body)
    click.echo(json.dumps(answer["embeddings"][0], separators=(",", ":")))
    if answer.get("truncated_inputs"):
        click.echo("(the text is longer than the context of the model: its end was left out)", err=True)


def _one_answer(session: Session, text: str) -> None:
    prompt = attached(text, session.details)
    answer = print_answer(_asked(session, prompt), show_thinking=session.show_thinking)
    click.echo()
    for notice in notices(answer.end):
        click.echo(f"({notice})", err=True)
    if session.verbose:
        click.echo(timings(answer.end), err=True)


def _asked(session: Session, prompt: Prompt) -> Generator[Document, None, None]:
    body = session.common()
    if prompt.images and not prompt.text:  # an empty prompt would only load the model
        return session.client.chat({**body, "messages": [{"role": "user", "content": "", "images": prompt.images}]})
    return session.client.generate(
        {**body, "prompt": prompt.text, **({"images": prompt.images} if prompt.images else {})}
    )
