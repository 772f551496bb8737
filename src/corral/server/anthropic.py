"""The routes of Anthropic's API."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from corral.dialects import gojson
from corral.dialects.anthropic import models
from corral.dialects.anthropic.answers import Encoder
from corral.dialects.anthropic.requests import Messages
from corral.dialects.refusals import Refusal
from corral.durations import quoted
from corral.engine.base import Batch
from corral.errors import InvalidRequest, NotSupported, PromptTooLong
from corral.runtime.requests import ChatRequest
from corral.server.asked import Asked
from corral.server.bodies import body_of
from corral.server.generation import Generation
from corral.server.media import fetched
from corral.server.native import ignored_header, spec_of
from corral.server.refusing import JSON
from corral.server.state import State

_NO_BATCHES = "message batches are not supported by this server; send the requests one by one to /v1/messages"


async def messages(request: Request) -> Response:
    """``POST /v1/messages``."""
    state = State.of(request)
    wanted, asked = await _asked(request)
    encoder = Encoder(
        wanted.model,
        Asked.of(request.scope).id,
        max_tokens=wanted.max_tokens,
        stops=wanted.stop_sequences,
        show_thoughts=wanted.show_thoughts,
    )
    headers = ignored_header(wanted.ignored_by(asked))
    if wanted.stream:
        headers |= {"content-type": encoder.stream_type, "cache-control": "no-cache"}
    return Generation(state, encoder, _fitting(state.sessions.chat(asked)), headers, stream=wanted.stream)


async def count_tokens(request: Request) -> Response:
    """``POST /v1/messages/count_tokens``: what the model's own template and vocabulary make of it."""
    state = State.of(request)
    wanted, asked = await _asked(request, count_only=True)
    tokens = await state.inflight.run(request.receive, lambda: state.sessions.count(asked))
    return Response(models.token_count(tokens or 0), headers=ignored_header(wanted.ignored_by(asked)), media_type=JSON)


async def no_batches(request: Request) -> Response:
    """``/v1/messages/batches``."""
    raise Refusal(404, _NO_BATCHES)


async def list_models(request: Request) -> Response:
    """``GET /v1/models`` for a client that speaks this API."""
    entries = await to_thread.run_sync(State.of(request).library.list)
    query = request.query_params
    lifecycles = [*query.getlist("lifecycle"), *query.getlist("lifecycle[]")]
    return Response(models.models(entries, query, lifecycles), media_type=JSON)


async def _asked(request: Request, *, count_only: bool = False) -> tuple[Messages, ChatRequest]:
    body = gojson.parse(await body_of(request))
    wanted = Messages.decode(body, await fetched(request, body), count_only=count_only)
    spec = await spec_of(request, wanted.model, empty=InvalidRequest("model is required"))
    if "completion" not in spec.capabilities:
        raise NotSupported(f"{quoted(wanted.model)} does not support chat")
    return wanted, wanted.request(spec)


async def _fitting(events: AsyncGenerator[Batch, None]) -> AsyncGenerator[Batch, None]:
    """``events``; that a prompt does not fit is said in the words that clients look for."""
    try:
        async with aclosing(events):
            async for batch in events:
                yield batch
    except PromptTooLong as exc:
        raise Refusal(400, f"prompt is too long: {exc.num_tokens} tokens > {exc.num_ctx} maximum") from exc


ROUTES = (
    (("POST",), "/v1/messages", messages),
    (("POST",), "/v1/messages/count_tokens", count_tokens),
    (("GET", "POST"), "/v1/messages/batches", no_batches),
    (("GET", "POST", "DELETE"), "/v1/messages/batches/{rest:path}", no_batches),
)
