"""What tables and figures look like. stdout is data; nothing here depends on colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from corral.durations import words_for

GAP = " " * 4


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as Ollama pads them: to their width and four blanks, the header's last one to its width and one blank."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    click.echo(GAP.join(cell.ljust(width) for cell, width in zip(header, widths, strict=True)) + " ")
    for row in rows:
        click.echo(_padded(row, widths))


def print_sections(sections: Sequence[tuple[str, Sequence[Sequence[str]]]]) -> None:
    """Titles and the rows under them, which have equal length in a section."""
    for title, rows in sections:
        click.echo(f"  {title}")
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            click.echo(GAP + _padded(row, widths))
        click.echo()


def print_models(models: Sequence[Mapping[str, Any]]) -> None:
    """The table of models that ``list`` and the chat show."""
    rows = [
        [
            model["name"],
            model["digest"][:12],
            "-" if model.get("remote_model") else human_bytes(model["size"]),
            ago(model["modified_at"]),
        ]
        for model in models
    ]
    print_table(["NAME", "ID", "SIZE", "MODIFIED"], rows)


def _padded(row: Sequence[str], widths: Sequence[int]) -> str:
    return "".join(cell.ljust(width) + GAP for cell, width in zip(row, widths, strict=True))


def print_json(value: object) -> None:
    """The same data for programs."""
    import json

    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def human_bytes(size: int) -> str:
    """Decimal units, two digits.

    >>> [human_bytes(n) for n in (999, 1015, 4_700_000_000, 5_000_000_000, 12_900_000)]
    ['999 B', '1.0 KB', '4.7 GB', '5 GB', '12 MB']
    """
    for unit, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "KB")):
        if size >= 10 * unit:
            return f"{size // unit} {name}"
        if size >= unit:
            return f"{size // unit} {name}" if size % unit == 0 else f"{int(size * 10 / unit) / 10:.1f} {name}"
    return f"{size} B"


def ago(moment: str) -> str:
    """How long ago an RFC 3339 time was.

    >>> ago(""), ago("0001-01-01T00:00:00Z")
    ('Never', 'Never')
    """
    then = parse_time(moment)
    return "Never" if then is None else f"{words_for((datetime.now(UTC) - then).total_seconds())} ago"


def until(moment: str) -> str:
    """How long until an RFC 3339 time."""
    then = parse_time(moment)
    if then is None:
        return "Never"
    seconds = (then - datetime.now(UTC)).total_seconds()
    if seconds <= 0:
        return "Stopping..."
    return "Forever" if seconds > 20 * 365 * 86400 else f"{words_for(seconds)} from now"


def parse_time(moment: str) -> datetime | None:
    """An RFC 3339 time with any number of digits in its fraction; ``None`` for none and for Go's zero time."""
    if not moment or moment.startswith("0001-"):
        return None
    head, point, tail = moment.partition(".")
    if point:
        digits = len(tail) - len(tail.lstrip("0123456789"))
        moment = f"{head}.{tail[:digits][:6]}{tail[digits:]}"
    return datetime.fromisoformat(moment.replace("Z", "+00:00"))


def processor(size: int, size_vram: int) -> str:
    """Where a model lies.

    >>> processor(100, 0), processor(100, 100), processor(100, 25)
    ('100% CPU', '100% GPU', '75%/25% CPU/GPU')
    """
    if size_vram == 0:
        return "100% CPU"
    if size_vram == size:
        return "100% GPU"
    if size == 0 or size_vram > size:
        return "Unknown"
    cpu = int((size - size_vram) / size * 100 + 0.5)
    return f"{cpu}%/{100 - cpu}% CPU/GPU"
