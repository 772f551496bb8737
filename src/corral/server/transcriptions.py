"""The route that turns speech into text."""

from __future__ import annotations

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from corral.dialects.refusals import Refusal
from corral.dialects.transcriptions import Encoder, Transcription
from corral.errors import InvalidRequest
from corral.server.forms import Bytes, form_of
from corral.server.generation import Generation
from corral.server.native import ignored_header, require, spec_of
from corral.server.state import State


async def transcribe(request: Request) -> Response:
    """``POST /v1/audio/transcriptions``: a form with ``file`` and ``model``."""
    state = State.of(request)
    audio = Bytes(state.settings.file_bytes)
    try:
        form = await form_of(request, audio)
    except ClientDisconnect:
        return Response(status_code=499)  # nobody is there to read it
    wanted = Transcription.of(form.fields)
    if form.filename is None:
        raise InvalidRequest("file is required: http: no such file", param="file")
    if not audio.data:
        raise InvalidRequest("audio file is empty", param="file")
    unknown = Refusal(404, f"model '{wanted.model}' not found", param="model", code="model_not_found")
    spec = await spec_of(request, wanted.model, empty=InvalidRequest("model is required"), unknown=unknown)
    require(spec, wanted.model, "audio", "audio")
    events = state.sessions.chat(wanted.request(spec, bytes(audio.data)))
    headers = ignored_header(wanted.ignored)
    if wanted.stream:
        headers |= {"content-type": Encoder.stream_type, "cache-control": "no-cache"}
    elif wanted.shape == "text":
        headers |= {"content-type": "text/plain; charset=utf-8"}
    return Generation(state, Encoder(wanted.shape), events, headers, stream=wanted.stream)


ROUTES = ((("POST",), "/v1/audio/transcriptions", transcribe),)
