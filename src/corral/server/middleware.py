"""What every request passes: slash redirects, the guard, the count of requests in flight, the id, one line in the log."""

from __future__ import annotations

import logging
import posixpath
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from corral.dialects.gojson import dumps
from corral.dialects.refusals import Refusal
from corral.logs import request_id
from corral.server.asked import OPERATIONS, Asked, Requests
from corral.server.guard import ALLOW_HEADERS, ALLOW_METHODS, PREFLIGHT_MAX_AGE_S, Guard
from corral.server.inflight import SHUTTING_DOWN, Inflight
from corral.server.refusing import refuse

logger = logging.getLogger("corral.access")

Routes = Callable[[str], Sequence[str]]  # the methods that a path answers to, in order; none if there is no such path


class Entrance:
    """ASGI middleware around the whole app, in the order in which Ollama's router does it."""

    def __init__(
        self, app: ASGIApp, *, guard: Guard, inflight: Inflight, requests: Requests, methods_of: Routes
    ) -> None:
        self._app = app
        self._guard = guard
        self._inflight = inflight
        self._requests = requests
        self._methods_of = methods_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        status = 500
        asked = Asked.begin(scope)
        request_id.set(asked.id)  # never set back: what the server logs after us is of this request too
        id_headers = [(name.encode(), value.encode()) for name, value in asked.id_headers.items()]

        async def watching_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], *id_headers]}
            elif not message.get("more_body"):
                asked.whole = True
            await send(message)

        async def watching_receive() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect" and not asked.whole:
                asked.hung_up = True
            return message

        watched = scope["path"] in OPERATIONS  # every few seconds: no reason to stay, and no news
        try:
            with nullcontext() if watched else self._inflight.request():
                await self._answer(scope, watching_receive, watching_send)
        finally:
            self._requests[asked.dialect, asked.model, asked.outcome(status, closing=self._inflight.closing)] += 1
            client = scope["client"][0] if scope.get("client") else "-"
            milliseconds = (time.monotonic() - started) * 1000
            path = scope["raw_path"].decode("latin-1")  # as it came: no line can be forged with it
            level = logging.DEBUG if watched and status == 200 else logging.INFO
            logger.log(level, "%s %s %s %d %.1f ms", client, scope["method"], path, status, milliseconds)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if redirect := self._redirect(scope):
            await redirect(scope, receive, send)
            return
        foreign = origin is not None and origin not in (f"http://{host}", f"https://{host}")
        if foreign and not self._guard.allows_origin(origin or "", host):
            await Response(status_code=403)(scope, receive, send)
            return
        if foreign and scope["method"] == "OPTIONS":
            await self._preflight(scope["path"], origin or "")(scope, receive, send)
            return
        if not self._guard.allows_host(host):
            await Response(status_code=403)(scope, receive, send)
            return
        if scope["method"] == "OPTIONS" and self._guard.answers_options(host):
            await self._allowed(scope["path"])(scope, receive, send)
            return
        if self._inflight.draining and scope["path"] not in OPERATIONS:
            leaving = {"connection": "close", "retry-after": "5"}
            await refuse(scope, Refusal(503, SHUTTING_DOWN, leaving))(scope, receive, send)
            return
        await self._app(scope, receive, self._with_origin(send, origin or "") if foreign else send)

    def _redirect(self, scope: Scope) -> Response | None:
        """To the path as it should be written, where that is a route and this one is not."""
        path: str = scope["path"]
        if self._methods_of(path):
            return None
        clean = posixpath.normpath("/" + path.lstrip("/")) if path else "/"
        candidates = [clean, clean.rstrip("/") + "/"]
        target = next((c for c in candidates if c != path and self._methods_of(c)), None)
        if target is None:
            return None
        unclean = "//" in path or "/./" in path or "/../" in path
        status = 307 if unclean or scope["method"] != "GET" else 301
        location = target + ("?" + scope["query_string"].decode("latin-1") if scope.get("query_string") else "")
        body = ""
        if scope["method"] == "GET":
            word = "Moved Permanently" if status == 301 else "Temporary Redirect"
            body = f'<a href="{dumps(location).decode()[1:-1]}">{word}</a>.\n\n'
        response = Response(body, status, {"location": location})
        if body:
            response.headers["content-type"] = "text/html; charset=utf-8"
        return response

    def _preflight(self, path: str, origin: str) -> Response:
        response = self._allowed(path)
        response.headers.update(self._origin_headers(origin))
        response.headers["access-control-allow-methods"] = ALLOW_METHODS
        response.headers["access-control-allow-headers"] = ALLOW_HEADERS
        response.headers["access-control-max-age"] = PREFLIGHT_MAX_AGE_S
        response.headers.append("vary", "Access-Control-Request-Method")
        response.headers.append("vary", "Access-Control-Request-Headers")
        return response

    def _allowed(self, path: str) -> Response:
        methods = self._methods_of(path)
        return Response(status_code=204, headers={"allow": ", ".join(methods)} if methods else None)

    def _origin_headers(self, origin: str) -> dict[str, str]:
        if self._guard.any_origin:
            return {"access-control-allow-origin": "*"}
        return {"access-control-allow-origin": origin, "vary": "Origin"}

    def _with_origin(self, send: Send, origin: str) -> Send:
        async def send_with_origin(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._origin_headers(origin))
            await send(message)

        return send_with_origin
