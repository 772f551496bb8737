"""Who gets in and by which path: hosts, origins, methods, redirects, and the line in the log."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
import time

import pytest

from corral.config import load_settings
from corral.server.guard import Guard, is_loopback
from tests.conftest import RunningServer, StartServer

LOCAL = Guard.for_server("127.0.0.1", ())


def ask(
    server: RunningServer, method: str, path: str, body: bytes | str | None = None, **headers: str
) -> tuple[int, dict[str, str], str]:
    """Status, headers in lower case, and body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.address.port, timeout=30)
    try:
        connection.putrequest(method, path, skip_host="Host" in headers)
        data = body.encode() if isinstance(body, str) else body
        if data is not None:
            connection.putheader("Content-Length", str(len(data)))
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders(data)
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost:11434", True), ("LOCALHOST", True), ("127.0.0.1:1", True), ("127.8.8.8", True), ("[::1]:11434", True),
        ("192.168.1.20", True), ("10.0.0.1:11434", True), ("0.0.0.0", True), ("box.local", True), ("a.internal:80", True),
        ("x.localhost", True), ("", True), ("evil.example", False), ("8.8.8.8", False), ("localhost.evil.example", False),
        ("[::ffff:192.168.1.1]", True), ("[fd00::1]:80", True), ("169.254.1.1", False), ("192.0.2.1", False), ("240.0.0.1", False),
        ("127.0.0.1.evil.example", False), ("[2001:4860:4860::8888]", False), ("evil.local.example:11434", False),
    ],
)  # fmt: skip
def test_a_server_on_loopback_is_asked_by_local_names_only(host: str, allowed: bool) -> None:
    assert LOCAL.allows_host(host) is allowed
    assert Guard.for_server("0.0.0.0", ()).allows_host(host)


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://localhost", True), ("https://localhost:3000", True), ("http://127.0.0.1:8080", True), ("app://obsidian", True),
        ("vscode-webview://abc", True), ("http://localhost.evil.example", False), ("https://evil.example", False),
        ("null", False), ("", False), ("http://server:11434", True),
    ],
)  # fmt: skip
def test_pages_of_strangers_may_not_ask(origin: str, allowed: bool) -> None:
    assert LOCAL.allows_origin(origin, "server:11434") is allowed
    assert Guard.for_server("127.0.0.1", ("*",)).allows_origin(origin, "server")


def test_an_owner_may_let_pages_in() -> None:
    guard = Guard.for_server(
        "127.0.0.1", load_settings({"OLLAMA_ORIGINS": "https://chat.example,http://*.lan"}).origins
    )
    assert guard.allows_origin("https://chat.example", "server")
    assert guard.allows_origin("http://box.lan", "server")
    assert not guard.allows_origin("https://chat.example.evil", "server")


@pytest.mark.parametrize(
    ("host", "loopback"), [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("lan", False)]
)  # fmt: skip
def test_what_counts_as_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_strangers_get_a_bare_403(shared_server: RunningServer) -> None:
    assert ask(shared_server, "GET", "/api/tags", Host="evil.example")[::2] == (403, "")
    assert ask(shared_server, "GET", "/api/tags", Origin="https://evil.example")[::2] == (403, "")
    assert ask(shared_server, "OPTIONS", "/api/tags", Origin="https://evil.example")[0] == 403
    status, headers, _ = ask(shared_server, "GET", "/api/tags", Origin="http://localhost:3000")
    assert (status, headers["access-control-allow-origin"]) == (200, "http://localhost:3000")


def test_a_preflight_says_what_is_allowed(shared_server: RunningServer) -> None:
    asked = {"Origin": "http://localhost:3000", "Access_Control_Request_Method": "POST"}
    status, headers, body = ask(shared_server, "OPTIONS", "/api/chat", **asked)
    assert (status, body) == (204, "")
    assert "POST" in headers["access-control-allow-methods"]
    assert "Authorization" in headers["access-control-allow-headers"]
    assert headers["access-control-allow-origin"] == "http://localhost:3000"


def test_options_by_a_local_name_needs_no_route(shared_server: RunningServer) -> None:
    status, headers, body = ask(shared_server, "OPTIONS", "/api/chat", Host="localhost:11434")
    assert (status, headers["allow"], body) == (204, "POST", "")
    status, headers, _ = ask(shared_server, "OPTIONS", "/api/nope", Host="box.local")
    assert (status, "allow" in headers) == (204, False)
    assert ask(shared_server, "OPTIONS", "/api/chat", Host="127.0.0.1")[::2] == (405, "405 method not allowed")
    assert ask(shared_server, "OPTIONS", "/api/chat", Host="evil.example")[::2] == (403, "")


