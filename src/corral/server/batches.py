"""``/v1/batches``: requests that are answered beside live traffic."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from corral.dialects.batches.requests import Create
from corral.dialects.gojson import dumps
from corral.dialects.wire.pages import page
from corral.durations import FOREVER_S
from corral.server.bodies import body_of
from corral.server.files import expires_after
from corral.server.refusing import JSON
from corral.server.state import State


async def batches(request: Request) -> Response:
    """``GET`` and ``POST /v1/batches``."""
    state = State.of(request)
    if request.method == "GET":
        return Response(page(state.batches.list(), request.query_params, limit=20, most=100), media_type=JSON)
    wanted = Create.decode(await body_of(request))
    after = wanted.output_expires_after
    output_ttl_s = (
        FOREVER_S if after is None else expires_after(after.get("anchor"), after.get("seconds"), "output_expires_after")
    )
    return _json(state.batches.create(wanted, output_ttl_s))


async def retrieve(request: Request) -> Response:
    """``GET /v1/batches/{id}``."""
    return _json(State.of(request).batches.get(request.path_params["id"]))


async def cancel(request: Request) -> Response:
    """``POST /v1/batches/{id}/cancel``."""
    return _json(State.of(request).batches.cancel(request.path_params["id"]))


def _json(value: dict[str, Any]) -> Response:
    return Response(dumps(value), media_type=JSON)


ROUTES = (
    (("GET", "POST"), "/v1/batches", batches),
    (("POST",), "/v1/batches/{id}/cancel", cancel),
    (("GET",), "/v1/batches/{id}", retrieve),
)
