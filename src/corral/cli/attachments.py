"""Files that a prompt names: ``describe ./cat.png``. They go along as images and sounds, and their names leave the text."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from corral.errors import InvalidRequest
from corral.media.kinds import IMAGES, SOUNDS, kind_of

MOST_BYTES = 100_000_000
# A path begins with ./, ../, ~/, / or a drive; blanks in it are escaped, or it stands in quotes.
_PATH = re.compile(
    r"""(?P<quote>['"])(?P<quoted>(?:[a-zA-Z]:)?(?:\.{1,2}/|~/|/|\\)[^'"\n]+?\.(?:jpe?g|png|webp|gif|wav|mp3|flac))(?P=quote)"""
    r"""|(?<!\S)(?P<bare>(?:[a-zA-Z]:)?(?:\.{1,2}/|~/|/|\\)(?:\\.|[^\s\\])+?\.(?:jpe?g|png|webp|gif|wav|mp3|flac))(?![\w/\\])""",
    re.IGNORECASE,
)
_ESCAPED = re.compile(r"\\([ ()\[\]{}$&;'\"\\*?~`<>|#!%])")


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is left of a text, and the files it named, in base64."""

    text: str
    images: tuple[str, ...] = ()


def senses(details: Mapping[str, Any]) -> bool:
    """Whether a model, by what ``show`` says of it, has any use for files."""
    return bool(
        {"vision", "audio"} & set(details.get("capabilities") or ())
        or details.get("projector_info")
        or any(".vision." in key for key in details.get("model_info") or ())
    )


def begins_with_file(text: str, details: Mapping[str, Any]) -> bool:
    """Whether ``text`` begins with a file that would go along, so that it is no command."""
    found = _PATH.match(text)
    return found is not None and senses(details) and _path(found).is_file()


def attached(text: str, details: Mapping[str, Any]) -> Prompt:
    """``text`` without the files it names, which are read and told on stderr. What names no file stays text.

    Raises `InvalidRequest` for a file that is no image or sound, too large, or cannot be read.
    """
    if not senses(details):
        return Prompt(text)
    images: list[str] = []

    def taken(found: re.Match[str]) -> str:
        path = _path(found)
        if not path.is_file():
            return found[0]
        images.append(_read(path, _written(found)))
        return ""

    left = _PATH.sub(taken, text)
    return Prompt(left.strip(), tuple(images)) if images else Prompt(text)


def _written(found: re.Match[str]) -> str:
    return found["quoted"] or _ESCAPED.sub(r"\1", found["bare"])


def _path(found: re.Match[str]) -> Path:
    return Path(_written(found)).expanduser()


def _read(path: Path, written: str) -> str:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InvalidRequest(f"{written}: file size exceeds maximum limit (100MB)")
        data = path.read_bytes()
    except OSError as exc:
        raise InvalidRequest(f"cannot read {written}: {exc.strerror}") from exc
    kind = kind_of(data)
    if kind not in (*IMAGES, *SOUNDS):
        raise InvalidRequest(f"invalid file type: {written} is {kind.name}")
    click.echo(f"Added {kind.holds} '{written}'", err=True)
    return base64.b64encode(data).decode()
