"""Printing an answer as it comes: thoughts apart from the answer, and the figures at the end."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import click

from corral.client import Document
from corral.errors import CorralError


@dataclass(slots=True)
class Answer:
    """What an answer was, once it is whole."""

    text: str = ""
    thinking: str = ""
    tool_calls: list[Document] = field(default_factory=list)
    end: Document = field(default_factory=dict)


def print_answer(stream: Generator[Document, None, None], *, show_thinking: bool) -> Answer:
    """Print the answer on stdout while it comes; thoughts too on a terminal, else on stderr: a pipe gets the answer alone."""
    answer = Answer()
    state = "start"
    aside = not sys.stdout.isatty()
    with closing(stream), _own_line_for_errors(answer, aside):
        for document in stream:
            message = document.get("message") or {"content": document.get("response", ""), **document}
            thought, text = message.get("thinking") or "", message.get("content") or ""
            if thought:
                answer.thinking += thought
                if show_thinking:
                    if state == "start":
                        click.echo("Thinking...", err=aside)
                    state = "thinking"
                    click.echo(thought, nl=False, err=aside)
            if text:
                if state == "thinking":
                    click.echo(("" if answer.thinking.endswith("\n") else "\n") + "...done thinking.\n", err=aside)
                state = "text"
                answer.text += text
                click.echo(text, nl=False)
            answer.tool_calls += message.get("tool_calls") or []
            if document.get("done"):
                answer.end = document
    if state == "thinking":
        click.echo(("" if answer.thinking.endswith("\n") else "\n") + "...done thinking.", err=aside)
    for line in _calls(answer.tool_calls):
        click.echo(line)
    return answer


@contextmanager
def _own_line_for_errors(answer: Answer, aside: bool) -> Iterator[None]:
    """On a terminal, end the line of an answer that fails half-way, so that the error has its own."""
    try:
        yield
    except CorralError:
        if not aside and (answer.text or answer.thinking):
            click.echo()
        raise


def timings(end: Document) -> str:
    """The figures of an answer, a line each; those that are zero are left out."""
    lines = []
    for part, label in (("total", "total duration"), ("load", "load duration")):
        if duration := end.get(f"{part}_duration"):
            lines.append(f"{label + ':':<20} {_seconds(duration)}")
    for part, label in (("prompt_eval", "prompt eval"), ("eval", "eval")):
        count, duration = end.get(f"{part}_count", 0), end.get(f"{part}_duration", 0)
        if count:
            lines.append(f"{label + ' count:':<20} {count} token(s)")
        if duration:
            lines.append(f"{label + ' duration:':<20} {_seconds(duration)}")
            lines.append(f"{label + ' rate:':<20} {count / (duration / 1e9):.2f} tokens/s")
    return "\n".join(lines)


def notices(end: Document) -> Iterable[str]:
    """What the user should know of how the answer came about."""
    if dropped := end.get("dropped_messages"):
        yield f"the conversation is longer than the context: the {dropped} oldest messages were left out"
    if end.get("done_reason") == "length":
        yield "the answer was cut off: the limit of tokens or the end of the context was reached"


def _calls(calls: list[Document]) -> Iterator[str]:
    import json

    for call in calls:
        function: dict[str, Any] = call["function"]
        arguments = json.dumps(function["arguments"], ensure_ascii=False)
        yield f"  Model called a non-existent function '{function['name']}()' with arguments: {arguments}"


def _seconds(nanoseconds: int) -> str:
    seconds = nanoseconds / 1e9
    if seconds >= 60:
        return f"{int(seconds // 60)}m{seconds % 60:.3g}s"
    return f"{seconds:.6g}s" if seconds >= 1 else f"{seconds * 1000:.6g}ms"
