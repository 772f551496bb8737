"""What this machine's user has to show to registries, and where it is kept.

Looked for in this order: what ``corral login`` kept, ``HF_TOKEN`` for Hugging Face, Docker's own ``config.json`` with its helpers.
Source of the latter: Docker's command-line reference and the protocol of ``docker-credential-helpers``.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from corral.errors import ConfigError
from corral.store.files import translated, write_atomically

logger = logging.getLogger(__name__)

HUGGING_FACE = ("hf.co", "huggingface.co")
_DOCKER_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")
_DOCKER_HUB_KEY = "https://index.docker.io/v1/"
_HELPER_S = 20.0


@dataclass(frozen=True, slots=True)
class Credential:
    """A name and a password, or a ``token`` that is sent as it is, or one that is exchanged for others (``identity_token``)."""

    username: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The ``Authorization`` header with name and password (RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()

    @classmethod
    def for_host(cls, host: str, username: str, password: str) -> Credential:
        """What a user typed in; Hugging Face knows tokens alone."""
        return cls(token=password) if normal_host(host) in HUGGING_FACE else cls(username, password)


class Credentials:
    """The credentials of this machine's user. ``path`` is the file that ``corral login`` writes, readable by its owner alone."""

    def __init__(self, path: Path | None = None, environment: Mapping[str, str] = os.environ) -> None:
        self._path = path
        self._environment = environment

    def find(self, host: str) -> Credential | None:
        """What there is for ``host`` (with its port, if it has one). May run a helper of Docker's. Raises `ConfigError`."""
        host = normal_host(host)
        kept = self._kept()
        for other in _names_of(host):
            if (entry := kept.get(other)) is not None:
                return _parsed(entry)
        return self.token(host) or self._docker(host)

    def token(self, host: str) -> Credential | None:
        """What can be shown without being asked: a token in the environment."""
        token = self._environment.get("HF_TOKEN", "").strip()
        return Credential(token=token) if token and normal_host(host) in HUGGING_FACE else None

    def keep(self, host: str, credential: Credential) -> None:
        """Remember ``credential`` for ``host``. Raises `ConfigError`, `StoreError`."""
        entry = {name: value for name in Credential.__slots__ if (value := getattr(credential, name))}
        self._write({**self._kept(), normal_host(host): entry})

    def forget(self, host: str) -> bool:
        """Forget what was kept for ``host``; whether there was anything."""
        kept = self._kept()
        named = set(_names_of(normal_host(host))) & set(kept)
        if not named:
            return False
        self._write({name: entry for name, entry in kept.items() if name not in named})
        return True

    def hosts(self) -> list[str]:
        """The hosts with something kept."""
        return sorted(self._kept())

    def _kept(self) -> dict[str, dict[str, str]]:
        if self._path is None:
            return {}
        document = _json_object(self._path)
        return {host: entry for host, entry in document.items() if isinstance(entry, dict)}

    def _write(self, kept: Mapping[str, Mapping[str, str]]) -> None:
        assert self._path is not None, "nowhere to keep credentials"
        with translated(self._path, "the file of logins"):
            write_atomically(self._path, json.dumps(kept, indent=1).encode(), mode=0o600)

    def _docker(self, host: str) -> Credential | None:
        folder = self._environment.get("DOCKER_CONFIG", "").strip()
        home = Path(self._environment.get("HOME", "") or Path.home())
        try:
            config = _json_object(Path(folder) / "config.json" if folder else home / ".docker" / "config.json")
        except ConfigError as exc:
            logger.warning("%s; it is passed over", exc)
            return None
        keys = (_DOCKER_HUB_KEY, *_DOCKER_HUB) if host in _DOCKER_HUB else (host,)
        helpers = config.get("credHelpers")
        for key in keys:
            helper = helpers.get(key) if isinstance(helpers, dict) else None
            helper = helper or config.get("credsStore")
            if isinstance(helper, str) and helper and (found := _from_helper(helper, key)) is not None:
                return found
        auths = config.get("auths")
        for key, entry in auths.items() if isinstance(auths, dict) else ():
            if isinstance(entry, dict) and (key in keys or _host_of_key(key) in keys):
                return _from_docker(entry)
        return None


def normal_host(host: str) -> str:
    """``host`` in the one spelling under which things are kept for it."""
    return host.strip().lower().removesuffix(":443")


def _names_of(host: str) -> tuple[str, ...]:
    """All names of the registry at ``host``; a login for one is good for the others."""
    return next((names for names in (HUGGING_FACE, _DOCKER_HUB) if host in names), (host,))


def _host_of_key(key: str) -> str:
    """Docker's file has hosts, and addresses of old."""
    return normal_host(key.partition("://")[2].partition("/")[0] if "://" in key else key.partition("/")[0])


def _from_docker(entry: Mapping[str, Any]) -> Credential | None:
    if isinstance(identity := entry.get("identitytoken"), str) and identity:
        return Credential(identity_token=identity)
    if isinstance(token := entry.get("registrytoken"), str) and token:
        return Credential(token=token)
    username, password = entry.get("username"), entry.get("password")
    if isinstance(auth := entry.get("auth"), str) and auth:
        try:
            username, _, password = base64.b64decode(auth, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
    if not isinstance(username, str) or not isinstance(password, str) or not username:
        return None
    return Credential(username, password.rstrip("\0"))


def _from_helper(helper: str, key: str) -> Credential | None:
    """Ask ``docker-credential-<helper>``; what it does not know, it says with a status other than 0."""
    program = shutil.which(f"docker-credential-{helper}") if "/" not in helper else None
    if program is None:
        logger.warning("Docker's configuration names the helper docker-credential-%s, which is not installed", helper)
        return None
    try:
        done = subprocess.run([program, "get"], input=key.encode(), capture_output=True, timeout=_HELPER_S, check=False)
        answer = json.loads(done.stdout) if done.returncode == 0 else None
    except (OSError, subprocess.TimeoutExpired, ValueError) as exc:
        logger.warning("docker-credential-%s: %s", helper, exc)
        return None
    if not isinstance(answer, dict) or not isinstance(secret := answer.get("Secret"), str):
        return None
    username = str(answer.get("Username") or "")
    return Credential(identity_token=secret) if username == "<token>" else Credential(username, secret)


def _parsed(entry: Mapping[str, Any]) -> Credential:
    return Credential(**{name: str(entry.get(name) or "") for name in Credential.__slots__})


def _json_object(path: Path) -> dict[str, Any]:
    """The object in a file, empty if there is no file. Raises `ConfigError`."""
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as exc:
        raise ConfigError(f"cannot read {path}: {exc}; mend it, or move it away") from exc
    if not isinstance(document, dict):
        raise ConfigError(f"cannot read {path}: it does not hold a JSON object; mend it, or move it away")
    return document
