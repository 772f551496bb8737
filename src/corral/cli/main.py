"""``corral``: finds the command, and turns what goes wrong into one line and an exit status.

Exit statuses: 0, 1 for a failure, 2 for misuse, 130 after Ctrl-C.
"""

from __future__ import annotations

import importlib
import io
import os
import sys

import click

import corral
from corral.errors import CorralError

# command: module and what help says of it, so that help loads no command.
_COMMANDS = {
    "serve": ("serving", "Start the server."),
    "run": ("running", "Run a model: answer a prompt, or chat."),
    "create": ("creating", "Make a model from a Modelfile."),
    "pull": ("transfers", "Get a model from a registry."),
    "push": ("transfers", "Bring a model to a registry."),
    "list": ("models", "List the models on this machine."),
    "show": ("models", "Show what a model is."),
    "cp": ("models", "Give a model a second name."),
    "rm": ("models", "Remove models."),
    "ps": ("loaded", "List the models in memory."),
    "stop": ("loaded", "Unload models."),
    "import": ("importing", "Take in models that are on this machine already."),
    "prune": ("disk", "Remove what no model uses."),
    "verify": ("disk", "Look whether the files of models are whole."),
    "login": ("logins", "Keep a login for a registry."),
    "logout": ("logins", "Forget the login for a registry."),
}
_ALIASES = {"ls": "list", "start": "serve"}
_VERSION_WAIT_S = 0.05  # for the connection, and again for the answer: a version is wanted at once or not at all


class _Commands(click.Group):
    """Commands whose modules are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = _ALIASES.get(cmd_name, cmd_name)
        if name not in _COMMANDS:
            return None
        module = importlib.import_module(f"corral.cli.{_COMMANDS[name][0]}")
        command = getattr(module, f"{name}_command")
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in _COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            import difflib

            near = difflib.get_close_matches(name, _COMMANDS, n=3, cutoff=0.5)
            hint = "\n\nDid you mean this?\n" + "\n".join(f"\t{other}" for other in near) if near else ""
            raise click.UsageError(f'unknown command "{name}" for "corral"{hint}')
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-v", "--version", is_flag=True, help="Show the version, of the server too if one runs.")
@click.pass_context
def cli(ctx: click.Context, version: bool) -> None:
    """Docker for language models: pull, run and serve open models on this machine."""
    if version:
        _print_version()
    elif ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def _print_version() -> None:
    click.echo(f"corral version {corral.__version__}")
    import socket

    from corral.config import load_settings

    address = load_settings().host
    try:  # most of the time there is no server, and the client need not be loaded to find out
        socket.create_connection((address.reachable_host, address.port), _VERSION_WAIT_S).close()
    except (OSError, UnicodeError):
        return
    from corral.client import Client

    client = Client(address)
    try:
        server = client.version(timeout_s=_VERSION_WAIT_S)
    except CorralError:
        return
    if server != corral.__version__:
        click.echo(f"the server at {client.address.url} has version {server}")


def main() -> None:
    """Run the command line and exit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a model may say what the terminal's encoding cannot
    try:
        status = cli.main(prog_name="corral", standalone_mode=False)
    except click.UsageError as exc:
        where = f"\nTry: {exc.ctx.command_path} --help" if exc.ctx else ""
        _fail(exc.format_message() + where, 2)
    except click.exceptions.Exit as exc:
        sys.exit(exc.exit_code)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has seen enough
        sys.exit(1)
    except CorralError as exc:
        _fail(str(exc), 1)
    except Exception as exc:
        if os.environ.get("CORRAL_LOG_LEVEL", "").strip().lower() == "debug":
            raise
        _fail(f"a mistake in Corral: {exc!r}; to see where, set CORRAL_LOG_LEVEL=debug", 1)
    sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str, status: int) -> None:
    click.echo(f"Error: {message}", err=True)
    sys.exit(status)
