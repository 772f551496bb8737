"""``corral create``: a Modelfile and the files that it names become a model of the server's."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from corral.cli.background import client_with_server
from corral.cli.model_files import ModelFile, adapter_files_at, expand, files_at, looks_like_a_path
from corral.cli.transfers import show_steps
from corral.client import Client, Document
from corral.errors import CorralError, InvalidName, InvalidRequest, ServerError
from corral.modelfile import Command, Definition, decode, definition_of, read_modelfile
from corral.names import ModelReference

_USUAL = Path("Modelfile")
_CHUNK_BYTES = 1 << 20
_LARGE_BYTES = 64 << 20  # what is smaller is hashed in a moment


@click.command("create")
@click.argument("model")
@click.option("-f", "--file", help="The Modelfile; - is standard input.  [default: Modelfile]")
@click.option(
    "-q", "--quantize", metavar="TYPE", default="", help="Make the numbers smaller, to this type (such as Q4_K_M)."
)
@click.option(
    "--allow-requantize", is_flag=True, help="Also where they have been made smaller before; it costs quality."
)
def create_command(model: str, file: str | None, quantize: str, allow_requantize: bool) -> None:
    """Make MODEL from a Modelfile: from another model or from files, with a prompt template, parameters and the like.

    Without a Modelfile it is made of the one model in the current folder.
    """
    try:
        ModelReference.parse(model)
    except InvalidName as exc:
        raise InvalidRequest(f"invalid model name: {model}") from exc
    definition, folder = _definition(file)
    click.echo("gathering model components", err=True)
    for name in definition.without_effect:
        click.echo(f"Warning: the parameter {name} has no effect and is left out", err=True)
    origin, files = _sources(definition, folder)
    adapters = _with_own_names([file for text in definition.adapters for file in _adapter(text, folder)])
    if definition.draft:
        raise InvalidRequest("draft models are not used by this version of Corral; leave out DRAFT")
    client = client_with_server()
    digests = _send(client, [*files, *adapters])
    body = _body(definition) | {
        "model": model,
        "quantize": quantize,
        "allow_requantize": allow_requantize,
        "from": origin,
        "files": {file.name: digests[file.path] for file in files},
        "adapters": {file.name: digests[file.path] for file in adapters},
    }
    try:
        show_steps(client.create({name: value for name, value in body.items() if value}))
    except ServerError as exc:
        if "quantization is only supported" not in str(exc):
            raise
        raise CorralError(f"{exc}; to make it smaller once more, at a loss: --allow-requantize") from exc


def _definition(file: str | None) -> tuple[Definition, Path]:
    """What the Modelfile says, and the folder it is in. Raises `CorralError` that names a file that cannot be read."""
    if file == "-":
        data, folder = sys.stdin.buffer.read(), Path()
    elif file is None and not _USUAL.exists():
        return definition_of([Command("from", ".")]), Path()
    else:
        path = Path(file or _USUAL).expanduser()
        try:
            data, folder = path.read_bytes(), path.parent
        except OSError as exc:
            raise CorralError(f"cannot read the Modelfile {path}: {exc.strerror}") from exc
    return definition_of(read_modelfile(decode(data))), folder


def _sources(definition: Definition, folder: Path) -> tuple[str, list[ModelFile]]:
    """The model to start from, or the files. Raises `InvalidRequest`."""
    origin, files = "", list[ModelFile]()
    for text in definition.sources:
        path = expand(text, folder)
        if not text:
            raise InvalidRequest("FROM needs the name of a model or the path of a file")
        if path.exists():
            files += files_at(path)
        elif looks_like_a_path(text):
            raise InvalidRequest(f"FROM {text}: there is no file {path}")
        else:
            origin = text
    return origin, _with_own_names(files)


def _adapter(text: str, folder: Path) -> list[ModelFile]:
    path = expand(text, folder)
    if not path.exists():
        raise InvalidRequest(f"ADAPTER {text}: there is no file {path}")
    return adapter_files_at(path)


def _with_own_names(files: list[ModelFile]) -> list[ModelFile]:
    """Files from several folders may have one name, and the server must tell them apart."""
    by_path = {file.path: file for file in files}
    taken: dict[str, ModelFile] = {}
    for file in by_path.values():
        number = 2
        name = file.name
        while name in taken:
            name = f"{number}/{file.name}"
            number += 1
        taken[name] = ModelFile(file.path, name)
    return list(taken.values())


def _send(client: Client, files: list[ModelFile]) -> dict[Path, str]:
    """Bring the server what it lacks; the digest of each file."""
    digests: dict[Path, str] = {}
    show_steps(_bring(client, files, digests))
    return digests


def _bring(client: Client, files: list[ModelFile], digests: dict[Path, str]) -> Iterator[Document]:
    for path in {file.path: None for file in files}:
        name = "".join(c if c.isprintable() else "?" for c in path.name)  # a terminal would obey it
        try:
            size = path.stat().st_size
            hasher = hashlib.sha256()
            with path.open("rb") as opened:
                hashed = 0
                while chunk := opened.read(_CHUNK_BYTES):
                    hasher.update(chunk)
                    hashed += len(chunk)
                    if size >= _LARGE_BYTES:
                        yield _step(f"hashing {name}", f"hashing {path}", size, hashed)
                digests[path] = digest = f"sha256:{hasher.hexdigest()}"
                if client.has_blob(digest):
                    continue
                opened.seek(0)
                for sent in client.send_blob(digest, opened, hashed):
                    yield _step(f"copying {name}", digest, size, sent)
        except OSError as exc:
            raise CorralError(f"cannot read {path}: {exc.strerror}") from exc


def _step(status: str, key: str, total: int, completed: int) -> Document:
    return {"status": status, "digest": key, "total": total, "completed": completed}


def _body(definition: Definition) -> dict[str, Any]:
    parameters: Mapping[str, object] = definition.parameters
    return {
        "template": definition.template,
        "system": definition.system,
        "renderer": definition.renderer,
        "parser": definition.parser,
        "requires": definition.requires,
        "license": list(definition.licenses),
        "parameters": dict(parameters),
        "messages": [{"role": role, "content": content} for role, content in definition.messages],
    }
