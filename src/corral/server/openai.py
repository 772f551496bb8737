"""The routes of OpenAI's API."""

from __future__ import annotations

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from corral.dialects.anthropic import models as anthropic_models
from corral.dialects.openai import models
from corral.dialects.refusals import Refusal
from corral.errors import InvalidRequest
from corral.server import anthropic
from corral.server.asked import Asked
from corral.server.native import reference
from corral.server.refusing import JSON
from corral.server.state import State


async def list_models(request: Request) -> Response:
    """``GET /v1/models``."""
    if Asked.of(request.scope).dialect == "anthropic":
        return await anthropic.list_models(request)
    state = State.of(request)
    return Response(models.models(await to_thread.run_sync(state.library.list)), media_type=JSON)


async def show_model(request: Request) -> Response:
    """``GET /v1/models/{model}``; names with slashes too."""
    state, asked = State.of(request), request.path_params["model"]
    name = reference(asked, empty=InvalidRequest("model is required"))
    entries = await to_thread.run_sync(state.library.list)
    found = next((entry for entry in entries if entry.name.key == name.key), None)
    if found is None:
        raise Refusal(404, f"model '{name.short}' not found", code="model_not_found")
    write = anthropic_models.model if Asked.of(request.scope).dialect == "anthropic" else models.model
    return Response(write(found, asked), media_type=JSON)


ROUTES = (
    (("GET",), "/v1/models", list_models),
    (("GET",), "/v1/models/{model:path}", show_model),
)
