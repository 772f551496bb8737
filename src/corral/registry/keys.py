"""The key by which Ollama's registry knows a machine: ed25519, in OpenSSH's format, where Ollama keeps it.

Source: Ollama, ``auth/auth.go``: what is signed is the method, the whole address, and the base64 of the hexadecimal SHA-256 of
nothing, with commas between; what is sent is the public key and the signature, each in base64, with a colon between.
"""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from corral.errors import ConfigError
from corral.store.files import translated, write_atomically

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_NOTHING = base64.b64encode(hashlib.sha256(b"").hexdigest().encode()).decode()


def default_path() -> Path:
    """Where Ollama keeps it, and so do we: models that were pushed with it stay ours."""
    return Path("~/.ollama/id_ed25519").expanduser()


class SigningKey:
    """A key that is made when it is first needed. Methods block on files."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or default_path()

    def sign(self, method: str, url: str) -> str:
        """The ``Authorization`` header for a request to ``url``. Raises `ConfigError`, `StoreError`."""
        key = self._key()
        signature = base64.b64encode(key.sign(f"{method},{url},{_NOTHING}".encode())).decode()
        return f"{_public(key).split()[1]}:{signature}"

    def public(self) -> str:
        """The public key in one line, as a registry's settings page wants it: ``ssh-ed25519 AAAA…``."""
        return _public(self._key())

    def _key(self) -> Ed25519PrivateKey:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_ssh_private_key

        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return self._make()
        except OSError as exc:
            raise ConfigError(f"cannot read the key {self._path}: {exc.strerror}") from exc
        try:
            key = load_ssh_private_key(data, None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
            raise ConfigError(f"{self._path} is not a key in OpenSSH's format without a passphrase: {exc}") from exc
        if not isinstance(key, Ed25519PrivateKey):
            raise ConfigError(f"{self._path} is a key of another kind; Ollama's registry knows ed25519 alone")
        return key

    def _make(self) -> Ed25519PrivateKey:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        key = Ed25519PrivateKey.generate()
        data = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        with translated(self._path.parent, "the folder of the key"):
            write_atomically(self._path, data, mode=0o600)
            write_atomically(self._path.with_name(self._path.name + ".pub"), (_public(key) + os.linesep).encode())
        return key


def _public(key: Ed25519PrivateKey) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
