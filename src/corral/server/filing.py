"""Files that clients send to be worked on, and those that are made for them: in the data folder, for its owner alone.

The bytes of a file are ``ID.data``, what is known of it is ``ID.json``, which is written last: a file is there when both are.
"""

from __future__ import annotations

import logging
import os
import secrets
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson

from corral.dialects.refusals import Refusal
from corral.durations import FOREVER_S
from corral.server.forms import too_large
from corral.store.files import settle, sync_folder, translated, write_atomically

logger = logging.getLogger(__name__)

File = dict[str, Any]

_WHAT = "the folder of files"


class Incoming:
    """A file that is coming in. Raises `OSError`. As a context manager: what was not kept is gone at the end."""

    def __init__(self, folder: Path, most: int) -> None:
        descriptor, name = tempfile.mkstemp(".part", "", folder)
        self.path = Path(name)
        self.size = 0
        self._file = os.fdopen(descriptor, "wb")
        self._most = most

    def __enter__(self) -> Incoming:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)

    def write(self, chunk: bytes) -> None:
        """What follows. Raises `Refusal` when it is too much."""
        self.size += len(chunk)
        if self.size > self._most:
            raise too_large(self._most)
        self._file.write(chunk)

    def settle(self) -> None:
        """Have all of it on the disk."""
        self._file.flush()
        settle(self._file.fileno(), 0o600)


class Files:
    """The files that are kept. Methods that touch the disk may raise `StoreError`."""

    def __init__(self, folder: Path, *, file_bytes: int, total_bytes: int) -> None:
        self._folder = folder
        self._file_bytes, self._total_bytes = file_bytes, total_bytes
        self._known: dict[str, File] = {}

    def open(self) -> None:
        """Read what is there, and remove what is no file, or not any longer."""
        if not self._folder.is_dir():
            return
        for path in sorted(self._folder.glob("*.json")):
            try:
                file = orjson.loads(path.read_bytes())
                if path.with_suffix(".data").stat().st_size == file["bytes"]:
                    self._known[file["id"]] = file
            except (OSError, ValueError, KeyError, TypeError) as exc:
                logger.warning("%s is not a file that can be used: %s", path, exc)
        for path in self._folder.iterdir():
            whole = path.suffix in (".json", ".data") and path.stem in self._known
            if not whole and path.suffix in (".json", ".data", ".part"):
                path.unlink(missing_ok=True)

    def incoming(self, *, own: bool = False) -> Incoming:
        """A file to be written; ``own`` is one that is made here, which may have any size."""
        with translated(self._folder, _WHAT):
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            return Incoming(self._folder, 2**63 if own else self._file_bytes)

    def keep(
        self,
        incoming: Incoming,
        *,
        filename: str,
        purpose: str,
        expires_after_s: float = FOREVER_S,
        file_id: str = "",
    ) -> File:
        """Make it a file. Raises `Refusal` where there is no room."""
        self.sweep()
        total = sum(file["bytes"] for file in self._known.values()) + incoming.size
        if total > self._total_bytes:
            raise Refusal(
                507,
                f"the files here would have {total:,} bytes together, and {self._total_bytes:,} are allowed; delete some",
            )
        created = int(time.time())
        file: File = {
            "id": file_id or f"file-{secrets.token_hex(12)}",
            "object": "file",
            "bytes": incoming.size,
            "created_at": created,
            "expires_at": None if expires_after_s == FOREVER_S else int(created + expires_after_s),
            "filename": filename,
            "purpose": purpose,
            "status": "processed",
        }
        with translated(self._folder, _WHAT):
            incoming.settle()
            incoming.path.replace(self._folder / f"{file['id']}.data")
            sync_folder(self._folder)
            write_atomically(self._folder / f"{file['id']}.json", orjson.dumps(file), 0o600)
        self._known[file["id"]] = file
        return file

    def list(self) -> list[File]:
        """All of them, oldest first."""
        self.sweep()
        return sorted(self._known.values(), key=lambda file: (file["created_at"], file["id"]))

    def get(self, file_id: str) -> File:
        """One. Raises `Refusal`."""
        self.sweep()
        try:
            return self._known[file_id]
        except KeyError:
            raise Refusal(404, f"No such File object: {file_id}", param="id") from None

    def path(self, file_id: str) -> Path:
        """Where the bytes of one are. Raises `Refusal`."""
        return self._folder / f"{self.get(file_id)['id']}.data"

    def delete(self, file_id: str) -> None:
        """Raises `Refusal`."""
        self.get(file_id)
        self._remove(file_id)

    def sweep(self) -> None:
        """Remove those whose time has passed."""
        now = time.time()
        for file in [file for file in self._known.values() if file["expires_at"] and file["expires_at"] <= now]:
            self._remove(file["id"])

    def _remove(self, file_id: str) -> None:
        del self._known[file_id]
        with translated(self._folder, _WHAT):
            (self._folder / f"{file_id}.json").unlink(missing_ok=True)
            (self._folder / f"{file_id}.data").unlink(missing_ok=True)