@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        ("/api/show", '{"model":"x:cloud"}', "remote model details are unavailable"),
        ("/api/chat", '{"model":"x:cloud"}', "remote model is unavailable"),
        ("/api/experimental/web_search", '{"query":"x"}', "web search is unavailable"),
        ("/api/experimental/web_fetch", '{"url":"https://example.com"}', "web fetch is unavailable"),
    ],
)
def test_what_is_in_the_cloud_is_not_here(shared_server: RunningServer, path: str, body: str, text: str) -> None:
    status, _, answer = ask(shared_server, "POST", path, body)
    assert (status, json.loads(answer)["error"]) == (403, f"ollama cloud is disabled: {text}")


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/", 200, "Ollama is running"),
        ("HEAD", "/", 200, ""),
        ("HEAD", "/api/tags", 200, ""),
        ("HEAD", "/api/version", 200, ""),
        ("GET", "/nothing", 404, "404 page not found"),
        ("GET", "/api", 404, "404 page not found"),
        ("GET", "/api/chat/x", 404, "404 page not found"),
        ("GET", "/api/%2e%2e/%2e%2e/etc/passwd", 404, "404 page not found"),
        ("GET", "/api/generate", 405, "405 method not allowed"),
        ("POST", "/api/tags", 405, "405 method not allowed"),
        ("PUT", "/api/delete", 405, "405 method not allowed"),
        ("HEAD", "/api/ps", 405, ""),
        ("HEAD", "/v1/models", 405, ""),
        ("GET", "/api/status", 200, '{"cloud":{"disabled":true,"source":"env"}}'),
        ("GET", "/api/experimental/model-recommendations", 200, '{"recommendations":[]}'),
        ("POST", "/api/experimental/web_search", 400, '{"error":"missing request body"}'),
        ("POST", "/api/me", 503, '{"error":"account unavailable"}'),
        ("DELETE", "/api/user/keys/c3No", 401, '{"error":"you are not currently signed in"}'),
        ("POST", "/api/signout", 401, '{"error":"you are not currently signed in"}'),
    ],
)
def test_a_path_answers_as_ollamas(
    shared_server: RunningServer, method: str, path: str, status: int, text: str
) -> None:
    found, _, body = ask(shared_server, method, path)
    assert (found, body) == (status, text)


@pytest.mark.parametrize(
    ("method", "path", "status", "location"),
    [
        ("GET", "/api/tags/", 301, "/api/tags"),
        ("GET", "//api/tags", 307, "/api/tags"),
        ("POST", "/api/chat/", 307, "/api/chat"),
        ("GET", "/api/tags/?a=b", 301, "/api/tags?a=b"),
    ],
)
def test_a_slash_too_many_is_redirected(
    shared_server: RunningServer, method: str, path: str, status: int, location: str
) -> None:
    found, headers, _ = ask(shared_server, method, path)
    assert (found, headers["location"]) == (status, location)


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat", "/api/show", "/api/copy"])
@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"x"', b"7", b"null", b"\xff\xfe", b'{"model": 7}', b'{"model": ""}']
)
def test_a_body_that_makes_no_sense_is_refused_in_json(shared_server: RunningServer, path: str, body: bytes) -> None:
    status, headers, text = ask(shared_server, "POST", path, body)
    assert status in {400, 404}
    assert headers["content-type"].startswith("application/json")
    assert json.loads(text)["error"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/json"])
def test_the_content_type_of_a_body_does_not_matter(shared_server: RunningServer, kind: str) -> None:
    body = json.dumps({"model": "tiny"})
    assert ask(shared_server, "POST", "/api/show", body, Content_Type=kind)[0] == 200


def test_a_large_body_is_read_whole(shared_server: RunningServer) -> None:
    body = json.dumps({"model": "tiny", "unknown": "x" * 5_000_000})
    assert ask(shared_server, "POST", "/api/show", body)[0] == 200


def test_every_request_has_one_line_in_the_log(serve: StartServer) -> None:
    server = serve()
    ask(server, "GET", "/api/tags")
    ask(server, "GET", "/x%0aINFO%20forged")
    ask(server, "GET", "/", Host="evil.example")
    deadline = time.monotonic() + 10
    while server.log().count("corral.access") < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    lines = [line.partition("corral.access: ")[2] for line in server.log().splitlines() if "corral.access" in line]
    assert [re.sub(r"\d+\.\d ms", "- ms", line) for line in lines] == [
        "127.0.0.1 GET /api/tags 200 - ms",
        "127.0.0.1 GET /x%0aINFO%20forged 404 - ms",
        "127.0.0.1 GET / 403 - ms",
    ]


def test_an_idle_server_ends_by_itself_unless_a_model_is_loaded(serve: StartServer) -> None:
    idle, busy = serve(CORRAL_IDLE_EXIT="1s"), serve(CORRAL_IDLE_EXIT="1s")
    assert ask(busy, "POST", "/api/generate", '{"model": "tiny"}')[0] == 200
    assert idle.process.wait(20) == 0
    assert busy.process.poll() is None
    assert ask(busy, "POST", "/api/generate", '{"model": "tiny", "keep_alive": 0}')[0] == 200
    assert busy.process.wait(20) == 0


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("CORRAL_KEEP_ALIVE", "soon", "soon"),
        ("OLLAMA_NUM_PARALLEL", "many", "many"),
        ("CORRAL_HOST", "127.0.0.1:99999", "99999"),
        ("CORRAL_ORIGINS", "example.com", "http://example.com"),
        ("CORRAL_KV_CACHE_TYPE", "q3", "q3"),
    ],
)
def test_a_setting_that_makes_no_sense_is_one_clear_line(
    serve: StartServer, variable: str, value: str, said: str
) -> None:
    environment = {"PATH": "/usr/bin", "HOME": "/nonexistent", variable: value}
    done = subprocess.run(
        [sys.executable, "-m", "corral", "serve"], env=environment, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 1
    assert said in done.stderr
    assert variable in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_port_that_is_taken_is_one_clear_line(shared_server: RunningServer) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "corral", "serve"],
        env=shared_server.environment,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    assert f":{shared_server.address.port} is in use already" in done.stderr
    assert len(done.stderr.splitlines()) == 1
