"""The distribution protocol, as a registry answers it. Source: the OCI distribution specification 1.1."""

from __future__ import annotations

from collections.abc import Sequence

import orjson


def error(code: str, message: str) -> bytes:
    """An error; ``code`` is one of the specification's, such as ``MANIFEST_UNKNOWN``."""
    return orjson.dumps({"errors": [{"code": code, "message": message}]})


def tags(repository: str, names: Sequence[str]) -> bytes:
    """The list of tags."""
    return orjson.dumps({"name": repository, "tags": sorted(set(names))})
