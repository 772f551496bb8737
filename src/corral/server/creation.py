"""The route by which models are made."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import Response

from corral.dialects.native.creation import Create
from corral.dialects.refusals import Refusal
from corral.library import Creation
from corral.names import ModelName
from corral.registry import Progress, Reach, Wish
from corral.server.native import reference
from corral.server.state import State
from corral.server.transfers import Steps, reach_of


async def create(request: Request) -> Response:
    """``POST /api/create``."""
    state = State.of(request)
    wanted = Create.decode(await request.body())
    name = reference(wanted.model, empty=Refusal(400, "invalid model name"))
    return Steps(state, _steps(state, wanted, name, reach_of(request)), stream=wanted.stream)


async def _steps(state: State, wanted: Create, name: ModelName, reach: Reach) -> AsyncGenerator[Progress, None]:
    creation = Creation(
        state.library,
        state.transfers,
        wanted.wanted(name),
        wish=Wish(reach=reach),
        prune=not state.settings.no_prune,
    )
    async with aclosing(creation.run()) as steps:
        async for step in steps:
            yield step
