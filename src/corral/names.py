"""Model names and digests: the only way to make either, and so the only way to a path in the store.

A `ModelName` is complete and valid once it exists; so is a `Digest`. Nothing that a user typed reaches the file
system except through the parts of these two classes, whose alphabet holds no separator and no leading dot.

Grammar: ``[scheme://][host/][namespace/]model[:tag]``; Ollama, ``types/model/name.go``.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from corral.errors import InvalidDigest, InvalidName, InvalidRequest

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}", re.ASCII)
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}", re.ASCII)
_MODEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}", re.ASCII)
_DIGEST = re.compile(r"sha256[:-]([0-9a-fA-F]{64})", re.ASCII)


@dataclass(frozen=True, slots=True)
class ModelName:
    """A complete, valid model name. Make one with `parse` or `from_path`; equality is exact, `key` folds case."""

    host: str
    namespace: str
    model: str
    tag: str
    scheme: str = "https"

    def __post_init__(self) -> None:
        for part, pattern, what in (
            (self.host, _HOST, "host"),
            (self.namespace, _NAMESPACE, "namespace"),
            (self.model, _MODEL, "model"),
            (self.tag, _MODEL, "tag"),
        ):
            if not pattern.fullmatch(part):
                raise InvalidName(str(self), f'"{part}" cannot be a {what}')

    @classmethod
    def parse(cls, text: str) -> ModelName:
        """The name that ``text`` means, with defaults for what it leaves out. Raises `InvalidName`.

        >>> str(ModelName.parse("llama3.2"))
        'registry.ollama.ai/library/llama3.2:latest'
        >>> ModelName.parse("hf.co/me/mine:q4").short
        'hf.co/me/mine:q4'
        """
        scheme, separator, rest = text.partition("://")
        if not separator:
            scheme, rest = "https", text
        path, tag = rest, DEFAULT_TAG
        if rest.rfind(":") > rest.rfind("/"):
            path, _, tag = rest.rpartition(":")
        parts = path.rsplit("/", 2)
        defaults = [DEFAULT_HOST, DEFAULT_NAMESPACE]
        host, namespace, model = [*defaults[: 3 - len(parts)], *parts]
        try:
            return cls(host, namespace, model, tag, scheme)
        except InvalidName as exc:
            raise InvalidName(text, str(exc).partition(": ")[2]) from None

    @classmethod
    def from_path(cls, path: PurePosixPath) -> ModelName:
        """The name that a manifest path (``host/namespace/model/tag``) stands for. Raises `InvalidName`."""
        if len(path.parts) != 4:
            raise InvalidName(str(path), "a manifest lies four levels deep")
        return cls(*path.parts)

    @property
    def path(self) -> PurePosixPath:
        """Where the manifest lies, relative to the folder of manifests."""
        return PurePosixPath(self.host, self.namespace, self.model, self.tag)

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Equal for names that mean the same model: names differ in more than case or not at all."""
        return (self.host.lower(), self.namespace.lower(), self.model.lower(), self.tag.lower())

    @property
    def short(self) -> str:
        """The shortest text that parses to this name, tag always shown.

        >>> ModelName.parse("registry.ollama.ai/library/tiny").short
        'tiny:latest'
        """
        if self.host.lower() != DEFAULT_HOST:
            return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"
        if self.namespace.lower() != DEFAULT_NAMESPACE:
            return f"{self.namespace}/{self.model}:{self.tag}"
        return f"{self.model}:{self.tag}"

    def __str__(self) -> str:
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"


@dataclass(frozen=True, slots=True)
class ModelReference:
    """A model name as a request gives it, and where the model is asked to run."""

    name: ModelName
    source: Literal["any", "local", "cloud"]

    @classmethod
    def parse(cls, text: str) -> ModelReference:
        """Understand ``text`` with its ``:local``, ``:cloud`` or ``-cloud`` suffix.

        Raises `InvalidName`, and `InvalidRequest` for two suffixes at once.
        """
        text = text.strip()
        rest, source = _strip_source(text)
        if source != "any" and _strip_source(rest)[1] != "any":
            raise InvalidRequest(f'use either :local or :cloud, not both: "{text}"')
        return cls(ModelName.parse(rest), source)


def _strip_source(text: str) -> tuple[str, Literal["any", "local", "cloud"]]:
    head, separator, tail = text.rpartition(":")
    suffix = tail.strip().lower()
    if separator and suffix == "cloud":
        return head, "cloud"
    if separator and suffix == "local":
        return head, "local"
    if separator and "/" not in tail and suffix.endswith("-cloud"):
        return f"{head}:{tail.strip()[: -len('-cloud')]}", "cloud"
    return text, "any"


@dataclass(frozen=True, slots=True)
class Digest:
    """A sha256 digest, 64 lower-case hexadecimal digits. Make one with `parse` or from a hash's ``hexdigest``."""

    hex: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{64}", self.hex, re.ASCII):
            raise InvalidDigest(self.hex)

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Understand ``sha256:<hex>`` or ``sha256-<hex>`` in either case. Raises `InvalidDigest`."""
        match = _DIGEST.fullmatch(text)
        if not match:
            raise InvalidDigest(text)
        return cls(match[1].lower())

    @classmethod
    def of(cls, data: bytes) -> Digest:
        """The digest of ``data``."""
        return cls(hashlib.sha256(data).hexdigest())

    @property
    def file_name(self) -> str:
        """The name of the blob in the store."""
        return f"sha256-{self.hex}"

    @property
    def short(self) -> str:
        """The first twelve digits, for people."""
        return self.hex[:12]

    def __str__(self) -> str:
        return f"sha256:{self.hex}"
