"""A server that says what a test tells it to, over real HTTP: the seam between the command line and everything else."""

from __future__ import annotations

import json
import threading
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

RECORDED = {
    record["name"]: record
    for record in map(json.loads, (Path(__file__).parents[1] / "wire" / "tiny.jsonl").read_text().splitlines())
}


@dataclass(frozen=True)
class Reply:
    """One answer. ``hangs`` stops before the end, until the client goes; without ``whole`` the connection is cut there."""

    body: str = ""
    status: int = 200
    hangs: bool = False
    whole: bool = True


@dataclass(frozen=True)
class Asked:
    """One request as it came in."""

    method: str
    path: str
    body: Any


def recorded(name: str) -> Reply:
    """What a real Ollama answered."""
    response = RECORDED[name]["response"]
    return Reply(response["body"], response["status"])


def lines(*documents: dict[str, Any], **how: bool) -> Reply:
    """A stream of objects."""
    return Reply("".join(json.dumps(document) + "\n" for document in documents), **how)


def said(*texts: str, thinking: str = "", **end: Any) -> Reply:
    """A whole answer, as ``/api/generate`` and ``/api/chat`` would give it."""
    thoughts = [{"response": "", "thinking": thinking, "message": {"content": "", "thinking": thinking}, "done": False}]
    pieces = [{"response": text, "message": {"role": "assistant", "content": text}, "done": False} for text in texts]
    last = {"response": "", "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop", **end}
    return lines(*(thoughts if thinking else []), *pieces, last)


@dataclass
class FakeServer:
    """What it will say, by path, in order (the last one again and again), and what it was asked."""

    port: int
    replies: dict[str, deque[Reply]] = field(default_factory=lambda: defaultdict(deque))
    asked: list[Asked] = field(default_factory=list)
    hung_up: threading.Event = field(default_factory=threading.Event)

    def say(self, path: str, *replies: Reply) -> None:
        self.replies[path] = deque(replies)

    def bodies(self, path: str) -> list[Any]:
        """What was sent to ``path``."""
        return [asked.body for asked in self.asked if asked.path == path]


@contextmanager
def fake_server() -> Iterator[FakeServer]:
    """A server on a free port, with a model, until the block ends."""
    fake: FakeServer

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            fake.asked.append(Asked(self.command, self.path, body))
            replies = fake.replies[self.path]
            reply = Reply("404 page not found", 404)
            if replies:
                reply = replies.popleft() if len(replies) > 1 else replies[0]
            self._send(reply)

        def _send(self, reply: Reply) -> None:
            self.close_connection = True
            self.send_response(reply.status)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for line in reply.body.splitlines(keepends=True):
                data = line.encode()
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            if reply.hangs:
                if not self.connection.recv(1):  # the client's end of the connection
                    fake.hung_up.set()
            elif reply.whole:
                self.wfile.write(b"0\r\n\r\n")

        do_GET = do_POST = do_DELETE = do_HEAD = _answer

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake = FakeServer(server.server_port)
    fake.say("/api/version", recorded("version"))
    fake.say("/api/tags", recorded("tags"))
    fake.say("/api/show", recorded("show"))
    fake.say("/api/ps", recorded("ps_loaded"))
    fake.say("/api/generate", recorded("load"))
    fake.say("/api/copy", recorded("copy"))
    fake.say("/api/delete", recorded("delete"))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
