"""A registry with faults to order: it serves what it is given over the distribution protocol, and misbehaves as it is told."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from corral.store.manifest import CONFIG_TYPE, MANIFEST_TYPE, MediaType


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass
class Faults:
    """What goes wrong, where anything does."""

    cut_after: int = 0  # bytes of a body, then the connection ends
    no_ranges: bool = False
    wrong_range: bool = False
    corrupt: set[int] = field(default_factory=set)  # bytes that come wrong, each once
    corrupt_always: bool = False
    redirect: bool = False  # blobs lie behind links of the host "localhost"
    link_uses: int = 0  # how often a link is good
    statuses: list[tuple[int, dict[str, str]]] = field(default_factory=list)  # the next answers about blobs
    chunk_s: float = 0  # between two pieces of 64 KiB
    stall_once: bool = False
    token: str = ""  # what it wants to see
    token_uses: int = 0  # how often one is good
    signed: bool = False  # tokens are for those who sign alone


class FakeRegistry:
    """Serves ``manifests`` by ``repository:tag`` and ``blobs`` by digest at ``host``."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, bytes] = {}
        self.faults = Faults()
        self.files: dict[str, bytes] = {}  # by path, beside the protocol
        self.documents: dict[str, Callable[[], tuple[bytes, dict[str, str]]]] = {}  # other answers, with headers
        self.answers: dict[str, Callable[[], tuple[int, bytes]]] = {}  # statuses and bodies
        self.requests: list[tuple[str, str]] = []
        self.sent: Counter[str] = Counter()  # bytes of each blob
        self.authorizations: list[tuple[str, str]] = []  # host, header
        self.link, self.uses = 0, Counter[str]()
        self.lock = threading.Lock()
        self.port = 0

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def add(self, name: str, *layers: bytes, config: bytes = b'{"model_format": "gguf"}') -> bytes:
        """A model of these layers; its manifest."""
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": self.entry(config, CONFIG_TYPE),
            "layers": [self.entry(layer, MediaType.MODEL) for layer in layers],
        }
        self.manifests[name] = json.dumps(document, indent=1).encode()
        return self.manifests[name]

    def entry(self, data: bytes, media_type: str) -> dict[str, object]:
        self.blobs[digest_of(data)] = data
        return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}

    def asked_for_blobs(self) -> int:
        return sum("/blobs/" in path or path.startswith("/cdn/") for _, path in self.requests)

    @contextmanager
    def running(self) -> Iterator[FakeRegistry]:
        registry = self

        class Handler(_Handler):
            it = registry

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    it: FakeRegistry
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        it, host = self.it, self.headers["Host"]
        with it.lock:
            it.requests.append((self.command, self.path))
            it.authorizations.append((host, self.headers.get("Authorization", "")))
        self.path = self.path.partition("?ns=")[0]
        try:
            self._answer()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _answer(self) -> None:
        it, path = self.it, self.path
        if path.startswith("/token"):
            if it.faults.signed and ":" not in self.headers.get("Authorization", ""):
                self._send(401, b"who are you?")
                return
            with it.lock:
                it.uses["token"] = 0
            self._send(200, json.dumps({"token": it.faults.token}).encode())
            return
        if path.startswith("/cdn/"):
            number, _, digest = path.removeprefix("/cdn/").partition("/")
            with it.lock:
                it.uses[number] += 1
                expired = it.faults.link_uses and it.uses[number] > it.faults.link_uses
            if expired:
                self._send(403, b"the link has expired")
            else:
                self._blob(digest)
            return
        with it.lock:
            it.uses["token"] += 1
            run_out = 0 < it.faults.token_uses < it.uses["token"]
        if it.faults.token and (run_out or self.headers.get("Authorization") != f"Bearer {it.faults.token}"):
            realm = f'Bearer realm="http://{it.host}/token",service="fake",scope="repository:x:pull"'
            self._send(401, b"{}", {"WWW-Authenticate": realm})
            return
        if path in it.answers:
            self._send(*it.answers[path]())
            return
        if found := re.fullmatch(r"/v2/(.+)/manifests/(.+)", path):
            body = it.manifests.get(f"{found[1]}:{found[2]}") or it.manifests.get(found[2])
            self._send(200 if body is not None else 404, body or b"{}")
            return
        if path in it.documents:
            body, headers = it.documents[path]()
            self._send(200, body, headers)
            return
        if "/resolve/main/" in path and (file := it.files.get(path.partition("/resolve/main/")[2])) is not None:
            path = f"/v2/x/blobs/{digest_of(file)}"
        found = re.fullmatch(r"/v2/.+/blobs/(sha256:[0-9a-f]{64})", path)
        with it.lock:
            status, headers = it.faults.statuses.pop(0) if it.faults.statuses else (0, {})
        if status:
            self._send(status, b"not now", headers)
        elif not found or found[1] not in it.blobs:
            self._send(404, b"{}")
        elif it.faults.redirect:
            with it.lock:
                it.link += 1
                link = it.link
            self._send(307, b"", {"Location": f"http://localhost:{it.port}/cdn/{link}/{found[1]}"})
        else:
            self._blob(found[1])

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _blob(self, digest: str) -> None:
        it, faults = self.it, self.it.faults
        data = it.blobs[digest]
        first, last = 0, len(data) - 1
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked and not faults.no_ranges:
            first, last = int(asked[1]), int(asked[2])
            self.send_response(206)
            shift = 1 if faults.wrong_range else 0
            self.send_header("Content-Range", f"bytes {first + shift}-{last + shift}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        body = bytearray(data[first : last + 1])
        with it.lock:
            for at in [at for at in faults.corrupt if first <= at <= last]:
                body[at - first] ^= 1
                if not faults.corrupt_always:
                    faults.corrupt.discard(at)
            stall, faults.stall_once = faults.stall_once, False
        step = 1 << 16
        for at in range(0, len(body), step):
            if faults.cut_after and at >= faults.cut_after:
                self.close_connection = True
                return
            self.wfile.write(body[at : at + step])
            it.sent[digest] += len(body[at : at + step])
            if stall:
                time.sleep(3)
                self.close_connection = True
                return
            if faults.chunk_s:
                time.sleep(faults.chunk_s)
