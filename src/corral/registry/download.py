"""One blob from a registry into the store: several ranges at a time, hashed as they come, resumed where it was left."""

from __future__ import annotations

import time
from collections.abc import Callable

import anyio
from anyio import to_thread

from corral.errors import CorralError, RegistryError
from corral.registry.patience import Patience
from corral.registry.plan import Claim, Plan
from corral.registry.repository import Body
from corral.registry.sources import Sources
from corral.store import Layer, Store
from corral.store.partial import PIECE_BYTES, PartialBlob

_CONNECTIONS = 8
_MIN_CONNECTIONS = 2  # the second one helps out where the first is slow
_BYTES_PER_CONNECTION = 8 << 20
_IDLE_S = 0.5
_OTHERS_S = 0.1


class Download:
    """A download of ``layer``. ``completed`` counts bytes and never goes back."""

    def __init__(self, store: Store, sources: Sources, layer: Layer, patience: Patience) -> None:
        self.layer = layer
        self.completed = store.bytes_on_their_way(layer)
        self._store = store
        self._sources = sources
        self._patience = patience
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
        num = max(_MIN_CONNECTIONS, min(_CONNECTIONS, self.layer.size // _BYTES_PER_CONNECTION))
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
        while True:
            claim = plan.take(time.monotonic())
            if claim is None:
                with anyio.move_on_after(_IDLE_S):
                    await self._news.wait()
                continue
            wait_s = 0.0
            try:
                await self._follow(claim, plan, partial, partial.write)
            except RegistryError as exc:
                wait_s = self._patience.failed(exc, time.monotonic())
            finally:
                plan.release(claim, time.monotonic())
            await anyio.sleep(wait_s)

    async def _follow(
        self, claim: Claim, plan: Plan, partial: PartialBlob, keep: Callable[[int, bytearray], bool]
    ) -> None:
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
                    self._patience.worked(time.monotonic())
                plan.fetched(claim, time.monotonic())
                self._show(partial.completed_bytes)
                self._tell()

    async def _piece(self, claim: Claim, body: Body, size: int) -> bytearray:
        while len(claim.begun) < size:
            chunk = await body.read(size - len(claim.begun))
            if not chunk:
                raise RegistryError(f"the connection for {self.layer.digest} ended too early", temporary=True)
            claim.begun += chunk
            claim.touched = time.monotonic()
            if not body.whole:  # of a whole body that is cut nothing is kept but its pieces
                self._patience.worked(claim.touched)
        return claim.begun

    async def _mend(self, partial: PartialBlob) -> None:
        """All came and the whole is wrong: ask again, keep what differs, and stop as soon as the whole is right."""
        wrong = partial.hash
        self._sources.distrust(partial.digest)
        await to_thread.run_sync(partial.check)  # perhaps it is the disk
        plan = Plan(partial.num_pieces, lambda piece: False)
        num_changed = 0

        def compare(piece: int, data: bytearray) -> bool:
            nonlocal num_changed
            if not partial.write(piece, data):
                return True
            num_changed += 1
            # To hash all after each of many pieces would take for ever: after the first, the second, the fourth, and so on.
            return num_changed & (num_changed - 1) != 0 or partial.hash_again()

        while (claim := plan.take(time.monotonic())) is not None and partial.hash != partial.digest:
            wait_s = 0.0
            try:
                await self._follow(claim, plan, partial, compare)
            except RegistryError as exc:
                wait_s = self._patience.failed(exc, time.monotonic())
            finally:
                plan.release(claim, time.monotonic())
            await anyio.sleep(wait_s)
        if num_changed and partial.hash != partial.digest:
            await to_thread.run_sync(partial.hash_again)
        if partial.hash != partial.digest:
            await to_thread.run_sync(partial.discard)
            raise RegistryError(
                f"digest mismatch, file must be downloaded again: want {partial.digest}, got {wrong}"
                + ("" if num_changed else "; the registry sends another file than its manifest names")
            )

    def _show(self, completed: int) -> None:
        self.completed = max(self.completed, min(completed, self.layer.size))
