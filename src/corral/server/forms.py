"""Forms with files in them, read as they come: small fields into memory, each file wherever the route wants it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from anyio import to_thread
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from corral.dialects.refusals import Refusal
from corral.errors import InvalidRequest

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_CHUNK_BYTES = 1 << 20
_MOST_PARTS = 100
_FIELD_BYTES = 1 << 20


class Sink(Protocol):
    """Where the bytes of a file go."""

    def write(self, chunk: bytes) -> None:
        """What follows. May raise `Refusal` when it is too much."""


@dataclass(slots=True)
class Bytes:
    """A file in memory, of at most ``most`` bytes."""

    most: int
    data: bytearray = field(default_factory=bytearray)

    def write(self, chunk: bytes) -> None:
        """What follows. Raises `Refusal` when it is too much."""
        self.data += chunk
        if len(self.data) > self.most:
            raise too_large(self.most)


def too_large(most: int) -> Refusal:
    """The answer to a file of more than ``most`` bytes."""
    return Refusal(
        413, f"the file is larger than {most:,} bytes; CORRAL_FILE_BYTES sets how large one may be", param="file"
    )


@dataclass(slots=True)
class Form:
    """Fields by name, the last one given of each; and the name of the one file, if it came."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None

    def get(self, name: str) -> str:
        """A field; empty where it is absent."""
        return self.fields.get(name, "").strip()


async def form_of(request: Request, sink: Sink, file: str = "file") -> Form:
    """The form in the body of ``request``. The bytes of its field ``file`` go to ``sink``.

    Raises `InvalidRequest` in Go's words for what is no form, `Refusal` for what is too large, `ClientDisconnect`.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        why = "no multipart boundary param in Content-Type" if kind == b"multipart/form-data" else ""
        why = why or "request Content-Type isn't multipart/form-data"
        raise InvalidRequest(f"failed to parse multipart form: {why}")
    reading = _Reading(sink, file)
    parser = MultipartParser(boundary, reading.callbacks())
    buffer = bytearray()
    try:
        async for chunk in request.stream():
            buffer += chunk
            if len(buffer) >= _CHUNK_BYTES:
                await to_thread.run_sync(parser.write, bytes(buffer))
                buffer.clear()
        await to_thread.run_sync(parser.write, bytes(buffer))
        parser.finalize()
    except FormParserError as exc:
        raise InvalidRequest(f"failed to parse multipart form: {exc}") from exc
    if not reading.ended:
        raise InvalidRequest("failed to parse multipart form: unexpected EOF")
    return reading.form


class _Reading:
    """A form as the parser tells it."""

    def __init__(self, sink: Sink, file: str) -> None:
        self.form = Form()
        self.ended = False
        self._sink, self._file = sink, file
        self._parts = 0
        self._name = b""
        self._header = b""
        self._value = b""
        self._disposition = b""
        self._field: bytearray | None = None

    def callbacks(self) -> MultipartCallbacks:
        """What the parser is to call."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._all,
        }

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise InvalidRequest(f"failed to parse multipart form: more than {_MOST_PARTS} fields")
        self._header = self._value = self._disposition = b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"")
        is_file = self._name == self._file.encode() and b"filename" in options
        self._field = None if is_file else bytearray()
        if is_file:
            if self.form.filename is not None:
                raise InvalidRequest(f'only one "{self._file}" can be sent', param=self._file)
            self.form.filename = options[b"filename"].decode(errors="replace")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._field is None:
            self._sink.write(data[start:end])
            return
        self._field += data[start:end]
        if len(self._field) > _FIELD_BYTES:
            raise Refusal(413, f"a field of the form is larger than {_FIELD_BYTES:,} bytes")

    def _end(self) -> None:
        if self._field is not None:
            self.form.fields[self._name.decode(errors="replace")] = self._field.decode(errors="replace")

    def _all(self) -> None:
        self.ended = True
