"""A Corral is a registry: the routes by which other machines pull what is here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse

from corral.dialects import distribution
from corral.errors import InvalidDigest, InvalidName, RegistryError
from corral.names import DEFAULT_HOST, DEFAULT_TAG, Digest, ModelName
from corral.registry import Wish
from corral.server.guard import is_loopback
from corral.server.state import State
from corral.server.transfers import reach_of
from corral.store import StoredManifest
from corral.store.manifest import media_type_of

_RANGE = re.compile(r"bytes=(\d{1,19})-(\d{0,19})", re.ASCII)
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
        try:
            for entry in await _entries(request):
                if entry.name.tag.lower() == reference.lower() or f"sha256:{entry.digest}" == reference:
                    return _manifest(entry.data)
            raise _NotServed(404, "MANIFEST_UNKNOWN", f"{request.path_params['repository']} has no {reference} here")
        except _NotServed as exc:
            if exc.response.status_code != 404 or not State.of(request).settings.registry_cache:
                raise
            return _manifest(await _from_elsewhere(request, reference, exc))
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
    # Ollama follows a 200 only if it says where it is.
    headers = {"docker-content-digest": str(digest), "location": str(request.url), **_VERSION}
    if await to_thread.run_sync(store.has_blob, digest):
        return FileResponse(store.blob_path(digest), 200, headers, "application/octet-stream")
    if (size := state.through.size(digest)) is not None:
        return _coming(request, digest, size, headers)
    return _NotServed(404, "BLOB_UNKNOWN", f"{digest} is not here").response


async def _from_elsewhere(request: Request, tag: str, missing: _NotServed) -> bytes:
    """The manifest of what is not here, from where it comes from. Raises `_NotServed`: there it is not either."""
    state, name = State.of(request), _name(request)
    if request.headers.get("sec-fetch-site", "none") != "none":
        raise missing  # a page in a browser must not make this machine download
    try:
        wanted = replace(name, tag=tag)
    except InvalidName:
        raise missing from None
    try:
        wish = Wish(reach=reach_of(request))
        return (await state.through.manifest(wanted, wish, begin=request.method == "GET")).data
    except RegistryError as exc:
        if exc.status == 404:
            raise missing from exc
        raise _NotServed(502, "UNAVAILABLE", f"{name.host} was asked, and: {exc}") from exc


def _coming(request: Request, digest: Digest, size: int, headers: dict[str, str]) -> Response:
    """A blob, or the range of it that is asked for, while it comes from elsewhere."""
    asked = _RANGE.fullmatch(request.headers.get("range", ""))
    first = int(asked[1]) if asked else 0
    end = min(int(asked[2]) + 1 if asked and asked[2] else size, size)
    if first >= end and size:
        return Response(status_code=416, headers={**headers, "content-range": f"bytes */{size}"})
    headers |= {"content-length": str(end - first), "accept-ranges": "bytes"}
    if asked:
        headers["content-range"] = f"bytes {first}-{end - 1}/{size}"
    status, media_type = 206 if asked else 200, "application/octet-stream"
    if request.method == "HEAD":
        return Response(None, status, headers, media_type)
    return StreamingResponse(State.of(request).through.read(digest, first, end), status, headers, media_type)


def _manifest(data: bytes) -> Response:
    return Response(
        data, 200, {"docker-content-digest": f"sha256:{Digest.of(data).hex}", **_VERSION}, media_type_of(data)
    )


async def _entries(request: Request) -> Sequence[StoredManifest]:
    """The manifests of the repository that is asked for, at least one."""
    state = State.of(request)
    _check_open(state)
    name = _name(request)
    entries = await to_thread.run_sync(state.library.repository, name.namespace, name.model)
    if "ns" in request.query_params:
        entries = [entry for entry in entries if entry.name.host.lower() == name.host.lower()]
    if not entries:
        raise _NotServed(404, "NAME_UNKNOWN", f"there is no model {request.path_params['repository']} here")
    return entries


def _name(request: Request) -> ModelName:
    """What is asked for. Who takes us for a mirror says of which registry by ``ns``, as containerd does."""
    namespace, _, model = request.path_params["repository"].rpartition("/")
    try:
        return ModelName(request.query_params.get("ns", DEFAULT_HOST), namespace, model, DEFAULT_TAG)
    except InvalidName as exc:
        raise _NotServed(400, "NAME_INVALID", str(exc)) from exc


def _check_open(state: State) -> None:
    wish = state.settings.registry
    if wish == "off" or (wish == "auto" and not is_loopback(state.settings.host.host)):
        raise _NotServed(403, "DENIED", "this server does not share its models; its owner can with CORRAL_REGISTRY=on")
