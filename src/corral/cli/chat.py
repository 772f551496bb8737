"""The chat in a terminal.

A question that failed or was stopped is taken back: what is on the screen above the prompt and was answered is the conversation,
nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from prompt_toolkit import PromptSession
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from corral.cli.answering import notices, print_answer, timings
from corral.cli.attachments import attached, begins_with_file
from corral.cli.background import client_with_server
from corral.cli.console import print_models, print_sections
from corral.cli.models import sections
from corral.cli.session import Session
from corral.config import Settings
from corral.errors import CorralError, InvalidRequest, ServerError, ServerUnreachable
from corral.parameters import PARAMETERS, Parameter
from corral.runtime.options import parse_options

_QUOTES = '"""'
_SET_SYSTEM = "/set system "
OPEN_PLACEHOLDER = 'End with """'
PLACEHOLDER = "Send a message (/? for help)"
HELP = """\
Commands:
  /set            Set parameters and modes of this chat
  /show           Show what the model is
  /load MODEL     Chat with another model
  /list           List the models on this machine
  /clear          Begin a new conversation
  /bye            End
  /?, /help       This help

Files that a message names go along, if the model sees or hears: What is on ./photo.jpg?
Use \"\"\" to begin and end a message of several lines. Ctrl-C stops an answer, Ctrl-D ends the chat."""
SET_HELP = """\
  /set parameter NAME VALUE...   Set a parameter
  /set system TEXT               Set the system message
  /set format json|noformat      JSON answers, or free ones
  /set think [LEVEL]|nothink     Think, or not
  /set verbose|quiet             Show timings, or not
  /set history|nohistory         Keep the history of what is typed, or not"""
SHOW_HELP = """\
  /show info | license | modelfile | parameters | system | template"""


@dataclass(slots=True)
class Chat:
    """One conversation, and how it is held."""

    session: Session
    settings: Settings
    messages: list[dict[str, Any]] = field(default_factory=list)
    system: str = ""
    keep_history: bool = True


class _Bye(Exception):
    """The user wants to go."""


def chat(session: Session, settings: Settings) -> None:
    """Talk until the user ends it."""
    session.client.load(session.model, session.keep_alive)
    state = Chat(session, settings, keep_history=not settings.no_history)
    for message in session.details.get("messages") or ():
        click.echo(f">>> {message['content']}" if message["role"] == "user" else f"{message['content']}\n")
    prompt = _Prompt(_history(state))
    while True:
        try:
            typed = prompt.ask()
            if typed.is_command and not begins_with_file(typed.text, session.details):
                _command(state, typed.text)
                prompt.history = _history(state)
            elif typed.text.strip():
                _answer(state, typed.text)
        except (EOFError, _Bye):
            return
        except KeyboardInterrupt:
            click.echo("\nUse Ctrl + d or /bye to exit.\n")


@dataclass(frozen=True, slots=True)
class _Typed:
    """What was typed; a message in triple quotes is no command, whatever it begins with."""

    text: str
    is_command: bool


class _Prompt:
    """Reads messages: a line, or several between triple quotes."""

    def __init__(self, history: History) -> None:
        self.history = history
        keys = KeyBindings()

        @keys.add("c-j")
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text("\n")

        @keys.add("enter")
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.validate_and_handle()

        self._keys = keys

    def ask(self) -> _Typed:
        """The next message. Raises `KeyboardInterrupt` and `EOFError` as typed; either leaves several-line mode."""
        session: PromptSession[str] = PromptSession(history=self.history, key_bindings=self._keys, multiline=True)
        text = session.prompt(">>> ", placeholder=PLACEHOLDER, prompt_continuation="... ")
        command = _SET_SYSTEM if text.startswith(_SET_SYSTEM) else ""
        message = text.removeprefix(command)
        if not message.lstrip().startswith(_QUOTES):
            return _Typed(text, text.startswith("/"))
        message = message.lstrip().removeprefix(_QUOTES)
        while not message.endswith(_QUOTES):
            message += "\n" + session.prompt("... ", placeholder=OPEN_PLACEHOLDER)
        return _Typed(command + message.removesuffix(_QUOTES).removeprefix("\n"), bool(command))


def _history(state: Chat) -> History:
    if not state.keep_history:
        return InMemoryHistory()
    path: Path = state.settings.data / "history"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))


def _answer(state: Chat, text: str) -> None:
    """Ask, print, and remember both only when the answer is whole."""
    try:
        prompt = attached(text, state.session.details)
    except CorralError as exc:
        click.echo(f"Error: {exc}\n", err=True)
        return
    question: dict[str, Any] = {"role": "user", "content": prompt.text}
    if prompt.images:
        question["images"] = prompt.images
    system = [{"role": "system", "content": state.system}] if state.system else []
    body = {**state.session.common(), "messages": [*system, *state.messages, question]}
    try:
        client_with_server(state.settings)  # one that was started for us may have ended while the user thought
        answer = print_answer(state.session.client.chat(body), show_thinking=state.session.show_thinking)
    except KeyboardInterrupt:
        click.echo("\n\n(stopped; the question was taken back)\n")
        return
    except ServerUnreachable:
        raise
    except CorralError as exc:
        click.echo(f"Error: {exc}\n", err=True)
        return
    click.echo("\n")
    for notice in notices(answer.end):
        click.echo(f"({notice})\n", err=True)
    if state.session.verbose:
        click.echo(timings(answer.end) + "\n", err=True)
    said: dict[str, Any] = {"role": "assistant", "content": answer.text}
    if answer.thinking:
        said["thinking"] = answer.thinking
    if answer.tool_calls:
        said["tool_calls"] = answer.tool_calls
    state.messages += [question, said]


