"""The routes of OpenAI's Responses API."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from corral.dialects.gojson import dumps, parse
from corral.dialects.refusals import Refusal
from corral.dialects.responses import items, objects
from corral.dialects.responses.answers import Encoder
from corral.dialects.responses.items import Item
from corral.dialects.responses.requests import Create
from corral.dialects.wire.pages import page
from corral.durations import quoted
from corral.engine.base import Batch, Finished
from corral.errors import InvalidRequest, StoreError
from corral.library import ModelSpec
from corral.runtime.options import parse_options
from corral.runtime.requests import ChatRequest, in_background
from corral.server.bodies import body_of
from corral.server.generation import Generation
from corral.server.media import fetched
from corral.server.native import ignored_header, require, spec_of
from corral.server.refusing import JSON
from corral.server.remembered import Remembered
from corral.server.state import State

logger = logging.getLogger(__name__)

_STREAM = {"content-type": "text/event-stream", "cache-control": "no-cache", "connection": "keep-alive"}
_OFF = "responses are not kept on this server (CORRAL_RESPONSES=off); send the whole conversation as input"


async def create(request: Request) -> Response:
    """``POST /v1/responses``."""
    state = State.of(request)
    wanted = await _wanted(request)
    stored = _stored(state, wanted)
    spec = await _spec(request, wanted)
    wanted = _resolved(state, wanted)
    asked = wanted.request(spec, wanted.messages(_before(state, wanted)))
    sampling = asked.options.over(parse_options(spec.parameters)).sampling(num_ctx=1)
    response = objects.begun(wanted, sampling, stored=stored)
    answers = state.sessions.chat(asked) if asked.messages else _loaded(state, asked)
    inputs = items.kept(wanted.items)
    headers = ignored_header((*asked.options.ignored, *wanted.ignored))
    if wanted.background:
        return _in_background(
            state, Encoder(response, silent=not asked.messages), answers, inputs, headers, wanted.stream
        )
    keep = _keeping(state.responses, inputs) if stored else None
    encoder = Encoder(response, keep, silent=not asked.messages)
    return Generation(state, encoder, answers, headers | (_STREAM if wanted.stream else {}), stream=wanted.stream)


async def count(request: Request) -> Response:
    """``POST /v1/responses/input_tokens``: what the input would cost; nothing is generated."""
    state = State.of(request)
    wanted = await _wanted(request)
    spec = await _spec(request, wanted)
    wanted = _resolved(state, wanted)
    asked = wanted.request(spec, wanted.messages(_before(state, wanted)))
    tokens = await state.inflight.run(request.receive, lambda: state.sessions.count(asked)) if asked.messages else 0
    return Response(objects.counted(tokens or 0), media_type=JSON)


async def compact(request: Request) -> Response:
    """``POST /v1/responses/compact``: refused by name."""
    raise InvalidRequest(
        'conversations are not compacted here; send "truncation": "auto" to leave out the oldest turns where they do not fit'
    )


async def one(request: Request) -> Response:
    """``GET`` and ``DELETE /v1/responses/{id}``."""
    return await (delete(request) if request.method == "DELETE" else retrieve(request))


async def retrieve(request: Request) -> Response:
    """``GET /v1/responses/{id}``, with ``stream=true`` the events of one that was a stream in the background."""
    state, response_id = State.of(request), request.path_params["id"]
    query = request.query_params
    found = _found(state, response_id)
    if query.get("stream", "").lower() != "true":
        return Response(dumps(found), media_type=JSON)
    after = query.get("starting_after", "-1")
    try:
        first = int(after) + 1
    except ValueError:
        raise InvalidRequest(f"starting_after must be a number, not {quoted(after)}", param="starting_after") from None
    if run := state.background.get(response_id):
        return StreamingResponse(run.follow(first), headers=_STREAM)
    events = _remembered(state).events(response_id)
    if events is None:
        raise InvalidRequest(
            f"the events of {response_id} are not kept: only those of a response made with background=true are",
            param="stream",
        )
    told = [event + b"\n\n" for event in events.split(b"\n\n") if event]
    return Response(b"".join(told[first:]), headers=_STREAM)


async def delete(request: Request) -> Response:
    """``DELETE /v1/responses/{id}``. One that is at work ends."""
    state, response_id = State.of(request), request.path_params["id"]
    _found(state, response_id)
    if run := state.background.get(response_id):
        await run.cancel()
    _remembered(state).delete(response_id)
    return Response(objects.deleted(response_id), media_type=JSON)


async def cancel(request: Request) -> Response:
    """``POST /v1/responses/{id}/cancel``: for those in the background. One that has ended stays as it is."""
    state, response_id = State.of(request), request.path_params["id"]
    if not _found(state, response_id)["background"]:
        raise InvalidRequest(f"{response_id} cannot be cancelled: only a response made with background=true can")
    if run := state.background.get(response_id):
        await run.cancel()
    return Response(dumps(_found(state, response_id)), media_type=JSON)


async def input_items(request: Request) -> Response:
    """``GET /v1/responses/{id}/input_items``: the items of its own request, the last one first."""
    state, response_id = State.of(request), request.path_params["id"]
    _found(state, response_id)
    listed = _remembered(state).inputs(response_id)
    return Response(page(listed, request.query_params, limit=20, most=100), media_type=JSON)


def tidy(remembered: Remembered | None) -> None:
    """At the start: what was at work when the server ended has failed."""
    for response_id in remembered.unfinished() if remembered else ():
        if found := remembered and remembered.get(response_id):
            failed = objects.broken(found, found["output"], "failed", "the server ended while it was at work on this")
            assert remembered is not None
            remembered.put(failed, remembered.inputs(response_id), finished=True)


async def _wanted(request: Request) -> Create:
    body = parse(await body_of(request))
    return Create.decode(body, await fetched(request, body))


async def _spec(request: Request, wanted: Create) -> ModelSpec:
    unknown = Refusal(404, f"model '{wanted.model}' not found", param="model", code="model_not_found")
    spec = await spec_of(
        request, wanted.model, empty=InvalidRequest("model is required", param="model"), unknown=unknown
    )
    require(spec, wanted.model, "completion", "chat")
    return spec


async def _loaded(state: State, asked: ChatRequest) -> AsyncGenerator[Batch, None]:
    """Nothing was asked: the model is loaded, and that is all."""
    await state.sessions.load(asked)
    yield [Finished("stop")]


def _stored(state: State, wanted: Create) -> bool:
    """Whether the response is kept."""
    if state.responses is None:
        if wanted.store or wanted.background or wanted.previous:
            name = "store" if wanted.store else "background" if wanted.background else "previous_response_id"
            raise InvalidRequest(_OFF, param=name)
        return False
    if wanted.background and wanted.store is False:
        raise InvalidRequest(
            '"background" needs "store": nobody could ask for the response otherwise', param="background"
        )
    # One of a batch is read from the batch's file: it need not take the place of others.
    return wanted.store is True if in_background.get() else wanted.store is not False


def _before(state: State, wanted: Create) -> list[Item]:
    """The items of the conversation that the request goes on with."""
    if wanted.previous is None:
        return []
    if (run := state.background.get(wanted.previous)) is not None:
        status = run.encoder.response["status"]
        raise InvalidRequest(f"the previous response has not ended yet: it is {status}", param="previous_response_id")
    found = _remembered(state).conversation(wanted.previous)
    if found is None:
        raise Refusal(
            400,
            f"Previous response with id '{wanted.previous}' not found: it, or one that it builds on, is not kept any longer",
            param="previous_response_id",
            code="previous_response_not_found",
        )
    return found


def _resolved(state: State, wanted: Create) -> Create:
    """``wanted`` with the items that it only names."""
    if not items.references(wanted.items):
        return wanted
    found = []
    for place, item in enumerate(wanted.items):
        if item["type"] != "item_reference":
            found.append(item)
        elif (known := _remembered(state).item(str(item.get("id")))) is not None:
            found.append(known)
        else:
            raise Refusal(404, f"Item with id '{item.get('id')}' not found.", param=f"input[{place}].id")
    return replace(wanted, items=tuple(found))


def _in_background(
    state: State,
    encoder: Encoder,
    answers: AsyncGenerator[Batch, None],
    inputs: list[Item],
    headers: dict[str, str],
    stream: bool,
) -> Response:
    remembered = _remembered(state)

    def keep(response: dict[str, Any], events: list[bytes]) -> None:
        _put(remembered, response, inputs, b"".join(events) if stream and events else None)

    run = state.background.start(encoder, answers, keep)
    if stream:
        return StreamingResponse(run.follow(0), headers=headers | _STREAM)
    return Response(dumps(encoder.response), headers=headers, media_type=JSON)


def _keeping(remembered: Remembered | None, inputs: list[Item]) -> Callable[[dict[str, Any]], None]:
    assert remembered is not None
    return lambda response: _put(remembered, response, inputs)


def _put(remembered: Remembered, response: dict[str, Any], inputs: list[Item], events: bytes | None = None) -> None:
    """Keep a response. Where that fails it is answered all the same: its client has it, and its owner reads the log."""
    try:
        remembered.put(response, inputs, finished=response["status"] in objects.FINISHED, events=events)
    except StoreError as exc:
        logger.error("%s is not kept: %s", response["id"], exc)


def _remembered(state: State) -> Remembered:
    if state.responses is None:
        raise InvalidRequest(_OFF)
    return state.responses


def _found(state: State, response_id: str) -> dict[str, Any]:
    found = state.responses.get(response_id) if state.responses else None
    if found is None:
        raise Refusal(404, f"Response with id '{response_id}' not found.")
    return found


ROUTES = (
    (("POST",), "/v1/responses", create),
    (("POST",), "/v1/responses/input_tokens", count),
    (("POST",), "/v1/responses/compact", compact),
    (("GET",), "/v1/responses/{id}/input_items", input_items),
    (("POST",), "/v1/responses/{id}/cancel", cancel),
    (("GET", "DELETE"), "/v1/responses/{id}", one),
)
