"""Plain images of what clients send, made by child processes.

A file from anywhere goes through decoders in C; what one does to them happens to a child with bounded memory and time, and not
to the server or to an engine with everybody's work in it. A child is kept for the next image, and ends by itself when none comes.
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from types import TracebackType

import anyio
import orjson

from corral.children import tell
from corral.errors import InvalidRequest
from corral.media.kinds import IMAGES, kind_of

WORKER = (sys.executable, "-m", "corral.media.worker")
PATIENCE_S = 30.0
_KEPT_BYTES = 64 << 20  # of plain images: every turn of a chat brings those of the turns before


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as the engine is given it: a PNG, or a JPEG, that was written here."""

    data: bytes = field(repr=False)
    width: int
    height: int


class Converter:
    """Makes `Picture`s. Use as ``async with``: on the way out all children end."""

    def __init__(
        self, max_bytes: int, max_pixels: int, *, patience_s: float = PATIENCE_S, worker: Sequence[str] = WORKER
    ) -> None:
        """Images of more than ``max_bytes`` or ``max_pixels`` are refused; each has ``patience_s`` seconds."""
        self._max_bytes = max_bytes
        self._command = (*worker, str(max_pixels))
        self._patience_s = patience_s
        self._places = asyncio.Semaphore(max(1, min(4, (os.cpu_count() or 2) // 2)))
        self._idle: list[Process] = []
        self._kept: OrderedDict[bytes, Picture] = OrderedDict()
        self._kept_bytes = 0

    async def __aenter__(self) -> Converter:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            while self._idle:
                await _end(self._idle.pop())

    async def picture(self, data: bytes) -> Picture:
        """The image in ``data``. Raises `InvalidRequest` for what is none, damaged, or too large."""
        kind = kind_of(data)
        if kind not in IMAGES:
            names = ", ".join(image.name for image in IMAGES[:-1]) + f" or {IMAGES[-1].name}"
            raise InvalidRequest(f"not an image this model can read: expected {names}; got {kind.name}")
        if len(data) > self._max_bytes:
            raise InvalidRequest(
                f"the {kind.name} image has {len(data)} bytes, where {self._max_bytes} are allowed; "
                "send a smaller one, or raise CORRAL_IMAGE_MAX_BYTES"
            )
        digest = sha256(data).digest()
        if found := self._kept.get(digest):
            self._kept.move_to_end(digest)
            return found
        async with self._places:
            picture = await self._made(data, kind.name)
        self._keep(digest, picture)
        return picture

    async def _made(self, data: bytes, name: str) -> Picture:
        while self._idle:
            child = self._idle.pop()
            if child.returncode is None and (answer := await self._asked(child, data, name)) is not None:
                return answer
        answer = await self._asked(await self._child(), data, name)
        if answer is None:
            raise InvalidRequest(f"the {name} image cannot be read: its decoder ended unexpectedly")
        return answer

    async def _child(self) -> Process:
        return await asyncio.create_subprocess_exec(
            *self._command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, start_new_session=True
        )

    async def _asked(self, child: Process, data: bytes, name: str) -> Picture | None:
        """What ``child`` makes of an image; ``None`` if it ended. Raises `InvalidRequest` for what it complains of."""
        assert child.stdout is not None
        async with _ended_unless_whole(child) as outcome:
            try:
                async with asyncio.timeout(self._patience_s):
                    await tell(child, orjson.dumps({"size": len(data)}) + b"\n" + data)
                    answer = orjson.loads(await child.stdout.readline() or b"{}")
                    written = await child.stdout.readexactly(answer.get("size", 0))
            except TimeoutError:
                raise InvalidRequest(
                    f"the {name} image cannot be read: it takes more than {self._patience_s:g} s"
                ) from None
            except (ConnectionError, asyncio.IncompleteReadError):
                return None
            if not answer:
                return None
            outcome.whole = True
            self._idle.append(child)
            if error := answer.get("error"):
                raise InvalidRequest(f"the {name} image cannot be read: {error}")
            return Picture(written, answer["width"], answer["height"])

    def _keep(self, digest: bytes, picture: Picture) -> None:
        if len(picture.data) > _KEPT_BYTES // 4 or digest in self._kept:
            return
        self._kept[digest] = picture
        self._kept_bytes += len(picture.data)
        while self._kept_bytes > _KEPT_BYTES:
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= len(oldest.data)


@dataclass(slots=True)
class _Outcome:
    whole: bool = False


@asynccontextmanager
async def _ended_unless_whole(child: Process) -> AsyncIterator[_Outcome]:
    """Ends ``child`` when it was left in the middle of something: by its death, by our patience's end, by a hang-up."""
    outcome = _Outcome()
    try:
        yield outcome
    finally:
        if not outcome.whole:
            with anyio.CancelScope(shield=True):
                await _end(child)


async def _end(child: Process) -> None:
    if child.returncode is None:
        child.kill()
    await child.wait()
    if child.stdin is not None:
        child.stdin.close()
