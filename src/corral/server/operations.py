"""The routes for operators: whether the server lives, whether it can work, and its numbers."""

from __future__ import annotations

import os
from collections.abc import Callable

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from corral.dialects.gojson import dumps
from corral.runtime.numbers import label
from corral.server.inflight import SHUTTING_DOWN
from corral.server.state import State
from corral.store import Store

_JSON = "application/json"


async def health(request: Request) -> Response:
    """``GET /health``: the process answers."""
    return Response(dumps({"status": "ok"}), media_type=_JSON)


async def ready(request: Request) -> Response:
    """``GET /ready``: 200 if work can be taken, else 503 and why not."""
    state = State.of(request)
    reason = SHUTTING_DOWN if state.inflight.draining else state.preload.pending
    reason = reason or await to_thread.run_sync(_unreadable, state.library.store)
    if reason:
        return Response(dumps({"status": "not ready", "reason": reason}), 503, media_type=_JSON)
    return Response(dumps({"status": "ready"}), media_type=_JSON)


async def metrics(request: Request) -> Response:
    """``GET /metrics``: all numbers, in the format of Prometheus that is asked for. Models that are gone have none."""
    state = State.of(request)
    exposition = await to_thread.run_sync(_exposition)
    here = await to_thread.run_sync(_labels, state.library.store)
    body, content_type = exposition(state, here, request.headers.get("accept", ""))
    return Response(body, headers={"content-type": content_type})


def _exposition() -> Callable[[State, frozenset[str], str], tuple[bytes, str]]:
    """Late: a server that nobody watches does without the library."""
    from corral.server.exposition import exposition

    return exposition


def _labels(store: Store) -> frozenset[str]:
    return frozenset(map(label, store.names()))


def _unreadable(store: Store) -> str:
    """Why the store cannot be read; empty if it can. One that is not there yet is an empty one."""
    try:
        with os.scandir(store.root / "manifests") as entries:
            next(entries, None)
    except FileNotFoundError:
        return ""
    except OSError as exc:
        return f"the store {store.root} cannot be read: {exc.strerror}; check the disk and the rights, or CORRAL_MODELS"
    return ""
