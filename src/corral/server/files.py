"""The routes of OpenAI's files: what batches read and write."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from anyio import to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response

from corral.dialects.gojson import dumps
from corral.dialects.refusals import Refusal
from corral.dialects.wire.pages import page
from corral.durations import FOREVER_S, quoted
from corral.errors import InvalidRequest
from corral.server.asked import Asked
from corral.server.forms import Form, form_of
from corral.server.refusing import JSON
from corral.server.state import State
from corral.store.files import translated

Handler = Callable[[Request], Awaitable[Response]]

_SHORTEST_S, _LONGEST_S = 3600, 30 * 86400


async def files(request: Request) -> Response:
    """``GET`` and ``POST /v1/files``."""
    return await (create(request) if request.method == "POST" else listed(request))


async def create(request: Request) -> Response:
    """``POST /v1/files``: a form with ``file`` and ``purpose``. It goes to the disk as it comes."""
    kept = State.of(request).files
    try:
        with kept.incoming() as incoming, translated(incoming.path.parent, "the folder of files"):
            form = await form_of(request, incoming)
            purpose = form.get("purpose")
            if form.filename is None:
                raise InvalidRequest('a file is required: a field "file" with a filename', param="file")
            if purpose != "batch":
                raise InvalidRequest(
                    f'purpose {quoted(purpose)} is not supported: files are kept for batches here; send "batch"',
                    param="purpose",
                )
            after_s = _expires_after(form)

            def keep() -> dict[str, object]:
                return kept.keep(incoming, filename=form.filename or "", purpose=purpose, expires_after_s=after_s)

            return Response(dumps(await to_thread.run_sync(keep)), media_type=JSON)
    except ClientDisconnect:
        return Response(status_code=499)  # nobody is there to read it


async def listed(request: Request) -> Response:
    """``GET /v1/files``, page by page, perhaps of one ``purpose``."""
    purpose = request.query_params.get("purpose")
    found = [file for file in State.of(request).files.list() if purpose in (None, "", file["purpose"])]
    return Response(page(found, request.query_params, limit=10_000, most=10_000), media_type=JSON)


async def one(request: Request) -> Response:
    """``GET`` and ``DELETE /v1/files/{id}``. One that a batch reads is not deleted."""
    state, file_id = State.of(request), request.path_params["id"]
    if request.method == "GET":
        return Response(dumps(state.files.get(file_id)), media_type=JSON)
    state.files.get(file_id)
    if user := state.batches.reading(file_id):
        raise Refusal(409, f"{file_id} is read by {user}; cancel that batch first, or wait for its end")
    await to_thread.run_sync(state.files.delete, file_id)
    return Response(dumps({"id": file_id, "object": "file", "deleted": True}), media_type=JSON)


async def content(request: Request) -> Response:
    """``GET /v1/files/{id}/content``."""
    path = State.of(request).files.path(request.path_params["id"])
    return FileResponse(path, media_type="application/octet-stream")


def _expires_after(form: Form) -> float:
    seconds = form.get("expires_after[seconds]")
    return FOREVER_S if not seconds else expires_after(form.get("expires_after[anchor]"), seconds, "expires_after")


def expires_after(anchor: object, seconds: object, where: str) -> float:
    """How long a file is kept, in seconds. Raises `InvalidRequest`."""
    if anchor != "created_at":
        raise InvalidRequest(f'{where}.anchor must be "created_at"', param=f"{where}.anchor")
    text = str(seconds)
    if not (text.isascii() and text.isdigit() and _SHORTEST_S <= int(text) <= _LONGEST_S):
        limits = f"between {_SHORTEST_S} and {_LONGEST_S}"
        raise InvalidRequest(f"{where}.seconds must be {limits}, not {quoted(text)}", param=f"{where}.seconds")
    return float(text)


def _of_openai(handler: Handler) -> Handler:
    """``handler``, for those who do not mean the files of Anthropic's API, which has the same paths."""

    async def handle(request: Request) -> Response:
        if Asked.of(request.scope).dialect == "anthropic":
            raise Refusal(404, "files are not supported by this server; send texts and images in the messages")
        return await handler(request)

    return handle


ROUTES = (
    (("GET", "POST"), "/v1/files", _of_openai(files)),
    (("GET",), "/v1/files/{id}/content", _of_openai(content)),
    (("GET", "DELETE"), "/v1/files/{id}", _of_openai(one)),
)
