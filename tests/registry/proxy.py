"""A line to a registry with faults to order: what goes over it is cut, delayed, changed, refused or sent elsewhere."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_STEP = 1 << 16
_NOT_PASSED_ON = ("connection", "transfer-encoding", "content-length", "location", "date", "server")


@dataclass(slots=True)
class Fault:
    """One thing that goes wrong with requests of ``method``, to paths that contain ``about``, ``times`` times."""

    method: str
    about: str = "/blobs/"
    times: int = 1
    status: int = 0
    retry_after: str = ""
    cut_request_after: int = -1  # bytes of the request's body that still go through
    lose_answer: bool = False  # the registry did it; nobody hears of it
    cut_after: int = -1  # bytes of the answer's body
    delay_s: float = 0
    trickle: bool = False  # a byte now and then
    whole: bool = False  # 200 and everything, whatever range was asked for
    corrupt: bool = False  # one byte of the answer's body
    redirect: Callable[[str], str] | None = None  # path to another address


@dataclass
class Proxy:
    """The line. ``faults`` are taken in their order by the requests that they are about."""

    target: str
    faults: list[Fault] = field(default_factory=list)
    met: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    port: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def fault_for(self, method: str, path: str) -> Fault | None:
        with self.lock:
            self.requests.append((method, path))
            for fault in self.faults:
                if fault.times and fault.method == method and fault.about in path:
                    fault.times -= 1
                    self.met.append(fault)
                    return fault
        return None


@contextmanager
def proxy(target: str, *faults: Fault) -> Iterator[Proxy]:
    """A line to ``target`` until the block ends."""
    line = Proxy(target, list(faults))

    class Handler(_Handler):
        it = line

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    line.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield line
    finally:
        line.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


def in_one_second() -> str:
    """A date as ``Retry-After`` may have it."""
    return formatdate(time.time() + 1, usegmt=True)


class _Handler(BaseHTTPRequestHandler):
    it: Proxy
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def _pass_on(self) -> None:
        fault = self.it.fault_for(self.command, self.path) or Fault(self.command)
        with suppress(OSError, http.client.HTTPException):
            self._forward(fault)
            return
        self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = _pass_on

    def _forward(self, fault: Fault) -> None:
        self.it.ended.wait(fault.delay_s)
        length = int(self.headers.get("Content-Length") or 0)
        if fault.status:
            self.rfile.read(length)
            more = {"Retry-After": fault.retry_after} if fault.retry_after else {}
            self._answer(fault.status, more, b"not now")
            return
        if fault.redirect is not None:
            self._answer(307, {"Location": fault.redirect(self.path)}, b"")
            return
        far = http.client.HTTPConnection(self.it.target, timeout=30)
        try:
            far.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() != "range" or not fault.whole:
                    far.putheader(name, value)
            far.endheaders()
            left = length if fault.cut_request_after < 0 else min(length, fault.cut_request_after)
            while left and (data := self.rfile.read(min(_STEP, left))):
                far.send(data)
                left -= len(data)
            if fault.cut_request_after >= 0:
                self.close_connection = True
                return
            self._return(far.getresponse(), fault)
        finally:
            far.close()

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _return(self, answer: http.client.HTTPResponse, fault: Fault) -> None:
        if fault.lose_answer:
            answer.read()
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _NOT_PASSED_ON:
                self.send_header(name, value)
        if location := answer.getheader("Location"):
            self.send_header("Location", self._here(location))
        self.send_header("Content-Length", answer.getheader("Content-Length") or "0")
        self.end_headers()
        if self.command != "HEAD":
            self._body(answer, fault)

    def _body(self, answer: http.client.HTTPResponse, fault: Fault) -> None:
        sent = 0
        while data := answer.read(_STEP):
            if fault.corrupt and not sent:
                data = bytes([data[0] ^ 1]) + data[1:]
            if 0 <= fault.cut_after <= sent + len(data):
                self.wfile.write(data[: fault.cut_after - sent])
                self.close_connection = True
                return
            if fault.trickle:
                for at in range(len(data)):
                    self.wfile.write(data[at : at + 1])
                    if self.it.ended.wait(0.2):
                        return
            self.wfile.write(data)
            sent += len(data)

    def _here(self, location: str) -> str:
        parts = urlsplit(location)
        return parts._replace(scheme="http", netloc=self.it.host).geturl()
