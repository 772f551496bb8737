"""Logins for registries: ``login`` and ``logout``. They are kept on this machine, where its server reads them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from corral.config import Settings, load_settings
from corral.errors import ConfigError
from corral.names import DEFAULT_HOST

if TYPE_CHECKING:
    from corral.registry import Credential


@click.command("login")
@click.argument("host", default="")
@click.option("-u", "--username", default="", help="Who you are there; Hugging Face needs none.")
@click.option("--password-stdin", is_flag=True, help="Read the password or token from standard input.")
@click.option("--insecure", is_flag=True, help="Talk to the registry over plain HTTP.")
def login_command(host: str, username: str, password_stdin: bool, insecure: bool) -> None:
    """Keep a login for the registry at HOST, after trying it. For hf.co the password is a token.

    Without HOST it shows the key by which Ollama's registry knows this machine.
    """
    settings = _on_this_machine()
    if not host or host.lower() == DEFAULT_HOST:
        _show_key()
        return
    from corral.registry import Credential

    username, password = _asked(host, username, password_stdin)
    credential = Credential.for_host(host, username, password)
    _try(settings, host, credential, insecure)
    from corral.registry import Outside

    Outside.of(settings).identity.credentials.keep(host, credential)
    click.echo(f"kept the login for {host}")


@click.command("logout")
@click.argument("host")
def logout_command(host: str) -> None:
    """Forget the login for the registry at HOST."""
    from corral.registry import Outside

    if Outside.of(_on_this_machine()).identity.credentials.forget(host):
        click.echo(f"forgot the login for {host}")
    else:
        click.echo(f"there is no login for {host}")


def _on_this_machine() -> Settings:
    settings = load_settings()
    from corral.server.guard import is_loopback  # late: only here

    if not is_loopback(settings.host.reachable_host):
        raise ConfigError(
            f"logins are kept on the machine of the server, and CORRAL_HOST names {settings.host.host}; "
            "run this command there"
        )
    return settings


def _asked(host: str, username: str, password_stdin: bool) -> tuple[str, str]:
    """Name and password, from where they are to be had. Raises `click.UsageError`."""
    from corral.registry.credentials import HUGGING_FACE

    token_only = host.lower() in HUGGING_FACE
    terminal = sys.stdin is not None and sys.stdin.isatty()
    if not username and not token_only:
        if not terminal or password_stdin:
            raise click.UsageError("who are you there? give --username", click.get_current_context())
        username = click.prompt("Username", err=True)
    if password_stdin:
        password = sys.stdin.read().rstrip("\r\n")
    elif terminal:
        password = click.prompt("Token" if token_only else "Password", hide_input=True, err=True)
    else:
        raise click.UsageError("to give a password by a pipe, add --password-stdin", click.get_current_context())
    if not password:
        raise click.UsageError("the password is empty", click.get_current_context())
    return username, password


def _try(settings: Settings, host: str, credential: Credential, insecure: bool) -> None:
    import anyio

    from corral.registry import Outside, Transfers, Wish
    from corral.store import Store

    async def ask() -> None:
        async with Transfers(Store(settings.models), Outside.of(settings)) as transfers:
            await transfers.check_login(host, Wish(insecure, credential))

    anyio.run(ask)


def _show_key() -> None:
    from corral.registry import SigningKey

    click.echo(
        "Ollama's registry knows this machine by its key. Add it at https://ollama.com/settings/keys :\n", err=True
    )
    click.echo(SigningKey().public())
