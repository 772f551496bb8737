"""The routes by which models come and go: from a request to the steps of a transfer."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from corral.dialects.native import answers, transfers
from corral.dialects.native.requests import Prune, Transfer, Verify
from corral.dialects.refusals import Refusal, refusal_of
from corral.errors import CorralError, NotSupported
from corral.library import Verification
from corral.names import ModelName
from corral.registry import Credential, Progress, Reach, Wish
from corral.server.asked import Asked
from corral.server.guard import is_loopback
from corral.server.inflight import SHUTTING_DOWN
from corral.server.native import reference
from corral.server.refusing import JSON
from corral.server.state import State

UNUSED_S = 3600.0  # files that were brought for a model have been made one of by then
PARTIAL_S = 30 * 86_400.0
NDJSON = "application/x-ndjson"
_JSON = "application/json"  # what is said of work that had begun, in Ollama's words: without a charset


async def pull(request: Request) -> Response:
    """``POST /api/pull``."""
    state = State.of(request)
    wanted = Transfer.decode(await request.body(), "PullRequest")
    name = reference(wanted.model, empty=Refusal(400, "invalid model name"))
    steps = _checked(state, name, state.transfers.pull(name, _wish(request, wanted, name)))
    return Steps(state, steps, stream=wanted.stream)


async def _checked(
    state: State, name: ModelName, steps: AsyncGenerator[Progress, None]
) -> AsyncGenerator[Progress, None]:
    """``steps``, whose end says if the model that is here now cannot be loaded. Raises `NotSupported` then."""
    async with aclosing(steps):
        async for step in steps:
            if step.status == "success" and (reason := await to_thread.run_sync(_refusal, state, name)):
                raise NotSupported(f'"{name.short}" is here and cannot be loaded: {reason}')
            yield step


def _refusal(state: State, name: ModelName) -> str:
    """Why a model cannot be loaded, where its files say so; any other fault is told when it is loaded."""
    try:
        return state.library.resolve(name).refusal
    except CorralError:
        return ""


async def push(request: Request) -> Response:
    """``POST /api/push``."""
    state = State.of(request)
    wanted = Transfer.decode(await request.body(), "PushRequest")
    name = reference(wanted.model, empty=Refusal(400, "model is required"))
    if await to_thread.run_sync(state.library.store.find, name) is None:
        raise Refusal(404, f"model '{wanted.model}' not found")
    return Steps(state, state.transfers.push(name, _wish(request, wanted, name)), stream=wanted.stream)


def _wish(request: Request, wanted: Transfer, name: ModelName) -> Wish:
    credential = Credential.for_host(name.host, wanted.username, wanted.password) if wanted.password else None
    return Wish(wanted.insecure, credential, reach_of(request))


def reach_of(request: Request) -> Reach:
    """How far the names may reach that come with ``request``: who is on this machine may name any address."""
    client = request.client.host if request.client else ""
    if is_loopback(client) and not {"forwarded", "x-forwarded-for"} & set(request.headers):
        return Reach.EVERYWHERE
    return Reach.NETWORKS if State.of(request).settings.private_registries else Reach.INTERNET


async def verify(request: Request) -> Response:
    """``POST /api/verify``."""
    state = State.of(request)
    wanted = Verify.decode(await request.body())
    empty = Refusal(400, "invalid model name")
    names = [reference(model, empty=empty) for model in wanted.models]
    for name, model in zip(names, wanted.models, strict=True):
        if await to_thread.run_sync(state.library.store.find, name) is None:
            raise Refusal(404, f"model '{model}' not found")
    wish = Wish(wanted.insecure, reach=reach_of(request))
    steps = Verification(state.library, state.transfers).run(names, repair=wanted.repair, wish=wish)
    return Steps(state, steps, stream=wanted.stream)


async def prune(request: Request) -> Response:
    """``POST /api/prune``."""
    wanted = Prune.decode(await request.body())
    age = wanted.older_than_s
    work = partial(
        State.of(request).library.store.prune,
        unused_s=UNUSED_S if age is None else age,
        partial_s=PARTIAL_S if age is None else age,
        dry_run=wanted.dry_run,
    )
    return Response(transfers.removed(await to_thread.run_sync(work)), media_type=JSON)


class Steps(Response):
    """Writes the steps of a transfer as they come, or the last one alone. Who hangs up leaves it."""

    def __init__(self, state: State, steps: AsyncGenerator[Progress, None], *, stream: bool) -> None:
        super().__init__(media_type=NDJSON if stream else JSON)
        self._state = state
        self._steps = steps
        self._stream = stream
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun, last, failure = False, b"", None
        inflight = self._state.inflight
        try:
            async with inflight.scope(receive) as cancel, aclosing(self._steps):
                async for step in self._steps:
                    last = transfers.progress(step)
                    if not self._stream:
                        continue
                    if not begun:
                        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                        begun = True
                    await send({"type": "http.response.body", "body": last + b"\n", "more_body": True})
            if cancel.cancelled_caught:
                failure = Refusal(503, SHUTTING_DOWN) if inflight.closing else None
            elif not self._stream:
                await Response(last, media_type=_JSON)(scope, receive, send)
                return
        except CorralError as exc:
            failure = refusal_of(exc)
        if failure is not None and not begun:
            await Response(answers.error_body(str(failure)), failure.status, failure.headers, _JSON)(
                scope, receive, send
            )
        elif begun:
            Asked.of(scope).broken = failure is not None
            end = answers.error_line(str(failure)) if failure else b""
            await send({"type": "http.response.body", "body": end, "more_body": False})
