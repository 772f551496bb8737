"""One batch on the disk: what it is, and the results so far, one a line, written as they come.

A kill at any moment loses requests that were being answered, and nothing else: a line that is not whole is cut off at the next
start.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from corral.dialects.batches import objects
from corral.dialects.batches.requests import Line, Wrong, read_lines
from corral.store.files import translated, write_atomically

_WHAT = "the folder of batches"
_MOST_ERRORS = 100


class Work:
    """One batch. Methods that touch the disk may raise `StoreError`."""

    def __init__(self, folder: Path, batch: objects.Batch, settings: dict[str, Any]) -> None:
        self.batch = batch
        self.settings = settings  # what is not in the object: how long its results are kept
        self.lines: list[Line] = []
        self.wrong: list[Wrong] = []
        self._folder = folder
        self._results = folder / "results.jsonl"
        self._done: dict[
            int, tuple[int, int, bool]
        ] = {}  # by line: where its result stands, how long it is, whether it is good
        self._usage = objects.nothing_used()

    @classmethod
    def load(cls, folder: Path) -> Work:
        """What a folder holds. Raises `OSError`, `ValueError`, `KeyError`."""
        kept = orjson.loads((folder / "batch.json").read_bytes())
        return cls(folder, kept["batch"], kept["settings"])

    @property
    def ended(self) -> bool:
        """Whether nothing more is to be done."""
        return self.batch["status"] in objects.ENDED

    def change(self, **changes: Any) -> None:
        """Change the batch, on the disk first."""
        self.keep({**self.batch, **changes})

    def keep(self, batch: objects.Batch) -> None:
        """Put the batch on the disk."""
        with translated(self._folder, _WHAT):
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            content = orjson.dumps({"batch": batch, "settings": self.settings})
            write_atomically(self._folder / "batch.json", content, 0o600)
        self.batch = batch

    def read(self, source: Path, most: int) -> None:
        """Read the requests, and the results that are there already."""
        self.lines, self.wrong = [], []
        with translated(source, "a file of a batch"), source.open("rb") as file:
            for found in read_lines(iter(file), self.batch["endpoint"]):
                if isinstance(found, Line):
                    self.lines.append(found)
                elif len(self.wrong) < _MOST_ERRORS:
                    self.wrong.append(found)
                if len(self.lines) > most:
                    text = f"the file has more than {most:,} requests; CORRAL_BATCH_REQUESTS sets how many one may have"
                    self.wrong = [Wrong("too_many_requests", text)]
                    return
        if not self.lines and not self.wrong:
            self.wrong.append(Wrong("empty_file", "the file has no requests"))
        self._read_results()

    def _read_results(self) -> None:
        self._done, self._usage = {}, objects.nothing_used()
        if not self._results.exists():
            return
        with translated(self._folder, _WHAT), self._results.open("r+b") as file:
            start = 0
            for data in file:
                try:
                    result = orjson.loads(data) if data.endswith(b"\n") else None
                except orjson.JSONDecodeError:
                    result = None
                if result is None:
                    file.truncate(start)  # the server ended while it was written
                    break
                self._note(result, start, len(data))
                start += len(data)

    def _note(self, result: dict[str, Any], start: int, size: int) -> None:
        self._done[result["line"]] = (start, size, result["good"])
        objects.add_usage(self._usage, result["result"])

    def left(self) -> list[Line]:
        """The requests that have no result."""
        return [line for line in self.lines if line.number not in self._done]

    def add(self, line: Line, result: dict[str, Any], *, good: bool) -> None:
        """Write the result of a request."""
        entry = {"line": line.number, "good": good, "result": result}
        data = orjson.dumps(entry) + b"\n"
        with translated(self._folder, _WHAT):
            descriptor = os.open(self._results, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
            try:
                start = os.fstat(descriptor).st_size
                os.write(descriptor, data)
            finally:
                os.close(descriptor)
        self._note(entry, start, len(data))

    @property
    def counts(self) -> dict[str, int]:
        """How many requests there are, and how many were answered."""
        good = sum(is_good for _, _, is_good in self._done.values())
        return {"total": len(self.lines), "completed": good, "failed": len(self._done) - good}

    @property
    def usage(self) -> dict[str, Any]:
        """The tokens of all that was answered."""
        return self._usage

    def results(self, *, good: bool) -> Iterator[bytes]:
        """The results that are ``good``, or the others, in the order of the requests, as lines of a file for the client."""
        if not self._done:
            return
        with self._results.open("rb") as file:
            for _, (start, size, is_good) in sorted(self._done.items()):
                if is_good is good:
                    file.seek(start)
                    yield orjson.dumps(orjson.loads(file.read(size))["result"]) + b"\n"

    def unanswered(self, status: str) -> Iterator[bytes]:
        """What is said of the requests that have no result."""
        for line in self.left():
            yield orjson.dumps(objects.unanswered(new_request_id(), line.custom_id, status)) + b"\n"

    def tidy(self) -> None:
        """Remove the results, which are in files of their own now."""
        self._results.unlink(missing_ok=True)

    def remove(self) -> None:
        """Forget the batch."""
        shutil.rmtree(self._folder, ignore_errors=True)


def new_request_id() -> str:
    """A name for one request of a batch."""
    return f"batch_req_{secrets.token_hex(12)}"
