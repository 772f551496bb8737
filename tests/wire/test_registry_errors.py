"""What a user is told when a registry errs, against what Ollama said (``registry_errors.txt``, recorded)."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from corral.names import ModelName
from corral.store import Manifest, MediaType, Store
from corral.store.manifest import CONFIG_TYPE, MANIFEST_TYPE
from tests.conftest import StartServer
from tests.registry.fake import digest_of

WEIGHTS, CONFIG = b"weights", b"{}"
DENIED = '{"errors":[{"code":"DENIED","message":"no"}]}'
PUSH_DENIED = '{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}'


@dataclass(frozen=True)
class Case:
    """What the registry answers to one kind of request, and what we say where we do not say what Ollama does."""

    method: str
    kind: str  # the part of a path
    status: int = 200
    body: str = ""
    says: str = ""
    why: str = ""
    token: tuple[int, str] = (200, '{"token": "TOKEN"}')


TRY_LOGIN = "says what to try"
CASES = {
    "no such model": Case("GET", "manifests", 404, says="the registry has no model", why="names the model"),
    "manifest 404 with a text": Case(
        "GET", "manifests", 404, "gone", says="the registry has no model", why="names the model"
    ),
    "manifest 500": Case("GET", "manifests", 500, "broken"),
    "manifest 403": Case("GET", "manifests", 403, DENIED),
    "manifest 429": Case("GET", "manifests", 429, "slow down"),
    "manifest not JSON": Case("GET", "manifests", 200, "<html>", "is not JSON", "names the address"),
    "manifest empty object": Case("GET", "manifests", 200, "{}", "it has no list of layers", "is no success"),
    "manifest of a list type": Case("GET", "manifests", 200, '{"manifests": []}', "names no manifest", "is no success"),
    "manifest with a bad digest": Case(
        "GET", "manifests", 200, '{"config": {"digest": "sha256:x", "size": 1, "mediaType": "a"}, "layers": []}',
        "has the digest 'sha256:x'", "names the digest",
    ),
    "blob GET 404": Case("GET", "blobs", 404, "", "does not have sha256:", "says at once which blob, and its status"),
    "push: HEAD 500": Case("HEAD", "blobs", 500, "", "does not say whether it has sha256:", "names the request"),
    "push: POST 403": Case("POST", "uploads", 403, PUSH_DENIED, "takes no upload: 403: ", "names the request"),
    "push: manifest 400": Case(
        "PUT", "manifests", 400, '{"errors":[{"code":"MANIFEST_INVALID"}]}', "refuses the manifest: 400: ",
        "names the request",
    ),
    "401 again after the token": Case("GET", "manifests", 401, "{}", "unauthorized: access denied", TRY_LOGIN),
    "token refused": Case(
        "GET", "manifests", 401, "{}", "unauthorized: access denied", TRY_LOGIN, token=(403, "no such user")
    ),
    "token not JSON": Case("GET", "manifests", 401, "{}", "sends no token", "names the host", token=(200, "hello")),
}  # fmt: skip


def recorded() -> dict[str, str]:
    """The last line that Ollama's user saw, by title."""
    text = Path(__file__).with_name("registry_errors.txt").read_text()
    found = {}
    for section in re.split(r"^## ", text, flags=re.M)[1:]:
        title = section.partition(":" if not section.startswith("push: ") else ": ")[0]
        if section.startswith("push: "):
            title = "push: " + section.removeprefix("push: ").partition(":")[0]
        found[title] = section.rstrip().splitlines()[-1].strip()
    return found


@dataclass
class Scripted:
    """A registry that has one model, and errs at one kind of request."""

    case: Case
    port: int = 0
    asked: list[str] = field(default_factory=list)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def answer(self, method: str, path: str) -> tuple[int, bytes, dict[str, str]]:
        if path.startswith("/token"):
            return self.case.token[0], self.case.token[1].encode(), {}
        if method == self.case.method and f"/{self.case.kind}/" in path:
            challenge = f'Bearer realm="http://{self.host}/token",service="x",scope="repository:a:pull"'
            headers = {"WWW-Authenticate": challenge} if self.case.status == 401 else {}
            return self.case.status, self.case.body.encode(), headers
        if "/uploads/" in path:
            status = {"POST": 202, "PATCH": 202, "PUT": 201, "GET": 404}[method]
            return status, b"", {"Location": path if method != "POST" else "/v2/x/blobs/uploads/1", "Range": "0-6"}
        if method == "HEAD" and "/blobs/" in path:
            return 404, b"", {}
        if method == "GET" and "/manifests/" in path:
            entries = [
                {"mediaType": kind, "digest": digest_of(data), "size": len(data)}
                for kind, data in ((MediaType.MODEL, WEIGHTS), (CONFIG_TYPE, CONFIG))
            ]
            document = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "layers": entries[:1], "config": entries[1]}
            return 200, json.dumps(document).encode(), {}
        return 200, CONFIG if digest_of(CONFIG) in path else WEIGHTS, {}

    @contextmanager
    def running(self) -> Iterator[Scripted]:
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                scripted.asked.append(f"{self.command} {self.path}")
                status, body, headers = scripted.answer(self.command, self.path)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = answer

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


@pytest.mark.parametrize("title", CASES)
def test_an_error_of_a_registry_is_told_as_ollama_tells_it_or_better(title: str, serve: StartServer) -> None:
    case, theirs = CASES[title], recorded()[title]
    with Scripted(case).running() as registry:
        server = serve(CORRAL_OFFLINE="0")
        name = ModelName.parse(f"{registry.host}/library/tiny")
        push = case.method != "GET"
        if push:
            store = Store(server.models)
            manifest = Manifest(store.add_bytes(CONFIG, CONFIG_TYPE), (store.add_bytes(WEIGHTS, MediaType.MODEL),))
            store.write(name, manifest)
        command = [sys.executable, "-m", "corral", "push" if push else "pull", "--insecure", name.short]
        done = subprocess.run(command, capture_output=True, text=True, env=server.environment)
        said = done.stderr.splitlines()[-1]
        assert done.returncode == 1
        assert Store(server.models).find(name) is None or push
    if case.why:
        assert said != theirs, f"{title} does not differ any more: take the reason away"
        assert case.says in said
    else:
        assert said == theirs
    assert len(registry.asked) < 8  # nothing is asked for a minute that was answered at once
