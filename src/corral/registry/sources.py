"""Where a model is fetched from: the mirrors of its registry, in order, and the registry itself."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from corral.errors import RegistryError
from corral.names import Digest
from corral.registry.repository import Body, Repository

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")


class Sources:
    """Repositories that should have the same; whoever fails goes to the end of the queue, for a blob to that of this blob."""

    def __init__(self, repositories: Sequence[Repository]) -> None:
        self._queue = list(repositories)
        self._queues: dict[Digest, list[Repository]] = {}

    async def ask(self, question: Callable[[Repository], Awaitable[Answer]]) -> Answer:
        """The answer of the first that has one. Raises the `RegistryError` of the last."""
        for _ in self._queue[1:]:
            try:
                return await question(self._queue[0])
            except RegistryError as exc:
                _pass_over(self._queue, exc)
        return await question(self._queue[0])

    @asynccontextmanager
    async def blob(self, digest: Digest, first: int, end: int, size: int) -> AsyncIterator[Body]:
        """As `Repository.blob`, from the first that has it; who fails while the bytes come is not asked next time."""
        queue = self._queue_for(digest)
        for num_left in reversed(range(len(queue))):
            asked, begun = queue[0], False
            try:
                async with asked.blob(digest, first, end, size) as body:
                    begun = True
                    yield body
                    return
            except RegistryError as exc:
                if asked is queue[0]:  # unless another task was as unlucky
                    _pass_over(queue, exc)
                if begun or not num_left:
                    raise

    def distrust(self, digest: Digest) -> None:
        """What came of a blob is not what it should be: it is another's turn, if there is another."""
        _pass_over(self._queue_for(digest), f"what it sent is not {digest}")

    def lies_at(self, digest: Digest, path: str) -> None:
        """As `Repository.lies_at`, for all."""
        for repository in self._queue:
            repository.lies_at(digest, path)

    def _queue_for(self, digest: Digest) -> list[Repository]:
        return self._queues.setdefault(digest, list(self._queue))


def _pass_over(queue: list[Repository], why: object) -> None:
    if len(queue) > 1:
        logger.info("%s is passed over: %s", queue[0].address, why)
        queue.append(queue.pop(0))
