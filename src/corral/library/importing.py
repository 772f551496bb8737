"""Taking in models that are on this machine already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from corral.errors import GgufError, StoreError
from corral.gguf import model_facts, parts_in_order, read_parts
from corral.gguf.ollama import translation
from corral.library.elsewhere import Elsewhere
from corral.library.library import configuration_of
from corral.names import Digest
from corral.store import HashedFile, Layer, Manifest, MediaType, Placed, Store
from corral.store.manifest import CONFIG_TYPE

OnBytes = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class TakenIn:
    """A model that is here now, and how its files were placed."""

    model: Elsewhere
    placed: tuple[Placed, ...]


def take_in(store: Store, model: Elsewhere, on_bytes: OnBytes) -> TakenIn:
    """Make ``model`` one of the store's, whole or not at all. ``on_bytes`` is told how many bytes were looked at.

    Raises `GgufError` for files that are no model, `NotSupported` for those that llama.cpp cannot load, `StoreError` for files that
    change, are missing or are not what their name says.
    """
    if model.stored is not None:
        return _take_over(store, model, on_bytes)
    weights = parts_in_order(model.weights)
    if len(weights) != len(model.weights):
        raise GgufError(f"{model.weights[0]}: its name says that it is a part of a model, and it does not")
    file = read_parts(weights, arrays=False)
    translation(file)  # refuses what cannot be loaded later
    config = configuration_of(model_facts(file))
    files = [(MediaType.MODEL, path) for path in weights]
    if model.projector is not None:
        read_parts([model.projector], arrays=False)
        files.append((MediaType.PROJECTOR, model.projector))
    hashed = [(media_type, _hashed(path, store, on_bytes)) for media_type, path in files]
    layers = tuple(Layer(media_type, file.digest, file.size) for media_type, file in hashed)
    copied = [store.copy_ahead(file) for _, file in hashed]
    with store.changing():
        placed = tuple(early or store.place(file) for early, (_, file) in zip(copied, hashed, strict=True))
        store.write(model.name, Manifest(store.add_bytes(config, CONFIG_TYPE), layers))
    return TakenIn(model, placed)


def _take_over(store: Store, model: Elsewhere, on_bytes: OnBytes) -> TakenIn:
    """A model of another store, with its manifest as it is."""
    assert model.stored is not None
    files: dict[Digest, HashedFile] = {}
    for path, layer in zip(model.files, model.stored.manifest.blobs, strict=True):
        if layer.digest not in files:
            files[layer.digest] = _hashed(path, store, on_bytes)
        if files[layer.digest].digest != layer.digest:
            raise StoreError(f"{path} is damaged: it is not what its name says")
    copied = [store.copy_ahead(file) for file in files.values()]
    with store.changing():
        placed = tuple(early or store.place(file) for early, file in zip(copied, files.values(), strict=True))
        store.write(model.name, model.stored.manifest, model.stored.data)
    return TakenIn(model, placed)


def _hashed(path: Path, store: Store, on_bytes: OnBytes) -> HashedFile:
    """``path`` with its digest; one that goes by its digest and is here already is believed."""
    try:
        real = path.resolve(strict=True)
        name = real.name.removeprefix("sha256-")
        if len(name) == 64 and set(name) <= set("0123456789abcdef"):
            size = real.stat().st_size
            if store.has_blob(Digest(name), size):
                on_bytes(size)
                return HashedFile.named(real, Digest(name))
        return HashedFile.of(path, on_bytes)
    except OSError as exc:
        raise StoreError(f"{path} cannot be read: {exc.strerror}") from exc


def needs_copies(models: Sequence[Elsewhere], store: Store) -> int:
    """Bytes of files that lie on another device than the store, where they can only be copied."""
    device = store.device()
    sizes = [path.stat() for model in models for path in model.files if path.is_file()]
    return sum(status.st_size for status in sizes if status.st_dev != device)
