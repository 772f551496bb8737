"""Responses that are kept, so that the next request can build on one: in memory, or in a file of the data folder.

A response is kept with the items of its own request and of its answer, each once. A conversation is read along
``previous_response_id``. What was not used for longest goes first when there is no room.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from corral.config import Settings
from corral.dialects.gojson import dumps
from corral.errors import StoreError

Json = dict[str, Any]

_TABLES = """
CREATE TABLE IF NOT EXISTS responses (
  id TEXT PRIMARY KEY, created REAL NOT NULL, used REAL NOT NULL, previous TEXT, bytes INTEGER NOT NULL,
  finished INTEGER NOT NULL, response BLOB NOT NULL, events BLOB
);
CREATE INDEX IF NOT EXISTS by_use ON responses (used);
CREATE TABLE IF NOT EXISTS items (
  response TEXT NOT NULL, place INTEGER NOT NULL, output INTEGER NOT NULL, id TEXT NOT NULL, item BLOB NOT NULL,
  PRIMARY KEY (response, place)
);
CREATE INDEX IF NOT EXISTS by_id ON items (id);
"""
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept, and how long."""

    max_count: int
    max_bytes: int
    ttl_s: float


class Remembered:
    """The responses that are kept. Used by one task at a time; each call is short. All may raise `StoreError`."""

    def __init__(self, path: Path | None, bounds: Bounds) -> None:
        """In the file ``path``, which nobody else can read, or in memory alone."""
        self._bounds = bounds
        with _translated(path):
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._db = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None)
            self._path = path
            self._db.execute("PRAGMA secure_delete = ON")  # what is deleted is nowhere
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")  # a power cut may cost the last ones, and no more
            if self._db.execute("PRAGMA user_version").fetchone()[0] > _VERSION:
                raise sqlite3.DatabaseError("it was written by a newer Corral")
            self._db.executescript(f"{_TABLES} PRAGMA user_version = {_VERSION};")

    @classmethod
    def of(cls, settings: Settings) -> Remembered | None:
        """As the settings say; ``None`` where nothing is kept."""
        if settings.responses == "off":
            return None
        path = settings.data / "responses" / "responses.db" if settings.responses == "disk" else None
        bounds = Bounds(settings.responses_count, settings.responses_bytes, settings.responses_ttl)
        return cls(path, bounds)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def put(self, response: Json, inputs: Sequence[Json], *, finished: bool, events: bytes | None = None) -> None:
        """Keep a response with the items of its request, in place of what was kept of it before."""
        entries = [(False, item) for item in inputs] + [(True, item) for item in response["output"]]
        rows = [
            (response["id"], place, output, str(item["id"]), dumps(item))
            for place, (output, item) in enumerate(entries)
        ]
        body, now = dumps({**response, "output": []}), time.time()
        size = len(body) + sum(len(row[4]) for row in rows) + len(events or b"")
        with self._changing() as db:
            db.execute("DELETE FROM items WHERE response = ?", (response["id"],))
            db.execute(
                "INSERT OR REPLACE INTO responses VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    response["id"], response["created_at"], now, response["previous_response_id"], size, finished, body, events,
                ),
            )  # fmt: skip
            db.executemany("INSERT INTO items VALUES (?, ?, ?, ?, ?)", rows)
            self._forget(db, now)

    def get(self, response_id: str) -> Json | None:
        """A response; ``None`` when it is not kept, or not any longer."""
        with self._changing() as db:
            row = db.execute(
                "SELECT response FROM responses WHERE id = ? AND created > ?", (response_id, self._oldest())
            ).fetchone()
            if row is None:
                return None
            response: Json = orjson.loads(row[0])
            return {**response, "output": self._items(db, response_id, "AND output")}

    def events(self, response_id: str) -> bytes | None:
        """The events of a response that was a stream in the background and has ended."""
        with self._changing() as db:
            row = db.execute("SELECT events FROM responses WHERE id = ?", (response_id,)).fetchone()
            return row[0] if row else None

    def inputs(self, response_id: str) -> list[Json]:
        """The items of the request that a response answers."""
        with self._changing() as db:
            return self._items(db, response_id, "AND NOT output")

    def conversation(self, response_id: str) -> list[Json] | None:
        """All items up to and with a response, oldest first; ``None`` when a part of them is not kept any longer.

        They are young again: what is built on stays.
        """
        with self._changing() as db:
            chain: list[str] = []
            wanted: str | None = response_id
            while wanted is not None:
                row = db.execute(
                    "SELECT previous FROM responses WHERE id = ? AND created > ?", (wanted, self._oldest())
                ).fetchone()
                if row is None:
                    return None
                chain.append(wanted)
                wanted = row[0]
            db.executemany("UPDATE responses SET used = ? WHERE id = ?", [(time.time(), name) for name in chain])
            return [item for name in reversed(chain) for item in self._items(db, name)]

    def item(self, item_id: str) -> Json | None:
        """An item of any response that is kept."""
        with self._changing() as db:
            row = db.execute("SELECT item FROM items WHERE id = ? LIMIT 1", (item_id,)).fetchone()
            return orjson.loads(row[0]) if row else None

    def delete(self, response_id: str) -> bool:
        """Forget a response; whether it was there."""
        with self._changing() as db:
            db.execute("DELETE FROM items WHERE response = ?", (response_id,))
            return db.execute("DELETE FROM responses WHERE id = ?", (response_id,)).rowcount > 0

    def unfinished(self) -> list[str]:
        """Responses that were begun and did not end: by a server that is not there any more, if asked at the start."""
        with self._changing() as db:
            return [row[0] for row in db.execute("SELECT id FROM responses WHERE NOT finished")]

    def _items(self, db: sqlite3.Connection, response_id: str, which: str = "") -> list[Json]:
        found = db.execute(f"SELECT item FROM items WHERE response = ? {which} ORDER BY place", (response_id,))  # noqa: S608
        return [orjson.loads(row[0]) for row in found]

    def _oldest(self) -> float:
        """Responses created before are too old."""
        return time.time() - self._bounds.ttl_s

    def _forget(self, db: sqlite3.Connection, now: float) -> None:
        """Make room: what is too old goes, then what was not used for longest. One that is at work stays."""
        gone = [
            row[0]
            for row in db.execute(
                "SELECT id FROM responses WHERE finished AND created <= ?", (now - self._bounds.ttl_s,)
            )
        ]
        count, total = db.execute("SELECT COUNT(*), COALESCE(SUM(bytes), 0) FROM responses").fetchone()
        if count - len(gone) > self._bounds.max_count or total > self._bounds.max_bytes:
            for name, size in db.execute("SELECT id, bytes FROM responses WHERE finished ORDER BY used, rowid"):
                if count - len(gone) <= self._bounds.max_count and total <= self._bounds.max_bytes:
                    break
                if name not in gone:
                    gone.append(name)
                    total -= size
        db.executemany("DELETE FROM items WHERE response = ?", [(name,) for name in gone])
        db.executemany("DELETE FROM responses WHERE id = ?", [(name,) for name in gone])

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """One transaction."""
        with _translated(self._path):
            self._db.execute("BEGIN")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")


@contextmanager
def _translated(path: Path | None) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as exc:
        where = f"in {path}" if path else "in memory"
        raise StoreError(f"responses cannot be kept {where}: {exc}; CORRAL_RESPONSES=off does without") from exc
