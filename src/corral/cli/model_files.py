"""The files on this machine that a Modelfile names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from corral.errors import InvalidRequest
from corral.gguf.naming import models_among, projector_among

_NO_FILES = "no Modelfile or safetensors files found"
_WEIGHTS = ("model*.safetensors",)
_BESIDE = ("*.json", "*/*.json", "chat_template.jinja", "tokenizer.model", "vocab.txt")
_ADAPTER = ("adapter_model.safetensors", "adapter_config.json")
_HUB_BLOBS = "blobs"  # where a snapshot in Hugging Face's cache links to


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file on this machine, and the name under which the server is told of it."""

    path: Path
    name: str


def expand(text: str, folder: Path) -> Path:
    """The path that a Modelfile in ``folder`` means by ``text``. Raises `InvalidRequest` for the home of a user who is none."""
    try:
        return folder / Path(text).expanduser()
    except RuntimeError as exc:
        raise InvalidRequest(f"{text}: {exc}") from exc


def looks_like_a_path(text: str) -> bool:
    """Whether ``text`` can hardly be the name of a model.

    >>> [looks_like_a_path(text) for text in ("./tiny", "~/models/tiny", "a.gguf", "tiny", "hf.co/a/b")]
    [True, True, True, False, False]
    """
    return text.startswith((".", "/", "~", "\\")) or text.lower().endswith((".gguf", ".safetensors", ".bin"))


def files_at(path: Path) -> list[ModelFile]:
    """The file at ``path``, or the files of the one model in that folder. Raises `InvalidRequest`."""
    if not path.is_dir():
        return [ModelFile(path, path.name)]
    if weights := _matching(path, _WEIGHTS):
        return _named(path, weights + _matching(path, _BESIDE))
    found = _matching(path, ("*.gguf",))
    if not found:
        raise InvalidRequest(_NO_FILES)
    models = models_among(found, lambda file: file)
    if len(models) != 1:
        several = ", ".join(sorted(model[0].name for model in models)) or "none that is whole"
        raise InvalidRequest(f"{path} should have one model, and has {several}; name the file that you want")
    projector = projector_among(found, lambda file: file)
    return _named(path, [*models[0], *([projector] if projector else ())])


def adapter_files_at(path: Path) -> list[ModelFile]:
    """The adapter at ``path``: a file, or a folder as PEFT writes it. Raises `InvalidRequest`."""
    if not path.is_dir():
        return [ModelFile(path, path.name)]
    if found := _matching(path, _ADAPTER):
        return _named(path, found)
    raise InvalidRequest(f"{path} has no {_ADAPTER[0]}; name a GGUF file, or a folder with an adapter in safetensors")


def _matching(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})


def _named(folder: Path, paths: list[Path]) -> list[ModelFile]:
    for path in paths:
        _check_link(folder, path)
    return [ModelFile(path, path.relative_to(folder).as_posix()) for path in paths]


def _check_link(folder: Path, path: Path) -> None:
    """What a folder from somebody else links to outside of it is no part of a model, and may be a secret of the user."""
    real, home = path.resolve(), folder.resolve()
    hub = home.parent.parent / _HUB_BLOBS if home.parent.name == "snapshots" else home
    if not (real.is_relative_to(home) or real.is_relative_to(hub)):
        raise InvalidRequest(
            f"insecure path: {path} leads to {real}, outside of {folder}; copy the file there if it belongs to the model"
        )
