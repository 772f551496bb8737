"""Manifests: the list of blobs that make a model, as Ollama and its registry write it.

Source: Docker's image manifest, version 2, schema 2, with Ollama's media types.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from corral.errors import CorruptManifest, InvalidDigest
from corral.names import Digest

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"


class MediaType(StrEnum):
    """What a layer is. Layers of other types are carried along and not used."""

    MODEL = "application/vnd.ollama.image.model"
    ADAPTER = "application/vnd.ollama.image.adapter"
    PROJECTOR = "application/vnd.ollama.image.projector"
    TEMPLATE = "application/vnd.ollama.image.template"
    PROMPT = "application/vnd.ollama.image.prompt"
    SYSTEM = "application/vnd.ollama.image.system"
    PARAMS = "application/vnd.ollama.image.params"
    MESSAGES = "application/vnd.ollama.image.messages"
    LICENSE = "application/vnd.ollama.image.license"


@dataclass(frozen=True, slots=True)
class Layer:
    """One blob of a model. ``origin`` is the model that it was inherited from."""

    media_type: str
    digest: Digest
    size: int
    origin: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The blobs of one model. The order of layers means something: of two templates the later one is used."""

    config: Layer
    layers: tuple[Layer, ...]

    @classmethod
    def parse(cls, data: bytes) -> Manifest:
        """Read a manifest. Raises `CorruptManifest` that says what is wrong; nothing else is believed."""
        try:
            document = orjson.loads(data)
        except orjson.JSONDecodeError as exc:
            raise CorruptManifest(f"it is not JSON: {exc}") from None
        if not isinstance(document, dict):
            raise CorruptManifest("it is not a JSON object")
        layers = document.get("layers")
        if not isinstance(layers, list):
            raise CorruptManifest("it has no list of layers")
        return cls(_layer(document.get("config"), "config"), tuple(_layer(layer, "layers") for layer in layers))

    def serialise(self) -> bytes:
        """As Ollama writes it: compact, one line."""
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": _document(self.config),
            "layers": [_document(layer) for layer in self.layers],
        }
        return orjson.dumps(document) + b"\n"

    @property
    def blobs(self) -> tuple[Layer, ...]:
        """All blobs, config last."""
        return (*self.layers, self.config)

    @property
    def size(self) -> int:
        """Bytes of all blobs together."""
        return sum(layer.size for layer in self.blobs)

    def of_type(self, *media_types: MediaType) -> tuple[Layer, ...]:
        """The layers of these types, in order."""
        return tuple(layer for layer in self.layers if layer.media_type in media_types)


def media_type_of(manifest: bytes) -> str:
    """The type by which a manifest goes; one that names none is of Docker's."""
    named = orjson.loads(manifest).get("mediaType")
    return named if isinstance(named, str) and named.isascii() and named.isprintable() else MANIFEST_TYPE


def _layer(value: Any, where: str) -> Layer:
    if not isinstance(value, dict):
        raise CorruptManifest(f'"{where}" is not what it should be')
    digest, size, media_type = value.get("digest"), value.get("size"), value.get("mediaType")
    if not isinstance(digest, str) or not isinstance(media_type, str):
        raise CorruptManifest(f'an entry of "{where}" lacks a digest or a mediaType')
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise CorruptManifest(f'an entry of "{where}" has the size {size!r}')
    try:
        parsed = Digest.parse(digest)
    except InvalidDigest:
        raise CorruptManifest(f'an entry of "{where}" has the digest {digest[:100]!r}') from None
    return Layer(media_type, parsed, size, str(value.get("from") or ""), str(value.get("name") or ""))


def _document(layer: Layer) -> dict[str, Any]:
    document: dict[str, Any] = {
        "mediaType": layer.media_type,
        "digest": str(layer.digest),
        "size": layer.size,
    }
    if layer.origin:
        document["from"] = layer.origin
    if layer.name:
        document["name"] = layer.name
    return document
