"""Which file of a repository of Hugging Face is meant by a name without a quantisation, and models in several files.

Hugging Face answers the distribution protocol for each of a repository's files by the name of its quantisation, but for none that
is in parts. What is in a repository is said by its own API: path, size and, for large files, SHA-256.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

import orjson

from corral.errors import InvalidDigest, RegistryError
from corral.gguf.naming import models_among, projector_among, quantisation_in
from corral.names import DEFAULT_TAG, Digest, ModelName
from corral.registry.credentials import HUGGING_FACE, normal_host
from corral.registry.repository import Repository
from corral.store import Layer, Manifest, MediaType
from corral.store.manifest import CONFIG_TYPE

_MAX_PAGES = 20
_WHOLE_NUMBERS = {"BF16", "F16", "FP16", "F32", "FP32"}  # more bits than anybody can tell from eight
_SPARE_BYTES = 512 << 20
_SPARE_SHARE = 0.1  # of the weights: context and working memory


@dataclass(frozen=True, slots=True)
class File:
    """A file of a repository."""

    path: str
    size: int
    digest: Digest


@dataclass(frozen=True, slots=True)
class Offer:
    """A model that a repository has: one quantisation, in one file or several. ``label`` is empty where its name has none."""

    label: str
    files: tuple[File, ...]

    @property
    def tag(self) -> str:
        """What to ask the registry for."""
        return self.label or PurePosixPath(self.files[0].path).name

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the offers, and why."""

    offer: Offer
    reason: str


def is_hugging_face(name: ModelName) -> bool:
    """Whether ``name`` is a repository there."""
    return normal_host(name.host) in HUGGING_FACE


def leaves_the_choice(name: ModelName) -> bool:
    """Whether ``name`` says no quantisation."""
    return is_hugging_face(name) and name.tag == DEFAULT_TAG


async def files_of(repository: Repository, name: ModelName) -> list[File]:
    """The GGUF files of ``name``. Raises `RegistryError`."""
    files: list[File] = []
    page = f"/api/models/{name.namespace}/{name.model}/tree/main?recursive=true"
    for _ in range(_MAX_PAGES):
        entries, page = await repository.document(page)
        if not isinstance(entries, list):
            raise RegistryError(f"the list of files of {name.short} is none")
        files += _files(entries)
        if not page:
            break
    return files


def offers(files: Sequence[File]) -> list[Offer]:
    """The models among ``files``; one that lacks a part is none."""
    models = models_among(files, _path)
    return [Offer(quantisation_in(_path(parts[0])), parts) for parts in models]


def best(offers: Sequence[Offer], memory_bytes: int, here: Set[Digest] = frozenset()) -> Choice:
    """The offer that answers best of those that fit into ``memory_bytes``, or the one of which the files are ``here`` already.

    Eight bits are as good as sixteen, so files with whole numbers are chosen only where there is nothing else.
    """
    for offer in offers:
        if here & {file.digest for file in offer.files}:
            return Choice(offer, "it is the one that is here")
    small = [offer for offer in offers if offer.label.upper() not in _WHOLE_NUMBERS] or list(offers)
    fitting = [offer for offer in small if offer.size * (1 + _SPARE_SHARE) + _SPARE_BYTES <= memory_bytes]
    memory = f"{memory_bytes / 1e9:.1f} GB of memory"
    if fitting:
        largest = max(fitting, key=lambda offer: offer.size)
        return Choice(largest, f"the best of {len(offers)} that fits in {memory}")
    return Choice(min(small, key=lambda offer: offer.size), f"the smallest of {len(offers)}; none fits in {memory}")


def named(offers: Sequence[Offer], tag: str) -> Offer | None:
    """The offer that ``tag`` means: the name of a quantisation, or of a file."""
    wanted = tag.lower()
    for offer in offers:
        if wanted in (offer.label.lower(), PurePosixPath(offer.files[0].path).name.lower()):
            return offer
    return None


def manifest_of(offer: Offer, files: Sequence[File]) -> tuple[bytes, Manifest]:
    """A configuration, and the manifest that names it, for a model in parts; with a projector if ``files`` have one."""
    config = orjson.dumps(
        {
            "model_format": "gguf",
            "model_family": "",  # the files themselves say it
            "model_families": None,
            "model_type": "",
            "file_type": offer.label.upper(),
            "architecture": "amd64",
            "os": "linux",
        }
    )
    layers = [
        Layer(MediaType.MODEL, file.digest, file.size, name=PurePosixPath(file.path).name) for file in offer.files
    ]
    if (projector := projector_of(files)) is not None:
        layers.append(Layer(MediaType.PROJECTOR, projector.digest, projector.size))
    return config, Manifest(Layer(CONFIG_TYPE, Digest.of(config), len(config)), tuple(layers))


def projector_of(files: Sequence[File]) -> File | None:
    """What turns images into tokens, if there is such a file."""
    return projector_among(files, _path)


def path_of(name: ModelName, file: File) -> str:
    """Where a file is to be had."""
    return f"/{name.namespace}/{name.model}/resolve/main/{quote(file.path)}"


def _files(entries: Sequence[Any]) -> Iterator[File]:
    """The GGUF files of a list; only large files have their SHA-256 in it, and those are all that matter."""
    for entry in entries:
        path = str(entry.get("path", "")) if isinstance(entry, dict) else ""
        if not path.lower().endswith(".gguf") or not path.isprintable():
            continue
        stored = entry.get("lfs")
        if not isinstance(stored, dict) or not isinstance(size := stored.get("size"), int) or size < 0:
            continue
        try:
            digest = Digest(str(stored.get("oid")).removeprefix("sha256:"))
        except InvalidDigest:
            continue
        yield File(path, size, digest)


def _path(file: File) -> PurePosixPath:
    return PurePosixPath(file.path)
