"""The app: routes, what is open for as long as it runs, and the words for paths that do not exist."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from anyio import to_thread
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, compile_path

import corral
from corral.config import Settings
from corral.dialects.refusals import Refusal, refusal_of
from corral.engine.process import WORKER
from corral.engine.states import sweep_states
from corral.errors import CorralError
from corral.hardware import total_memory_bytes
from corral.library import Library
from corral.media.converter import Converter
from corral.registry import Outside, PullThrough, Transfers
from corral.runtime.media import MediaReader
from corral.runtime.pool import EnginePool
from corral.runtime.session import Sessions
from corral.server import (
    anthropic,
    batches,
    blobs,
    cloud,
    creation,
    distribution,
    embedding,
    files,
    native,
    openai,
    operations,
    rerank,
    responses,
    tokens,
    transcriptions,
    transfers,
)
from corral.server.asked import Asked, Requests
from corral.server.background import Background
from corral.server.batching import Batches
from corral.server.filing import Files
from corral.server.guard import Guard
from corral.server.inflight import Inflight
from corral.server.middleware import Entrance
from corral.server.preload import preloading
from corral.server.refusing import JSON, error_body, refuse, refuse_route
from corral.server.remembered import Remembered
from corral.server.remote_images import RemoteImages
from corral.server.state import State
from corral.store import Store

logger = logging.getLogger(__name__)

Handler = Callable[[Request], Awaitable[Response]]

# Methods in the order in which Ollama registers them: 405 answers list them so.
ROUTES: tuple[tuple[tuple[str, ...], str, Handler], ...] = (
    (("HEAD", "GET"), "/", native.root),
    (("HEAD", "GET"), "/api/version", native.version),
    (("HEAD", "GET"), "/api/tags", native.tags),
    (("GET",), "/api/ps", native.ps),
    *cloud.ROUTES,
    (("POST",), "/api/show", native.show),
    (("POST",), "/api/copy", native.copy),
    (("DELETE",), "/api/delete", native.delete),
    (("POST",), "/api/create", creation.create),
    (("POST",), "/api/pull", transfers.pull),
    (("POST",), "/api/push", transfers.push),
    (("POST",), "/api/verify", transfers.verify),
    (("POST",), "/api/prune", transfers.prune),
    (("HEAD", "POST"), "/api/blobs/{digest}", blobs.blob),
    (("POST",), "/api/generate", native.generate),
    (("POST",), "/api/chat", native.chat),
    (("POST",), "/api/embed", embedding.embed),
    (("POST",), "/api/embeddings", embedding.embed_prompt),
    *openai.ROUTES,
    *anthropic.ROUTES,
    *rerank.ROUTES,
    *tokens.ROUTES,
    *responses.ROUTES,
    *files.ROUTES,
    *batches.ROUTES,
    *transcriptions.ROUTES,
    (("HEAD", "GET"), "/health", operations.health),
    (("HEAD", "GET"), "/ready", operations.ready),
    (("HEAD", "GET"), "/metrics", operations.metrics),
    (("HEAD", "GET"), "/v2/", distribution.base),
    (("HEAD", "GET"), "/v2/{repository:path}/manifests/{reference}", distribution.manifest),
    (("HEAD", "GET"), "/v2/{repository:path}/blobs/{digest}", distribution.blob),
    (("HEAD", "GET"), "/v2/{repository:path}/tags/list", distribution.tags),
)


def create_app(settings: Settings, inflight: Inflight, worker: Sequence[str] = WORKER) -> FastAPI:
    """The whole application. Its lifespan opens the store and ends every engine; ``worker`` is an engine's command line."""
    requests: Requests = Requests()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        library = Library(Store(settings.models), settings.go_template)
        if not settings.no_prune:
            await to_thread.run_sync(library.store.tidy)
        await to_thread.run_sync(sweep_states)
        async with (
            EnginePool(settings, worker) as pool,
            Converter(settings.image_max_bytes, settings.image_max_pixels) as converter,
            RemoteImages.of(settings) as remote_images,
            Transfers(
                library.store, Outside.of(settings), prune=not settings.no_prune, memory_bytes=total_memory_bytes()
            ) as transfers,
        ):
            await to_thread.run_sync(pool.translated.sweep, library.store.root / "blobs")
            through = PullThrough(library.store, transfers)
            remembered = Remembered.of(settings)
            responses.tidy(remembered)
            background = Background(inflight, settings.max_queue)
            kept = Files(settings.data / "files", file_bytes=settings.file_bytes, total_bytes=settings.files_bytes)
            queued = Batches(
                settings.data / "batches",
                kept,
                app,
                inflight,
                parallel=settings.batch_parallel,
                most_requests=settings.batch_requests,
            )
            sessions = Sessions(pool, MediaReader.of(settings, converter))
            async with preloading(settings, library, sessions) as preload:
                app.state.corral = State(
                    settings=settings,
                    library=library,
                    transfers=transfers,
                    through=through,
                    pool=pool,
                    sessions=sessions,
                    inflight=inflight,
                    requests=requests,
                    preload=preload,
                    remote_images=remote_images,
                    responses=remembered,
                    background=background,
                    files=kept,
                    batches=queued,
                )
                await to_thread.run_sync(kept.open)
                queued.open()
                try:
                    yield
                finally:
                    await queued.close()
                    await background.close()
                    if remembered is not None:
                        remembered.close()

    app = FastAPI(
        title="Corral",
        version=corral.__version__,
        lifespan=lifespan,
        docs_url=None,  # their pages load scripts from elsewhere, and nothing leaves this machine unasked
        redoc_url=None,
        redirect_slashes=False,
    )
    # These decode their own bytes, as Ollama does; FastAPI's own routes would look for parameters first.
    app.router.routes += [_route(methods, path, handler) for methods, path, handler in ROUTES]
    app.add_exception_handler(CorralError, _refuse)
    app.add_exception_handler(HTTPException, _no_such_route)
    app.add_exception_handler(Exception, _bug)
    app.add_middleware(
        Entrance,
        guard=Guard.for_server(settings.host.host, settings.origins),
        inflight=inflight,
        requests=requests,
        methods_of=_methods_of,
    )
    return app


def _route(methods: Sequence[str], path: str, handler: Handler) -> Route:
    route = Route(path, handler, methods=list(methods))
    route.methods = set(methods)  # Starlette adds HEAD to every GET
    return route


_METHODS = {path: methods for methods, path, _ in ROUTES if "{" not in path}
_PATTERNS = [(compile_path(path)[0], methods) for methods, path, _ in ROUTES if "{" in path]


def _methods_of(path: str) -> tuple[str, ...]:
    if (methods := _METHODS.get(path)) is not None:
        return methods
    return next((methods for pattern, methods in _PATTERNS if pattern.match(path)), ())


async def _refuse(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, CorralError)
    refusal = refusal_of(exc)
    if refusal.status >= 500:
        logger.error("%s %s: %s", request.method, request.url.path, exc)
    return refuse(request.scope, refusal)


async def _no_such_route(request: Request, exc: Exception) -> Response:
    methods = _methods_of(request.scope["path"])
    if not methods:
        return refuse_route(request.scope, 404, "404 page not found")
    return refuse_route(request.scope, 405, "405 method not allowed", {"allow": ", ".join(methods)})


async def _bug(request: Request, exc: Exception) -> Response:
    """Our own mistake: the log has the traceback, the client a sentence."""
    body = error_body(request.scope, Refusal(500, "internal error; the server's log says more"))
    # This answer is given outside of the entrance, which marks all others.
    return Response(body, 500, Asked.of(request.scope).id_headers, JSON)
