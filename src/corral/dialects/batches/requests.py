"""A batch as it is asked for, and the lines of its file. Knows nothing of how they are worked on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from corral.dialects import gojson
from corral.dialects.gojson import Fields
from corral.durations import quoted
from corral.errors import InvalidRequest

ENDPOINTS: Final = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")
WINDOW_S: Final = 86400
_LONGEST_ID = 512


@dataclass(frozen=True, slots=True)
class Create:
    """``POST /v1/batches``. ``output_expires_after`` is as it was sent."""

    input_file_id: str
    endpoint: str
    metadata: Mapping[str, str] | None
    output_expires_after: Mapping[str, Any] | None

    @classmethod
    def decode(cls, body: bytes) -> Create:
        """Raises `InvalidRequest` that names the field."""
        fields = Fields.of(gojson.parse(body), "BatchRequest")
        endpoint, window = fields.string("endpoint"), fields.string("completion_window")
        file_id = fields.string("input_file_id")
        if not file_id:
            raise InvalidRequest("input_file_id is required: the id of a file of /v1/files", param="input_file_id")
        if endpoint not in ENDPOINTS:
            expected = f"expected one of {', '.join(ENDPOINTS)}"
            raise InvalidRequest(f"endpoint {quoted(endpoint or '')} is not supported; {expected}", param="endpoint")
        if window != "24h":
            raise InvalidRequest(
                f'completion_window must be "24h", not {quoted(window or "")}', param="completion_window"
            )
        metadata = fields.mapping("metadata", "map[string]string")
        for name, value in (metadata or {}).items():
            if not isinstance(value, str):
                raise InvalidRequest(f"metadata.{name} must be a string", param=f"metadata.{name}")
        return cls(file_id, endpoint, metadata, fields.mapping("output_expires_after", "OutputExpiresAfter"))


@dataclass(frozen=True, slots=True)
class Line:
    """One request: where it stands in the file, in bytes, and its name."""

    number: int
    start: int
    size: int
    custom_id: str


@dataclass(frozen=True, slots=True)
class Wrong:
    """What is wrong with a line, counted from 1, or with the file."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None

    def as_json(self) -> dict[str, Any]:
        """As a batch lists it."""
        return {"code": self.code, "line": self.line, "message": self.message, "param": self.param}


def read_lines(file: Iterator[bytes], endpoint: str) -> Iterator[Line | Wrong]:
    """The requests of a file, and what is wrong with others. Empty lines are passed over."""
    seen: set[str] = set()
    start = 0
    for number, data in enumerate(file, 1):
        if data.strip():
            found = _line(data, number, start, endpoint)
            if isinstance(found, Line) and found.custom_id in seen:
                text = f"the custom_id {quoted(found.custom_id)} is that of an earlier line too; each needs its own"
                found = Wrong("duplicate_custom_id", text, number, "custom_id")
            if isinstance(found, Line):
                seen.add(found.custom_id)
            yield found
        start += len(data)


def _line(data: bytes, number: int, start: int, endpoint: str) -> Line | Wrong:
    try:
        line = orjson.loads(data)
    except orjson.JSONDecodeError as exc:
        return Wrong("invalid_json_line", f"this line is not JSON: {exc}", number)
    if not isinstance(line, dict):
        return Wrong("invalid_json_line", "this line is not a JSON object", number)
    custom_id, body = line.get("custom_id"), line.get("body")
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= _LONGEST_ID:
        text = f"a custom_id is missing: a text of up to {_LONGEST_ID} characters by which you know the request"
        return Wrong("missing_required_parameter", text, number, "custom_id")
    if line.get("method") != "POST":
        return Wrong("invalid_method", 'the method must be "POST"', number, "method")
    if line.get("url") != endpoint:
        text = f"the url is {quoted(str(line.get('url')))}, and the batch is for {endpoint}"
        return Wrong("invalid_url", text, number, "url")
    if not isinstance(body, dict):
        return Wrong("missing_required_parameter", "the body is missing: the request as a JSON object", number, "body")
    for name in ("stream", "background"):
        if body.get(name):
            return Wrong("invalid_parameter", f'"{name}" cannot be used in a batch', number, f"body.{name}")
    return Line(number, start, len(data), custom_id)


def body_of(data: bytes) -> bytes:
    """The request that a line holds."""
    return orjson.dumps(orjson.loads(data)["body"])
