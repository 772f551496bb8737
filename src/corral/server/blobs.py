"""The routes by which clients bring the files of a model that is to be created."""

from __future__ import annotations

from anyio import to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from corral.dialects.refusals import Refusal
from corral.durations import quoted
from corral.names import Digest
from corral.server.state import State
from corral.store import Store
from corral.store.files import translated

_CHUNK_BYTES = 1 << 20


async def blob(request: Request) -> Response:
    """``HEAD`` and ``POST /api/blobs/<digest>``: 200 if it is here, 201 if it came. What has another digest is not kept."""
    store, given = State.of(request).library.store, request.path_params["digest"]
    digest = Digest.parse(given)
    if await to_thread.run_sync(store.wants_blob, digest):
        response = Response()
        if request.method == "HEAD":
            del response.headers["content-length"]  # it would say that the blob is empty
        return response
    if request.method == "HEAD":
        raise Refusal(404, f"blob {quoted(given)} not found")
    try:
        got = await _receive(request, store, digest)
    except ClientDisconnect:
        return Response(status_code=499)  # nobody is there to read it
    if got != digest:
        raise Refusal(400, f"digest mismatch, expected {quoted(given)}, got {quoted(str(got))}")
    return Response(status_code=201)


async def _receive(request: Request, store: Store, digest: Digest) -> Digest:
    """The digest of the body, which is kept if it is the one it should be. Raises `StoreError`, `ClientDisconnect`."""
    with translated(store.root), await to_thread.run_sync(store.incoming) as writer:
        buffer = bytearray()
        async for chunk in request.stream():
            buffer += chunk
            if len(buffer) >= _CHUNK_BYTES:
                await to_thread.run_sync(writer.write, bytes(buffer))
                buffer.clear()
        await to_thread.run_sync(writer.write, bytes(buffer))
        if writer.digest == digest:
            await to_thread.run_sync(writer.finish)
        return writer.digest