def _command(state: Chat, text: str) -> None:
    name, _, rest = text.strip().partition(" ")
    commands: dict[str, Callable[[Chat, str], None]] = {
        "/set": _set,
        "/show": _show,
        "/load": _load,
        "/list": _list,
        "/clear": _clear,
        "/?": _help,
        "/help": _help,
        "/bye": _bye,
        "/exit": _bye,
    }
    if name not in commands:
        click.echo(f"Unknown command '{name}'. Type /? for help")
        return
    try:
        commands[name](state, rest.strip())
    except ServerError as exc:
        click.echo(f"Error: {exc}", err=True)


def _bye(state: Chat, rest: str) -> None:
    raise _Bye


def _help(state: Chat, rest: str) -> None:
    click.echo({"set": SET_HELP, "show": SHOW_HELP}.get(rest, HELP), err=True)


def _clear(state: Chat, rest: str) -> None:
    state.messages.clear()
    click.echo("Cleared session context")


def _list(state: Chat, rest: str) -> None:
    print_models(state.session.client.tags())


def _load(state: Chat, rest: str) -> None:
    if not rest or " " in rest:
        click.echo("Usage:\n  /load MODEL")
        return
    click.echo(f"Loading model '{rest}'")
    try:
        details = state.session.client.show(rest)
        state.session.client.load(rest, state.session.keep_alive)
    except ServerError as exc:
        click.echo(f"Couldn't find model '{rest}'" if exc.status == 404 else f"Error: {exc}")
        return
    state.session.model, state.session.details = rest, details
    if state.session.think and not state.session.thinks:
        state.session.think = None
        click.echo(f"'{rest}' does not think, so thinking is off")
    state.messages.clear()


def _show(state: Chat, rest: str) -> None:
    details = state.session.details
    if rest == "info":
        print_sections(sections(details, verbose=False))
    elif rest == "parameters":
        own = details.get("parameters")
        click.echo(f"Model defined parameters:\n{own}\n" if own else "The model defines no parameters.\n")
        for name, value in state.session.options.items():
            click.echo(f"{name:<30} {value}")
    elif rest == "system":
        click.echo(state.system or details.get("system") or "No system message was specified for this model.")
    elif rest in ("license", "modelfile", "template"):
        missing = {"license": "license", "template": "prompt template"}.get(rest, rest)
        click.echo(details.get(rest) or f"No {missing} was specified for this model.")
    elif rest:
        click.echo(f"Unknown command '/show {rest}'. Type /? for help")
    else:
        click.echo(SHOW_HELP)


def _set(state: Chat, rest: str) -> None:
    what, _, value = rest.partition(" ")
    value = value.strip()
    session = state.session
    match what:
        case "parameter":
            _set_parameter(session, value)
        case "system":
            state.system = value
            click.echo("Set system message.")
        case "format" if value == "json":
            session.format = "json"
            click.echo("Set format to 'json' mode.")
        case "format":
            click.echo("Invalid or missing format. For 'json' mode use '/set format json'")
        case "noformat":
            session.format = None
            click.echo("Disabled format.")
        case "think" if value in ("", "high", "medium", "low", "max"):
            if not session.thinks:
                click.echo(f'"{session.model}" does not support thinking, so nothing was set')
                return
            session.think = value or True
            click.echo(f"Set 'think' mode to '{value}'." if value else "Set 'think' mode.")
        case "think":
            click.echo(f"'{value}' is no level of thinking: high, medium, low, max")
        case "nothink":
            session.think = False
            click.echo("Set 'nothink' mode.")
        case "verbose" | "quiet":
            session.verbose = what == "verbose"
            click.echo(f"Set '{what}' mode.")
        case "history" | "nohistory":
            state.keep_history = what == "history"
        case "wordwrap" | "nowordwrap":
            click.echo("Answers are never wrapped here; the terminal does that.")
        case "":
            click.echo(SET_HELP)
        case _:
            click.echo(f"Unknown command '/set {what}'. Type /? for help")


def _set_parameter(session: Session, rest: str) -> None:
    name, _, value = rest.partition(" ")
    words = value.split()
    option = PARAMETERS.get(name)
    if option is None or not words:
        known = ", ".join(PARAMETERS)
        click.echo(f"Couldn't set parameter: there is no '{name}'; there are: {known}" if name and words else SET_HELP)
        return
    try:
        typed = parse_options({name: _typed(option, words)}).values
    except (ValueError, KeyError):
        click.echo(f"Couldn't set parameter: '{words[0]}' is not of type {option.type}")
        return
    except InvalidRequest as exc:
        click.echo(f"Couldn't set parameter: {exc}")
        return
    session.options.update(typed)
    click.echo(f"Set parameter '{name}' to '{' '.join(words)}'")


def _typed(option: Parameter, words: list[str]) -> object:
    """The value that ``words`` mean. Raises `ValueError` or `KeyError` when they mean none."""
    match option.type:
        case "array":
            return words
        case "boolean":
            return {"true": True, "false": False}[words[0].lower()]
        case "integer":
            return int(words[0])
        case _:
            return float(words[0])
