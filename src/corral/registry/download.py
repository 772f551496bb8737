"""One blob from a registry into the store: several ranges at a time, hashed as they come, resumed where it was left."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import anyio
from anyio import to_thread

from corral.errors import CorralError, RegistryError
from corral.registry.plan import Claim, Plan
from corral.registry.repository import Body
from corral.registry.sources import Sources
from corral.store import Layer, Store
from corral.store.partial import PIECE_BYTES, PartialBlob

_CONNECTIONS = 8
_BYTES_PER_CONNECTION = 8 << 20
_MAX_FAILURES = 6  # one after the other, with nothing between
_MAX_WAIT_S = 60.0
_IDLE_S = 0.5
_OTHERS_S = 0.1


class Download:
    """A download of ``layer``. ``completed`` counts bytes and never goes back."""

    def __init__(self, store: Store, sources: Sources, layer: Layer) -> None:
        self.layer = layer
        self.completed = store.bytes_on_their_way(layer)
        self._store = store
        self._sources = sources
        self._came = 0  # bytes, whatever became of them: whether anything came between two failures
        self._news = anyio.Event()
        self._partial: PartialBlob | None = None
        self._ended = False
        self._error: CorralError | None = None

    def end(self, error: CorralError | None) -> None:
        """Nothing more will come, and why."""
        self._ended, self._error = True, error
        self._tell()

    async def until(self, position: int) -> None:
        """Wait for the byte at ``position`` to be in the store, whole or on its way. Raises `RegistryError`, `StoreError`."""
        while not self._is_there(position):
            if self._ended:
                raise self._error or RegistryError(f"the download of {self.layer.digest} was ended", temporary=True)
            await self._news.wait()

    def _is_there(self, position: int) -> bool:
        if self._partial is not None:
            return self._partial.has(position // PIECE_BYTES)
        return self._store.has_blob(self.layer.digest, self.layer.size)

    def _tell(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    async def run(self) -> None:
        """Until the blob is in the store. Raises `RegistryError`, `StoreError`."""
        while not self._store.has_blob(self.layer.digest, self.layer.size):
            partial = await to_thread.run_sync(self._store.partial, self.layer)
            if partial is None:  # another process works on it: its blob is as good as ours
                self._show(self._store.bytes_on_their_way(self.layer))
                await anyio.sleep(_OTHERS_S)
                continue
            try:
                if not self._store.has_blob(self.layer.digest, self.layer.size):
                    self._partial = partial
                    await self._fetch(partial)
                else:
                    partial.discard()
            finally:
                self._partial = None
                with anyio.CancelScope(shield=True):
                    await to_thread.run_sync(partial.close)
        self._show(self.layer.size)

    async def _fetch(self, partial: PartialBlob) -> None:
        plan = Plan(partial.num_pieces, partial.has)
        num = max(1, min(_CONNECTIONS, self.layer.size // _BYTES_PER_CONNECTION))
        async with anyio.create_task_group() as tasks:
            for _ in range(num):
                tasks.start_soon(self._work, partial, plan)
            await self._hash(partial, plan)
            tasks.cancel_scope.cancel()
        if partial.hash != partial.digest:
            await self._mend(partial)
        await to_thread.run_sync(partial.finish)

    async def _hash(self, partial: PartialBlob, plan: Plan) -> None:
        """Follow what comes to its end."""
        while partial.hashed < partial.num_pieces:
            news = self._news
            if not await to_thread.run_sync(partial.hash_on):
                plan.lost(partial.hashed)
            if partial.hashed < partial.num_pieces and news is self._news:
                with anyio.move_on_after(_IDLE_S):
                    await news.wait()

    async def _work(self, partial: PartialBlob, plan: Plan) -> None:
        """Fetch pieces for as long as any is missing."""
        keep = partial.write
        failures, came = 0, 0
        while True:
            claim = plan.take(time.monotonic())
            if claim is None:
                with anyio.move_on_after(_IDLE_S):
                    await self._news.wait()
                continue
            try:
                await self._follow(claim, plan, partial, keep)
            except RegistryError as exc:
                failures = 1 if self._came != came else failures + 1
                came = self._came
                if not exc.temporary or failures > _MAX_FAILURES:
                    raise
                wait = max(exc.retry_after_s, 2 ** (failures - 1) * random.uniform(0.5, 1.0))  # noqa: S311
            else:
                failures, wait = 0, 0.0
            finally:
                plan.release(claim, time.monotonic())
            await anyio.sleep(min(wait, _MAX_WAIT_S))

    async def _follow(self, claim: Claim, plan: Plan, partial: PartialBlob, keep: Callable[[int, bytes], bool]) -> None:
        """Read the pieces of ``claim``, whose end may come nearer meanwhile."""
        first = claim.next * PIECE_BYTES + len(claim.begun)
        end = min(claim.end * PIECE_BYTES, partial.size)
        async with self._sources.blob(self.layer.digest, first, end, partial.size) as body:
            if body.whole and not plan.take_all(claim):
                return
            while claim.next < claim.end:
                data = await self._piece(claim, body, partial.piece_size(claim.next))
                if not (body.whole and partial.has(claim.next)):
                    await to_thread.run_sync(keep, claim.next, data)
                plan.fetched(claim, time.monotonic())
                self._show(partial.completed_bytes)
                self._tell()

    async def _piece(self, claim: Claim, body: Body, size: int) -> bytes:
        while len(claim.begun) < size:
            chunk = await body.read(size - len(claim.begun))
            if not chunk:
                raise RegistryError(f"the connection for {self.layer.digest} ended too early", temporary=True)
            claim.begun += chunk
            claim.touched = time.monotonic()
            self._came += len(chunk)
        return bytes(claim.begun)

    async def _mend(self, partial: PartialBlob) -> None:
        """All came and the whole is wrong: ask again, keep what differs, and stop as soon as the whole is right."""
        wrong = partial.hash
        self._sources.distrust(partial.digest)
        plan = Plan(partial.num_pieces, lambda piece: False)
        changed = False

        def compare(piece: int, data: bytes) -> bool:
            nonlocal changed
            if partial.write(piece, data):
                changed = True
                return partial.hash_again()
            return True

        failures = 0
        while (claim := plan.take(time.monotonic())) is not None and partial.hash != partial.digest:
            try:
                await self._follow(claim, plan, partial, compare)
            except RegistryError as exc:
                failures += 1
                if not exc.temporary or failures > _MAX_FAILURES:
                    raise
                await anyio.sleep(failures)
            finally:
                plan.release(claim, time.monotonic())
        if partial.hash != partial.digest:
            await to_thread.run_sync(partial.discard)
            raise RegistryError(
                f"digest mismatch, file must be downloaded again: want {partial.digest}, got {wrong}"
                + ("" if changed else "; the registry sends another file than its manifest names")
            )

    def _show(self, completed: int) -> None:
        self.completed = max(self.completed, min(completed, self.layer.size))
