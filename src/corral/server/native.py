"""The routes of the native API: from a request's bytes to an answer's, with the library and the sessions between."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

import corral
from corral.dialects.native import answers, models
from corral.dialects.native.requests import Chat, Copy, Generate, Inference, Show, decode_delete
from corral.dialects.refusals import Refusal
from corral.durations import quoted
from corral.engine.base import Batch
from corral.errors import (
    CorralError,
    InvalidName,
    InvalidRequest,
    ModelNotFound,
    NotSupported,
)
from corral.library import ModelSpec
from corral.names import ModelName, ModelReference
from corral.runtime.numbers import label
from corral.runtime.pool import model_key
from corral.server.asked import Asked
from corral.server.generation import Generation
from corral.server.refusing import JSON
from corral.server.state import State

PLAIN = "text/plain; charset=utf-8"
_COPILOT = "GitHubCopilotChat/"  # it calls models by their base name, and would ask for that


async def root(request: Request) -> Response:
    """``GET /``: clients look for these very words."""
    return Response("Ollama is running", media_type=PLAIN)


async def version(request: Request) -> Response:
    """``GET /api/version``."""
    return _json(models.version(corral.__version__))


async def tags(request: Request) -> Response:
    """``GET /api/tags``."""
    state = State.of(request)
    return _json(models.tags(await to_thread.run_sync(state.library.list)))


async def ps(request: Request) -> Response:
    """``GET /api/ps``."""
    return _json(models.ps(State.of(request).pool.loaded()))


async def show(request: Request) -> Response:
    """``POST /api/show``."""
    state = State.of(request)
    wanted = Show.decode(await request.body())
    name = reference(wanted.model, empty=InvalidRequest("model is required"), wanted="remote model details are")

    basename = wanted.model if request.headers.get("user-agent", "").startswith(_COPILOT) else ""

    def read() -> bytes:
        details = state.library.show(name, verbose=wanted.verbose, system=wanted.system, options=wanted.options)
        return models.show(details, basename=basename)

    try:
        return _json(await to_thread.run_sync(read))
    except ModelNotFound as exc:
        raise Refusal(404, f"model '{name.short}' not found") from exc


async def copy(request: Request) -> Response:
    """``POST /api/copy``."""
    wanted = Copy.decode(await request.body())
    names: list[ModelName] = []
    for what, text in (("source", wanted.source), ("destination", wanted.destination)):
        try:
            names.append(ModelReference.parse(text).name)
        except InvalidName as exc:
            raise Refusal(400, f"{what} {quoted(text)} is invalid") from exc
    try:
        await to_thread.run_sync(State.of(request).library.copy, names[0], names[1])
    except ModelNotFound as exc:
        raise Refusal(404, f"model {quoted(wanted.source)} not found") from exc
    return Response()


async def delete(request: Request) -> Response:
    """``DELETE /api/delete``."""
    state = State.of(request)
    model = decode_delete(await request.body())
    if not model:
        raise Refusal(400, "model is required")
    try:
        name = ModelReference.parse(model).name
    except InvalidName as exc:
        raise Refusal(400, f"name {quoted(model)} is invalid") from exc
    try:
        await to_thread.run_sync(state.library.delete, name)
    except ModelNotFound as exc:
        raise Refusal(404, f"model '{model}' not found") from exc
    await to_thread.run_sync(state.pool.translated.sweep, state.library.store.root / "blobs")
    return Response()


async def generate(request: Request) -> Response:
    """``POST /api/generate``."""
    state = State.of(request)
    wanted = Generate.decode(await request.body())
    spec = await spec_of(request, wanted.model, empty=Refusal(404, "model '' not found"))
    encoder = answers.Encoder(wanted.model, chat=False)
    if not wanted.prompt and wanted.keep_alive_s == 0:
        state.pool.unload(model_key(spec))
        return _json(encoder.without_generation("unload"))
    if wanted.raw and (wanted.template or wanted.system or wanted.context):
        raise InvalidRequest("raw mode does not support template, system, or context")
    require(spec, wanted.model, "completion", "generate")
    if wanted.suffix and "insert" not in spec.capabilities:
        raise NotSupported(f"{spec.name} does not support insert")
    asked = wanted.request(spec)
    if not wanted.prompt:
        await state.inflight.run(request.receive, lambda: state.sessions.load(asked))
        return _json(encoder.without_generation("load"))
    if wanted.render_only:
        prompt = await state.inflight.run(request.receive, lambda: state.sessions.render(asked))
        return _json(encoder.rendered(prompt or "", len(wanted.images)))
    return _answer(state, wanted, encoder, state.sessions.generate(asked), asked.options.ignored)


async def chat(request: Request) -> Response:
    """``POST /api/chat``."""
    state = State.of(request)
    wanted = Chat.decode(await request.body())
    spec = await spec_of(request, wanted.model, empty=InvalidRequest("model is required"))
    encoder = answers.Encoder(wanted.model, chat=True)
    if not wanted.messages and wanted.keep_alive_s == 0:
        state.pool.unload(model_key(spec))
        return _json(encoder.without_generation("unload"))
    require(spec, wanted.model, "completion", "chat")
    asked = wanted.request(spec)
    if not wanted.messages:
        await state.inflight.run(request.receive, lambda: state.sessions.load(asked))
        return _json(encoder.without_generation("load"))
    if wanted.render_only:
        prompt = await state.inflight.run(request.receive, lambda: state.sessions.render(asked))
        return _json(encoder.rendered(prompt or "", sum(len(m.images) for m in wanted.messages)))
    return _answer(state, wanted, encoder, state.sessions.chat(asked), asked.options.ignored)


def _answer(
    state: State,
    wanted: Inference,
    encoder: answers.Encoder,
    events: AsyncGenerator[Batch, None],
    ignored: tuple[str, ...],
) -> Response:
    """A generation as a response."""
    return Generation(state, encoder, events, ignored_header(ignored), stream=wanted.stream)


def _json(body: bytes) -> Response:
    return Response(body, media_type=JSON)


def ignored_header(ignored: Sequence[str]) -> dict[str, str]:
    """Options that mean nothing here, named in a header."""
    return {"x-corral-ignored-options": ", ".join(_header_text(name) for name in ignored)} if ignored else {}


def _header_text(text: str) -> str:
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text)


def reference(model: str, *, empty: CorralError, wanted: str = "remote model is") -> ModelName:
    """The name that a request means; cloud models do not exist here, nor what is ``wanted`` of one."""
    if not model.strip():
        raise empty
    try:
        reference = ModelReference.parse(model)
    except InvalidName as exc:
        raise Refusal(400, "invalid model name", param="model") from exc
    if reference.source == "cloud":
        raise Refusal(403, f"ollama cloud is disabled: {wanted} unavailable", param="model")
    return reference.name


async def spec_of(request: Request, model: str, *, empty: CorralError, unknown: CorralError | None = None) -> ModelSpec:
    """The model that a request means. Raises ``empty`` where it names none, ``unknown`` where it is not here."""
    library, name = State.of(request).library, reference(model, empty=empty)
    try:
        known = library.known(name)
        spec = known if known is not None else await to_thread.run_sync(library.resolve, name)
        Asked.of(request.scope).model = label(spec.name)
        return spec
    except ModelNotFound as exc:
        raise unknown or Refusal(404, f"model '{model}' not found") from exc


def require(spec: ModelSpec, model: str, capability: str, act: str) -> None:
    """Raises `NotSupported` that calls the model as its client did, where it lacks ``capability``."""
    if capability not in spec.capabilities:
        raise NotSupported(f"{quoted(model)} does not support {act}", param="model")
