"""Requests that the server makes of itself: the same app code answers as for clients, without a connection."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Scope

INSIDE = "corral.inside"  # in a scope: nobody from outside can put it there


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered."""

    status: int
    body: bytes


async def ask(app: ASGIApp, path: str, body: bytes, request_id: str) -> Answer:
    """``POST`` JSON to ``path`` of this very server. It is logged, counted and refused as any other request is."""
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [
            (b"host", b"localhost"),
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"x-request-id", request_id.encode()),
        ],
        "client": None,
        "server": None,
        INSIDE: True,
    }
    to_send = [body]
    status = 500
    said = bytearray()

    async def receive() -> Message:
        if to_send:
            return {"type": "http.request", "body": to_send.pop(), "more_body": False}
        return await asyncio.Event().wait()  # type: ignore[return-value]  # it does not hang up

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            said.extend(message.get("body", b""))

    await app(scope, receive, send)
    return Answer(status, bytes(said))
