"""The routes of OpenAI's API."""

from __future__ import annotations

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from corral.dialects.anthropic import models as anthropic_models
from corral.dialects.openai import models
from corral.dialects.openai.asked import no_model
from corral.dialects.openai.chat import Chat
from corral.dialects.openai.chat_answers import ChatEncoder
from corral.dialects.openai.completion_answers import CompletionEncoder
from corral.dialects.openai.completions import Completion
from corral.dialects.openai.embeddings import Embeddings
from corral.dialects.refusals import Refusal
from corral.errors import InvalidRequest, NotSupported
from corral.library import ModelSpec
from corral.runtime.choices import together
from corral.runtime.embedding import Embedded
from corral.server import anthropic
from corral.server.asked import Asked
from corral.server.bodies import body_of
from corral.server.generation import Generation
from corral.server.media import fetched_for
from corral.server.native import ignored_header, reference, require, spec_of
from corral.server.refusing import JSON
from corral.server.state import State


async def chat(request: Request) -> Response:
    """``POST /v1/chat/completions``."""
    state = State.of(request)
    body = await body_of(request)
    wanted = Chat.decode(body, await fetched_for(request, body))
    spec = await _spec(request, wanted.model)
    require(spec, wanted.model, "completion", "chat")
    asked = wanted.requests(spec)
    encoder = ChatEncoder(wanted.model, n=wanted.n, include_usage=wanted.include_usage, functions=wanted.functions)
    if wanted.render_only:
        prompt = await state.inflight.run(request.receive, lambda: state.sessions.render(asked[0]))
        return Response(encoder.rendered(prompt or ""), media_type=JSON)
    events = together([state.sessions.chat(one) for one in asked])
    return Generation(state, encoder, events, ignored_header(wanted.options.ignored), stream=wanted.stream)


async def complete(request: Request) -> Response:
    """``POST /v1/completions``."""
    state = State.of(request)
    wanted = Completion.decode(await body_of(request))
    spec = await _spec(request, wanted.model)
    require(spec, wanted.model, "completion", "generate")
    if wanted.suffix and "insert" not in spec.capabilities:
        raise NotSupported(f"{spec.name} does not support insert")
    asked = wanted.requests(spec)
    encoder = CompletionEncoder(
        wanted.model,
        n=wanted.n,
        include_usage=wanted.include_usage,
        with_logprobs=wanted.top_logprobs is not None,
        echoes=[str(prompt) for prompt in wanted.prompts] if wanted.echo else (),
    )
    headers = ignored_header(wanted.options.ignored)
    if wanted.only_loads:
        await state.inflight.run(request.receive, lambda: state.sessions.load(asked[0]))
        if wanted.stream:
            return Response(encoder.loaded_line(), headers={**headers, "content-type": encoder.stream_type})
        return Response(encoder.loaded(), headers=headers, media_type=JSON)
    events = together([state.sessions.generate(one) for one in asked])
    return Generation(state, encoder, events, headers, stream=wanted.stream)


async def embed(request: Request) -> Response:
    """``POST /v1/embeddings``: a vector for each text, none of which is cut."""
    state = State.of(request)
    wanted = Embeddings.decode(await body_of(request))
    spec = await _spec(request, wanted.model)
    require(spec, wanted.model, "embedding", "embeddings")
    asked = wanted.request(spec)
    embedded = await state.inflight.run(request.receive, lambda: state.sessions.embed(asked))
    if embedded is None:  # nobody waits for them any more
        embedded = Embedded(())
    return Response(wanted.answer(embedded), headers=ignored_header(wanted.options.ignored), media_type=JSON)


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
        raise Refusal(404, f"model '{name.short}' not found", param="model", code="model_not_found")
    write = anthropic_models.model if Asked.of(request.scope).dialect == "anthropic" else models.model
    return Response(write(found, asked), media_type=JSON)


async def _spec(request: Request, model: str) -> ModelSpec:
    unknown = Refusal(404, f"model '{model}' not found", param="model", code="model_not_found")
    return await spec_of(request, model, empty=no_model(), unknown=unknown)


ROUTES = (
    (("POST",), "/v1/chat/completions", chat),
    (("POST",), "/v1/completions", complete),
    (("POST",), "/v1/embeddings", embed),
    (("GET",), "/v1/models", list_models),
    (("GET",), "/v1/models/{model:path}", show_model),
)
