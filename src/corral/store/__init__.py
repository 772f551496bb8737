"""Models on disk, in Ollama's layout: manifests by name, blobs by digest. An existing store is used in place."""

from corral.store.files import HashedFile, Placed
from corral.store.manifest import Layer, Manifest, MediaType
from corral.store.store import Removed, RemovedFile, Store, StoredManifest

__all__ = [
    "HashedFile",
    "Layer",
    "Manifest",
    "MediaType",
    "Placed",
    "Removed",
    "RemovedFile",
    "Store",
    "StoredManifest",
]
