"""A small client for a running server: the command line's only way in.

It is synchronous and stands on the standard library's ``http.client``: a command makes a request or two, and loading an
asynchronous client for that would take longer than the requests.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any, BinaryIO

from corral.config import Address
from corral.errors import ServerError, ServerUnreachable

Document = dict[str, Any]
_CHUNK_BYTES = 1 << 20


class Client:
    """Talks to the server at ``address``. Each request has its own connection; closing a stream ends the work behind it."""

    def __init__(self, address: Address) -> None:
        self.address = address

    def reachable(self, timeout_s: float = 5.0) -> bool:
        """Whether a server answers there; ``False`` when nobody listens.

        Raises `ServerUnreachable` when the port is taken by something else, or when the address leads nowhere.
        """
        try:
            status, body = self._once("GET", "/api/version", timeout_s=timeout_s)
        except ServerUnreachable as exc:
            if isinstance(exc.__cause__, ConnectionRefusedError):
                return False
            raise
        if status in (401, 403):
            raise ServerUnreachable(f"the server at {self.address.url} refuses this client (status {status})")
        if status != 200 or "version" not in body:
            raise self._stranger()
        return True

    def version(self, timeout_s: float = 2.0) -> str:
        """The server's version."""
        answer = self._ask("GET", "/api/version", timeout_s=timeout_s)
        if "version" not in answer:
            raise self._stranger()
        return str(answer["version"])

    def tags(self) -> list[Document]:
        """The models on the server's machine."""
        return list(self._ask("GET", "/api/tags").get("models") or ())

    def ps(self) -> list[Document]:
        """The models in memory."""
        return list(self._ask("GET", "/api/ps").get("models") or ())

    def show(self, model: str, *, verbose: bool = False) -> Document:
        """All there is to say of a model."""
        return self._ask("POST", "/api/show", {"model": model, "verbose": verbose})

    def copy(self, source: str, destination: str) -> None:
        """Give a model a second name."""
        self._ask("POST", "/api/copy", {"source": source, "destination": destination})

    def delete(self, model: str) -> None:
        """Remove a model."""
        self._ask("DELETE", "/api/delete", {"model": model})

    def load(self, model: str, keep_alive: str | int | None = None) -> None:
        """Have a model in memory."""
        self._ask("POST", "/api/generate", _given({"model": model, "keep_alive": keep_alive}))

    def unload(self, model: str) -> None:
        """Let a model go."""
        self._ask("POST", "/api/generate", {"model": model, "keep_alive": 0})

    def generate(self, body: Mapping[str, Any]) -> Generator[Document, None, None]:
        """Continue a prompt: the objects of the stream, the last with ``done``."""
        return self._stream("/api/generate", body)

    def chat(self, body: Mapping[str, Any]) -> Generator[Document, None, None]:
        """Continue a conversation: the objects of the stream, the last with ``done``."""
        return self._stream("/api/chat", body)

    def embed(self, body: Mapping[str, Any]) -> Document:
        """The vectors of texts."""
        return self._ask("POST", "/api/embed", _given(body))

    def pull(self, model: str, *, insecure: bool = False) -> Generator[Document, None, None]:
        """Get a model from its registry: the steps, the last with the status ``success``."""
        return self._stream("/api/pull", {"model": model, "insecure": insecure})

    def push(self, model: str, *, insecure: bool = False) -> Generator[Document, None, None]:
        """Bring a model to its registry: the steps, the last with the status ``success``."""
        return self._stream("/api/push", {"model": model, "insecure": insecure})

    def create(self, body: Mapping[str, Any]) -> Generator[Document, None, None]:
        """Make a model: the steps, the last with the status ``success``."""
        return self._stream("/api/create", body)

    def has_blob(self, digest: str) -> bool:
        """Whether the server has the file with this digest already."""
        status, answer = self._once("HEAD", f"/api/blobs/{digest}")
        if status not in (200, 404):
            raise _error(status, answer)
        return status == 200

    def send_blob(self, digest: str, file: BinaryIO, size: int) -> Generator[int, None, None]:
        """Bring the server a file of ``size`` bytes: how many of them are on their way, each time a piece is."""
        connection = http.client.HTTPConnection(self.address.reachable_host, self.address.port)
        with self._translated(), closing(connection):
            connection.putrequest("POST", f"/api/blobs/{digest}")
            connection.putheader("Content-Length", str(size))
            connection.endheaders()
            sent, refused = 0, False
            try:
                while chunk := file.read(min(_CHUNK_BYTES, size - sent)):
                    connection.send(chunk)
                    sent += len(chunk)
                    yield sent
            except (BrokenPipeError, ConnectionResetError):
                refused = True  # it has answered already, and that says why
            if sent < size and not refused:
                raise ServerError("the file became shorter while it was sent; try again when nobody writes it", 0)
            response = connection.getresponse()
            status, answer = response.status, _document(response.read())
        if status >= 400:
            raise _error(status, answer)

    def verify(
        self, models: Sequence[str] = (), *, repair: bool = False, insecure: bool = False
    ) -> Generator[Document, None, None]:
        """Look whether files of models, of all if none are named, are as they should be; the last step has ``success``."""
        return self._stream("/api/verify", {"models": list(models), "repair": repair, "insecure": insecure})

    def prune(self, older_than: str | None = None, *, dry_run: bool = False) -> Document:
        """Remove what no model uses; what went, or would go."""
        return self._ask("POST", "/api/prune", _given({"older_than": older_than, "dry_run": dry_run}))

    def _ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, timeout_s: float | None = None
    ) -> Document:
        status, answer = self._once(method, path, body, timeout_s)
        if status >= 400:
            raise _error(status, answer)
        return answer

    def _once(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, timeout_s: float | None = None
    ) -> tuple[int, Document]:
        with self._response(method, path, body, timeout_s) as response:
            return response.status, _document(response.read())

    def _stream(self, path: str, body: Mapping[str, Any]) -> Generator[Document, None, None]:
        done = False
        with self._response("POST", path, _given(body), None) as response:
            if response.status >= 400:
                raise _error(response.status, _document(response.read()))
            for line in response:
                if not line.strip():
                    continue
                answer = _document(line)
                if "error" in answer:
                    raise ServerError(str(answer["error"]), 200)
                done = bool(answer.get("done")) or answer.get("status") == "success"
                yield answer
        if not done:
            raise ServerError("the answer ended early", 200)

    def _stranger(self) -> ServerUnreachable:
        return ServerUnreachable(
            f"what answers at {self.address.url} is neither Corral nor Ollama; "
            "end it, or choose another address with CORRAL_HOST, for example 127.0.0.1:11435"
        )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """What goes wrong before there is an answer, as `ServerUnreachable`."""
        try:
            yield
        except http.client.HTTPException as exc:
            raise self._stranger() from exc
        except ConnectionRefusedError as exc:
            raise ServerUnreachable(f"no server answers at {self.address.url}; try: corral serve") from exc
        except (OSError, UnicodeError) as exc:  # a host name that cannot be one is a UnicodeError
            why = "nothing came back in time" if isinstance(exc, TimeoutError) else str(exc)
            raise ServerUnreachable(f"no answer from {self.address.url}: {why}; is CORRAL_HOST right?") from exc

    @contextmanager
    def _response(
        self, method: str, path: str, body: Mapping[str, Any] | None, timeout_s: float | None
    ) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPConnection(self.address.reachable_host, self.address.port, timeout=timeout_s)
        try:
            with self._translated():
                connection.request(
                    method,
                    path,
                    None if body is None else json.dumps(body).encode(),
                    {"Content-Type": "application/json"},
                )
                response = connection.getresponse()
            try:
                yield response
            except (http.client.HTTPException, OSError) as exc:
                raise ServerUnreachable(f"the connection to {self.address.url} broke: {exc}") from exc
        finally:
            # A stream may be in the middle of a read in C: shutting the socket down ends it on the server's side at once.
            if connection.sock is not None:
                with suppress(OSError):  # it may be closed already
                    connection.sock.shutdown(socket.SHUT_RDWR)
            connection.close()


def _error(status: int, answer: Document) -> ServerError:
    return ServerError(str(answer.get("error") or f"the server answered with status {status}"), status)


def _document(data: bytes) -> Document:
    if not data:
        return {}
    try:
        document = json.loads(data)
    except ValueError:
        return {"error": data.decode(errors="replace").strip()}
    return document if isinstance(document, dict) else {"error": f"unexpected answer: {data[:200]!r}"}


def _given(body: Mapping[str, Any]) -> Document:
    """Without what was left open."""
    return {name: value for name, value in body.items() if value is not None}
