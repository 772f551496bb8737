"""A generation as a response, whatever the dialect: written as it comes, or as one object."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Generic, Protocol, TypeAlias, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from corral.dialects.refusals import Refusal, refusal_of
from corral.engine.base import Batch, Finished
from corral.errors import CorralError
from corral.runtime.choices import Said
from corral.server.asked import Asked
from corral.server.inflight import SHUTTING_DOWN
from corral.server.refusing import JSON, refuse
from corral.server.state import State

Piece = TypeVar("Piece", Batch, Said)
_Piece = TypeVar("_Piece", Batch, Said, contravariant=True)


class Writer(Protocol[_Piece]):
    """How a dialect writes what was generated. ``stream_type`` is the media type of its streams."""

    stream_type: str

    def lines(self, piece: _Piece, /) -> bytes:
        """What a stream says of ``piece``; with the last one, all that ends the stream."""

    def whole(self, pieces: Sequence[_Piece], /) -> bytes:
        """One object for the whole generation."""

    def failed(self, refusal: Refusal) -> bytes:
        """The end of a stream that has begun and cannot go on."""


Encoder: TypeAlias = Writer[Batch]  # of one answer


class Generation(Response, Generic[Piece]):
    """Writes a generation as it comes, or as one object. What fails before the first event gets its own status.

    The client's hang-up stops the generation; so does the end of the server, which the client is told.
    """

    def __init__(
        self,
        state: State,
        encoder: Writer[Piece],
        events: AsyncGenerator[Piece, None],
        headers: dict[str, str],
        *,
        stream: bool,
    ) -> None:
        kind = encoder.stream_type if stream else JSON
        super().__init__(
            headers={**headers, "content-type": kind}
        )  # as it stands: no character set is added to a stream's
        self._state = state
        self._encoder: Writer[Piece] = encoder
        self._events: AsyncGenerator[Piece, None] = events
        self._stream = stream
        self._more_headers = headers
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = ended = False
        inflight = self._state.inflight
        try:
            async with inflight.scope(receive) as cancel, aclosing(self._events):
                if not self._stream:
                    pieces = [piece async for piece in self._events]
                    headers = self._more_headers | _of_end(
                        [piece.batch if isinstance(piece, Said) else piece for piece in pieces]
                    )
                    await Response(self._encoder.whole(pieces), headers=headers, media_type=JSON)(scope, receive, send)
                    return
                async for piece in self._events:
                    if not begun:
                        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                        begun = True
                    ended = piece.last if isinstance(piece, Said) else isinstance(piece[-1], Finished)
                    if lines := self._encoder.lines(piece):
                        await send({"type": "http.response.body", "body": lines, "more_body": not ended})
            failure = Refusal(503, SHUTTING_DOWN) if inflight.closing and cancel.cancelled_caught else None
        except CorralError as exc:
            failure = refusal_of(exc)
        if failure is not None and not begun:
            await refuse(scope, failure)(scope, receive, send)
            return
        if begun and not ended:
            Asked.of(scope).broken = failure is not None
            last = self._encoder.failed(failure) if failure else b""
            await send({"type": "http.response.body", "body": last, "more_body": False})


def _of_end(batches: Sequence[Batch]) -> dict[str, str]:
    """What the end of a generation says in a header too, where the answer is one object: in a stream it comes too late."""
    end = batches[-1][-1] if batches else None
    dropped = end.dropped_messages if isinstance(end, Finished) else 0
    return {"x-corral-dropped-messages": str(dropped)} if dropped else {}
