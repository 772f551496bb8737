"""OpenAI's batches: the work on them beside live traffic, which goes first.

Each request is asked of this server's own app, so a batch can do what a client can. A batch is a task that reads its file, has some
requests answered at a time, and writes each result before the next begins; after a restart it goes on with those that have none.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
from anyio import to_thread
from starlette.types import ASGIApp

from corral.dialects.batches import objects
from corral.dialects.batches.requests import Create, Line, Wrong, body_of
from corral.dialects.refusals import Refusal
from corral.durations import FOREVER_S
from corral.errors import CorralError
from corral.runtime.requests import in_background
from corral.server.batch_work import Work, new_request_id
from corral.server.filing import Files
from corral.server.inflight import Inflight
from corral.server.inside import ask

logger = logging.getLogger(__name__)

_MOST_KEPT = 1000  # batches that have ended
_PATIENCE_S = (1, 2, 4, 8, 16, 32)  # between tries of a request for which the server was too busy


class Batches:
    """The batches of this server. Whoever opens it closes it."""

    def __init__(
        self, folder: Path, files: Files, app: ASGIApp, inflight: Inflight, *, parallel: int, most_requests: int
    ) -> None:
        self._folder = folder
        self._files = files
        self._app = app
        self._inflight = inflight
        self._most_requests = most_requests
        self._turns = asyncio.Semaphore(parallel)
        self._works: dict[str, Work] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._scopes: dict[str, anyio.CancelScope] = {}  # of those whose requests are being answered

    def open(self) -> None:
        """Go on with what a server before this one left."""
        for path in sorted(self._folder.glob("*/batch.json")):
            try:
                work = Work.load(path.parent)
            except (OSError, ValueError, KeyError) as exc:
                logger.warning("%s is not a batch that can be used: %s", path, exc)
                continue
            self._works[work.batch["id"]] = work
            if not work.ended:
                self._start(work)

    async def close(self) -> None:
        """Stop; the next server goes on."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def create(self, wanted: Create, output_ttl_s: float) -> objects.Batch:
        """Begin a batch. Raises `StoreError`, `Refusal`."""
        self._files.get(wanted.input_file_id)
        batch_id = f"batch_{secrets.token_hex(12)}"
        batch = objects.begun(wanted, batch_id, int(time.time()))
        work = Work(
            self._folder / batch_id, batch, {"output_ttl_s": None if output_ttl_s == FOREVER_S else output_ttl_s}
        )
        work.keep(batch)
        self._forget()
        self._works[batch_id] = work
        self._start(work)
        return batch

    def get(self, batch_id: str) -> objects.Batch:
        """One. Raises `Refusal`."""
        try:
            return self._works[batch_id].batch
        except KeyError:
            raise Refusal(404, f"No batch found with id '{batch_id}'.", param="batch_id") from None

    def list(self) -> list[objects.Batch]:
        """All of them, oldest first."""
        return sorted((work.batch for work in self._works.values()), key=lambda one: (one["created_at"], one["id"]))

    def reading(self, file_id: str) -> str | None:
        """The batch that reads a file, if one does."""
        works = self._works.values()
        return next((w.batch["id"] for w in works if not w.ended and w.batch["input_file_id"] == file_id), None)

    def cancel(self, batch_id: str) -> objects.Batch:
        """Have a batch end; what it has by now is given out. Raises `Refusal`, `StoreError`."""
        self.get(batch_id)
        work = self._works[batch_id]
        if work.ended:
            raise Refusal(400, f"{batch_id} cannot be cancelled: it is {work.batch['status']}")
        if work.batch["status"] in ("validating", "in_progress"):
            work.change(status="cancelling", cancelling_at=int(time.time()))
            if scope := self._scopes.get(batch_id):
                scope.cancel()
        return work.batch

    def _start(self, work: Work) -> None:
        name = work.batch["id"]
        self._tasks[name] = asyncio.create_task(self._work(work))

    def _forget(self) -> None:
        ended = [batch["id"] for batch in self.list() if batch["status"] in objects.ENDED]
        for batch_id in ended[: max(0, len(ended) + 1 - _MOST_KEPT)]:
            self._works.pop(batch_id).remove()

    async def _work(self, work: Work) -> None:
        name = work.batch["id"]
        in_background.set(True)
        try:
            with self._inflight.request():
                await self._through(work)
        except CorralError as exc:
            logger.error("%s: %s", name, exc)
            self._fail(work, str(exc))
        except Exception:
            logger.exception("%s", name)
            self._fail(work, "internal error; the server's log says more")
        finally:
            self._tasks.pop(name, None)
            self._scopes.pop(name, None)

    def _fail(self, work: Work, why: str) -> None:
        failed = objects.failed(work.batch, [Wrong("server_error", why)], int(time.time()))
        try:
            work.keep(failed)
        except CorralError:  # a full disk, said above
            work.batch = failed

    async def _through(self, work: Work) -> None:
        """All that is left to do for a batch."""
        source = self._files.path(work.batch["input_file_id"])
        await to_thread.run_sync(work.read, source, self._most_requests)
        if work.wrong:
            work.keep(objects.failed(work.batch, work.wrong, int(time.time())))
            logger.info("%s failed: %s", work.batch["id"], work.wrong[0].message)
            return
        work.batch["request_counts"] = work.counts
        if work.batch["status"] == "validating":
            work.change(status="in_progress", in_progress_at=int(time.time()))
        if work.batch["status"] == "in_progress":
            name, left_s = work.batch["id"], work.batch["expires_at"] - time.time()
            with anyio.move_on_after(max(0, left_s)) as self._scopes[name]:
                await self._answer_all(work, source)
        if self._inflight.closing:
            return
        await self._finish(work)

    async def _answer_all(self, work: Work, source: Path) -> None:
        """Have every request answered that has no result. A failure of one's own ends all of them."""
        tasks: set[asyncio.Task[None]] = set()
        try:
            for line in work.left():
                await self._turns.acquire()
                if self._inflight.closing:
                    self._turns.release()
                    break
                task = asyncio.create_task(self._answer(work, source, line))
                tasks.add(task)
                task.add_done_callback(lambda _: self._turns.release())
                for ended in [task for task in tasks if task.done()]:
                    tasks.discard(ended)
                    ended.result()
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            with anyio.CancelScope(shield=True):  # their slots are free when this returns
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, work: Work, source: Path, line: Line) -> None:
        body = body_of(await to_thread.run_sync(_piece, source, line.start, line.size))
        request_id = new_request_id()
        for wait_s in (*_PATIENCE_S, None):
            answer = await ask(self._app, work.batch["endpoint"], body, request_id)
            if self._inflight.closing and answer.status >= 500:
                return  # it was answered only that the server ends
            if answer.status != 503 or wait_s is None:
                break
            await anyio.sleep(wait_s)
        result = objects.answered(request_id, line.custom_id, answer.status, answer.body)
        work.add(line, result, good=answer.status < 400)
        work.batch["request_counts"] = work.counts
        if work.batch["model"] is None and isinstance(result["response"]["body"], dict):
            work.batch["model"] = result["response"]["body"].get("model")

    async def _finish(self, work: Work) -> None:
        """Give out the results. The names of their files are decided first, so that a restart makes no second ones."""
        status, named = work.batch["status"], work.batch["finalizing_at"]
        outcome = "cancelled" if status == "cancelling" else "expired" if work.left() else "completed"
        if named is None:
            good, bad = (work.counts[name] for name in ("completed", "failed"))
            work.change(
                status="cancelling" if outcome == "cancelled" else "finalizing",
                finalizing_at=int(time.time()),
                request_counts=work.counts,
                usage=work.usage,
                output_file_id=_file_id() if good else None,
                error_file_id=_file_id() if bad or work.left() else None,
            )

        def errors() -> Iterator[bytes]:
            yield from work.results(good=False)
            yield from work.unanswered(outcome)

        await self._write(work, "output", work.results(good=True))
        await self._write(work, "error", errors())
        work.change(**{"status": outcome, f"{outcome}_at": int(time.time()), "request_counts": work.counts})
        await to_thread.run_sync(work.tidy)
        logger.info("%s %s: %s", work.batch["id"], outcome, work.counts)

    async def _write(self, work: Work, kind: str, lines: Iterator[bytes]) -> None:
        file_id = work.batch[f"{kind}_file_id"]
        if file_id is None:
            return
        ttl_s = work.settings["output_ttl_s"]

        def write() -> None:
            with self._files.incoming(own=True) as incoming:
                for line in lines:
                    incoming.write(line)
                self._files.keep(
                    incoming,
                    filename=f"{work.batch['id']}_{kind}.jsonl",
                    purpose="batch_output",
                    expires_after_s=FOREVER_S if ttl_s is None else ttl_s,
                    file_id=file_id,
                )

        await to_thread.run_sync(write)


def _file_id() -> str:
    return f"file-{secrets.token_hex(12)}"


def _piece(path: Path, start: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(size)
