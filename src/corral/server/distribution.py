"""A Corral is a registry: the routes by which other machines pull what is here."""

from __future__ import annotations

from collections.abc import Sequence

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from corral.dialects import distribution
from corral.errors import InvalidDigest, InvalidName
from corral.names import DEFAULT_HOST, DEFAULT_TAG, Digest, ModelName
from corral.server.guard import is_loopback
from corral.server.state import State
from corral.store import StoredManifest
from corral.store.manifest import media_type_of

_VERSION = {"docker-distribution-api-version": "registry/2.0"}


class _NotServed(Exception):
    """An error of the protocol: status, code, sentence."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.response = Response(distribution.error(code, message), status, _VERSION, "application/json")


async def base(request: Request) -> Response:
    """``GET /v2/``: whether this is a registry."""
    try:
        _check_open(State.of(request))
    except _NotServed as exc:
        return exc.response
    return Response(b"{}", 200, _VERSION, "application/json")


async def tags(request: Request) -> Response:
    """``GET /v2/<name>/tags/list``."""
    try:
        entries = await _entries(request)
    except _NotServed as exc:
        return exc.response
    body = distribution.tags(request.path_params["repository"], [entry.name.tag for entry in entries])
    return Response(body, 200, _VERSION, "application/json")


async def manifest(request: Request) -> Response:
    """``GET`` and ``HEAD /v2/<name>/manifests/<tag or digest>``."""
    reference = request.path_params["reference"]
    try:
        entries = await _entries(request)
        for entry in entries:
            if entry.name.tag.lower() == reference.lower() or f"sha256:{entry.digest}" == reference:
                headers = {"docker-content-digest": f"sha256:{entry.digest}", **_VERSION}
                return Response(entry.data, 200, headers, media_type_of(entry.data))
        raise _NotServed(404, "MANIFEST_UNKNOWN", f"{request.path_params['repository']} has no {reference} here")
    except _NotServed as exc:
        return exc.response


async def blob(request: Request) -> Response:
    """``GET`` and ``HEAD /v2/<name>/blobs/<digest>``, with ranges."""
    state = State.of(request)
    try:
        _check_open(state)
        digest = Digest.parse(request.path_params["digest"])
    except _NotServed as exc:
        return exc.response
    except InvalidDigest as exc:
        return _NotServed(400, "DIGEST_INVALID", str(exc)).response
    store = state.library.store
    if not await to_thread.run_sync(store.has_blob, digest):
        return _NotServed(404, "BLOB_UNKNOWN", f"{digest} is not here").response
    # Ollama follows a 200 only if it says where it is.
    headers = {"docker-content-digest": str(digest), "location": str(request.url), **_VERSION}
    return FileResponse(store.blob_path(digest), 200, headers, "application/octet-stream")


async def _entries(request: Request) -> Sequence[StoredManifest]:
    """The manifests of the repository that is asked for, at least one."""
    state, repository = State.of(request), request.path_params["repository"]
    _check_open(state)
    namespace, _, model = repository.rpartition("/")
    try:
        name = ModelName(DEFAULT_HOST, namespace, model, DEFAULT_TAG)
    except InvalidName as exc:
        raise _NotServed(400, "NAME_INVALID", str(exc)) from exc
    entries = await to_thread.run_sync(state.library.repository, name.namespace, name.model)
    if not entries:
        raise _NotServed(404, "NAME_UNKNOWN", f"there is no model {repository} here")
    return entries


def _check_open(state: State) -> None:
    wish = state.settings.registry
    if wish == "off" or (wish == "auto" and not is_loopback(state.settings.host.host)):
        raise _NotServed(403, "DENIED", "this server does not share its models; its owner can with CORRAL_REGISTRY=on")
