"""What the files are that somebody wants a model made of: weights, projectors, adapters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

from corral.durations import quoted
from corral.errors import GgufError, InvalidRequest
from corral.gguf import GgufFile, parts_in_order, read_gguf, read_parts
from corral.gguf.naming import is_projector
from corral.gguf.ollama import as_translated, translation
from corral.gguf.reader import MAGIC, TensorInfo

Shape = tuple[int, ...]  # the fastest dimension first
_PROJECTOR_TYPES = ("mmproj", "projector")


@dataclass(frozen=True, slots=True)
class Ingredients:
    """The files of one model: all parts of its weights in order, and what turns images and sounds into tokens for it."""

    weights: tuple[Path, ...]
    projectors: tuple[Path, ...]


def is_safetensors(files: Mapping[str, Path]) -> bool:
    """Whether the files have to be converted first."""
    return any(name.lower().endswith(".safetensors") for name in files)


def sort_out(files: Mapping[str, Path]) -> Ingredients:
    """The model in ``files``, which have the names that somebody gave them. Raises `InvalidRequest`."""
    _check_kind(files)
    models: dict[str, Path] = {}
    projectors: list[Path] = []
    for name, path in files.items():
        file = read_named(name, path, alone=len(files) == 1)
        kind, architecture = file.metadata.get("general.type"), file.metadata.get("general.architecture")
        if kind == "adapter":
            raise InvalidRequest(
                f"{quoted(name)} is an adapter; a model is needed, and the adapter goes into 'adapters'"
            )
        if kind in _PROJECTOR_TYPES or architecture == "clip" or is_projector(PurePath(name)):
            projectors.append(path)
        else:
            models[name] = path
    if not models:
        raise InvalidRequest("there are projectors, but no model among the files")
    return Ingredients(_one_model(models), tuple(projectors))


def read_named(name: str, path: Path, *, alone: bool = True) -> GgufFile:
    """The file that somebody calls ``name``. Raises `InvalidRequest` where it is no GGUF, with its name if it is not ``alone``."""
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise InvalidRequest("supplied file was not in GGUF format" + ("" if alone else f": {quoted(name)}"))
        return read_gguf(path, arrays=False)
    except OSError as exc:
        raise InvalidRequest(f"{quoted(name)} cannot be read: {exc.strerror}") from exc
    except GgufError as exc:
        raise InvalidRequest(f"{quoted(name)} cannot be used: {exc}") from exc


def check_adapter(name: str, path: Path, base: tuple[Path, ...]) -> None:
    """Whether the file that somebody calls ``name`` is an adapter for the model in ``base``. Raises `InvalidRequest`."""
    adapter = read_named(name, path)
    metadata = adapter.metadata
    if metadata.get("general.type") != "adapter":
        raise InvalidRequest(f"{quoted(name)} is not an adapter: its general.type is {metadata.get('general.type')!r}")
    if metadata.get("adapter.type") != "lora":
        raise InvalidRequest(
            f"{quoted(name)} is an adapter of the type {metadata.get('adapter.type')!r}; lora can be used"
        )
    model = read_parts(base, arrays=False)
    if found := translation(model):  # adapters are in llama.cpp's dialect
        model = as_translated(model, found.model)
    of_adapter, of_model = (file.metadata.get("general.architecture") for file in (adapter, model))
    if of_adapter != of_model:
        raise InvalidRequest(f"the adapter {quoted(name)} is for {of_adapter} models, and this one is {of_model}")
    _check_tensors(name, adapter, {tensor.name: tensor for tensor in model.tensors})


def _check_tensors(name: str, adapter: GgufFile, base: Mapping[str, TensorInfo]) -> None:
    """Each pair of an adapter changes a tensor of the model, and has its shape. Source: llama.cpp, ``llama-adapter.cpp``."""
    pairs: dict[str, dict[str, TensorInfo]] = {}
    for tensor in adapter.tensors:
        changed, _, half = tensor.name.rpartition(".lora_")
        if half in ("a", "b"):
            pairs.setdefault(changed, {})[half] = tensor
        elif not tensor.name.endswith("_norm.weight"):
            raise InvalidRequest(
                f"the adapter {quoted(name)} has the tensor {quoted(tensor.name)}, which is of no known kind"
            )
    if not pairs:
        raise InvalidRequest(f"the adapter {quoted(name)} changes nothing: it has no pair of lora tensors")
    for changed, pair in pairs.items():
        target = base.get(changed)
        if len(pair) != 2:
            raise InvalidRequest(f"the adapter {quoted(name)} has only one half of the change of {quoted(changed)}")
        if target is None:
            raise InvalidRequest(
                f"the adapter {quoted(name)} is for another model: it changes {quoted(changed)}, which this one does not have"
            )
        if not _fits(
            pair["a"].shape, pair["b"].shape, target.shape, is_embedding=changed.endswith("token_embd.weight")
        ):
            raise InvalidRequest(
                f"the adapter {quoted(name)} is for another model: {quoted(changed)} has the shape {list(target.shape)} here"
            )


def _fits(a: Shape, b: Shape, target: Shape, *, is_embedding: bool) -> bool:
    if min(len(a), len(b), len(target)) < 2:
        return False
    if is_embedding:
        return (b[1], a[1]) == target[:2] and a[0] == b[0]
    return (a[0], b[1]) == target[:2] and a[1] == b[0]


def _check_kind(files: Mapping[str, Path]) -> None:
    if not any(name.lower().endswith(".gguf") or _has_magic(path) for name, path in files.items()):
        raise InvalidRequest("unknown type")


def _has_magic(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _one_model(models: Mapping[str, Path]) -> tuple[Path, ...]:
    names = ", ".join(map(quoted, models))
    paths = tuple(dict.fromkeys(models.values()))
    try:
        weights = parts_in_order(paths)
        file = read_parts(weights, arrays=False)
        translation(file)  # says what the engine could not load, whatever is done to it
    except GgufError as exc:
        raise InvalidRequest(f"{names} cannot be used: {exc}") from exc
    if len(weights) != len(paths):
        raise InvalidRequest(f"there is more than one model among the files: {names}")
    if not isinstance(file.metadata.get("general.architecture"), str) or not file.tensors:
        raise InvalidRequest(f"{names} cannot be used: it is a GGUF, but no model")
    return weights
