"""The distribution protocol, as a registry answers it. Source: the OCI distribution specification 1.1."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from corral.store.manifest import MANIFEST_TYPE


def error(code: str, message: str) -> bytes:
    """An error; ``code`` is one of the specification's, such as ``MANIFEST_UNKNOWN``."""
    return orjson.dumps({"errors": [{"code": code, "message": message}]})


def tags(repository: str, names: Sequence[str]) -> bytes:
    """The list of tags."""
    return orjson.dumps({"name": repository, "tags": sorted(set(names))})


def media_type(manifest: bytes) -> str:
    """The type by which a manifest goes; one that names none is of Docker's."""
    named = orjson.loads(manifest).get("mediaType")
    return named if isinstance(named, str) and named.isascii() and named.isprintable() else MANIFEST_TYPE
