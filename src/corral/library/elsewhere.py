"""Models that other programs have on this machine: where they keep them, and by which names they go here.

Sources: the documentation of the Hugging Face cache (``models--USER--REPO/snapshots/REVISION``), of LM Studio
(``PUBLISHER/REPO/FILE``) and of llama.cpp (files in one folder).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from corral.errors import CorralError, InvalidName, InvalidRequest, StoreError
from corral.gguf.naming import base_name, models_among, projector_among, quantisation_in
from corral.names import DEFAULT_HOST, DEFAULT_NAMESPACE, DEFAULT_TAG, ModelName
from corral.store import Store, StoredManifest

_HUB = "hf.co"
_LM_STUDIO = (".lmstudio", ".cache/lm-studio")
_NOT_IN_NAMES = re.compile(r"[^a-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A model somewhere else. Of an Ollama store it is ``stored``; else ``weights`` are one file, or all parts in order."""

    name: ModelName
    where: str
    weights: tuple[Path, ...] = ()
    projector: Path | None = None
    stored: StoredManifest | None = None
    store: Store | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that it is made of."""
        if self.stored is not None and self.store is not None:
            return tuple(self.store.blob_path(layer.digest) for layer in self.stored.manifest.blobs)
        return (*self.weights, *filter(None, [self.projector]))

    @property
    def size(self) -> int:
        """Bytes of all files that are there."""
        return sum(path.stat().st_size for path in self.files if path.is_file())


@dataclass(frozen=True, slots=True)
class PassedOver:
    """Something that looks like a model and cannot be taken in, and why."""

    path: Path
    why: str


def scan(environment: Mapping[str, str], own: Path) -> Iterator[Elsewhere | PassedOver]:
    """Every model of other programs that the user of ``environment`` has; not those in the store ``own``."""
    home = Path(environment.get("HOME") or environment.get("USERPROFILE") or Path.home())
    seen: set[ModelName] = set()
    for found in (
        *_of_ollama(environment, home, own),
        *_of_hugging_face(environment, home),
        *_of_lm_studio(environment, home),
        *_of_llama_cpp(environment, home),
    ):
        if isinstance(found, Elsewhere):
            if found.name in seen:
                continue
            seen.add(found.name)
        yield found


def at(path: Path, name: str = "") -> Elsewhere:
    """The model in a file, in all parts of which ``path`` is one, or in a folder. Raises `InvalidRequest`."""
    path = path.expanduser()
    if path.is_dir():
        files = sorted(path.glob("*.gguf"))
    elif path.is_file():
        files = sorted({path, *path.parent.glob("*-of-*.gguf")})
    else:
        raise InvalidRequest(f"there is no file {path}")
    models = models_among(files, lambda file: file)
    if path.is_file():
        models = [parts for parts in models if path in parts]
    if len(models) != 1:
        said = "no whole model" if not models else f"{len(models)} models; name one of their files"
        raise InvalidRequest(f"{path} has {said}")
    weights = models[0]
    projector = projector_among(files, lambda file: file) if path.is_dir() else None
    return Elsewhere(ModelName.parse(name) if name else _own_name(weights[0]), str(path), weights, projector)


def _own_name(path: Path) -> ModelName:
    """A name made of a file's."""
    model = _NOT_IN_NAMES.sub("-", base_name(path).lower()).strip("-._")[:80]
    label = quantisation_in(path).lower()
    try:
        return ModelName(DEFAULT_HOST, DEFAULT_NAMESPACE, model, label or DEFAULT_TAG)
    except InvalidName as exc:
        raise InvalidRequest(f'"{path.name}" makes no name for a model; give one: corral import FILE NAME') from exc


def _of_ollama(environment: Mapping[str, str], home: Path, own: Path) -> Iterator[Elsewhere | PassedOver]:
    roots = [
        Path(environment.get("OLLAMA_MODELS") or home / ".ollama" / "models"),
        home / ".ollama" / "models",
        Path("/usr/share/ollama/.ollama/models"),
    ]
    for root in dict.fromkeys(root for root in roots if root.is_dir() and not _is_same(root, own)):
        store = Store(root)
        for name in store.names():
            try:
                yield Elsewhere(name, str(root), stored=store.read(name), store=store)
            except CorralError as exc:
                yield PassedOver(root, str(exc))


def _of_hugging_face(environment: Mapping[str, str], home: Path) -> Iterator[Elsewhere | PassedOver]:
    cache = environment.get("HF_HOME") or Path(environment.get("XDG_CACHE_HOME") or home / ".cache") / "huggingface"
    hub = Path(environment.get("HF_HUB_CACHE") or Path(cache) / "hub")
    for repository in sorted(hub.glob("models--*--*")):
        _, user, model = repository.name.split("--", 2)
        for snapshot in _newest_first(repository):
            yield from _in_folder(snapshot, user, model)


def _newest_first(repository: Path) -> list[Path]:
    """The snapshots of a repository, that of its main branch first."""
    try:
        main = (repository / "refs" / "main").read_text().strip()
    except (OSError, UnicodeDecodeError):
        main = ""
    return sorted((repository / "snapshots").glob("*"), key=lambda path: (path.name != main, -path.stat().st_mtime))


def _lm_studio_downloads(environment: Mapping[str, str], home: Path) -> Iterator[Path]:
    """The folder that its user chose, if any."""
    for folder in (
        Path(environment.get("XDG_CONFIG_HOME") or home / ".config"),
        home / "Library" / "Application Support",
        Path(environment.get("APPDATA") or home),
    ):
        try:
            chosen = json.loads((folder / "LM Studio" / "settings.json").read_bytes())["downloadsFolder"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if isinstance(chosen, str) and chosen:
            yield Path(chosen)


def _of_lm_studio(environment: Mapping[str, str], home: Path) -> Iterator[Elsewhere | PassedOver]:
    for root in (*_lm_studio_downloads(environment, home), *(home / part / "models" for part in _LM_STUDIO)):
        for folder in sorted(root.glob("*/*")):
            yield from _in_folder(folder, folder.parent.name, folder.name)


def _of_llama_cpp(environment: Mapping[str, str], home: Path) -> Iterator[Elsewhere | PassedOver]:
    cache = environment.get("LLAMA_CACHE") or Path(environment.get("XDG_CACHE_HOME") or home / ".cache") / "llama.cpp"
    for weights in models_among(sorted(Path(cache).glob("*.gguf")), lambda file: file):
        try:
            yield Elsewhere(_own_name(weights[0]), str(cache), weights)
        except InvalidRequest as exc:
            yield PassedOver(weights[0], str(exc))


def _in_folder(folder: Path, user: str, model: str) -> Iterator[Elsewhere | PassedOver]:
    """The models in a folder that goes by a user and a repository."""
    files = sorted(folder.rglob("*.gguf"))
    projector = projector_among(files, lambda file: file)
    for weights in models_among(files, lambda file: file):
        try:
            name = ModelName(_HUB, user, model, quantisation_in(weights[0]) or DEFAULT_TAG)
        except InvalidName as exc:
            yield PassedOver(weights[0], str(exc))
            continue
        yield Elsewhere(name, str(folder), weights, projector)


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def check_here(store: Store, model: Elsewhere) -> bool:
    """Whether the store has a model of this name already. Raises `StoreError` when a file of ``model`` is not there."""
    for path in model.files:
        if not path.is_file():
            raise StoreError(f"{path} is not there")
    return store.find(model.name) is not None
