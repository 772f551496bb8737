"""``/api/embed`` and the older ``/api/embeddings``: requests and answers. Field names, types and error texts are Ollama's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from corral.dialects import gojson
from corral.dialects.gojson import Fields, dumps
from corral.errors import InvalidRequest
from corral.library import ModelSpec
from corral.runtime.embedding import Embedded
from corral.runtime.options import parse_options
from corral.runtime.requests import EmbedRequest

_AT_ONCE = 64  # vectors that are written together: a few milliseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Embed:
    """A request as sent."""

    model: str
    texts: tuple[str, ...]
    options: Mapping[str, Any]
    keep_alive_s: float | None
    truncate: bool
    dimensions: int | None

    @classmethod
    def decode(cls, body: bytes) -> Embed:
        """``POST /api/embed``. Raises `InvalidRequest`."""
        fields = Fields.of(gojson.parse(body), "EmbedRequest")
        model, truncate, dimensions = fields.string("model"), fields.boolean("truncate"), fields.integer("dimensions")
        return cls(
            model=model or "",
            texts=_texts(fields.raw("input")),
            options=fields.mapping("options", "map[string]interface {}") or {},
            keep_alive_s=gojson.keep_alive(fields.raw("keep_alive")),
            truncate=True if truncate is None else truncate,
            dimensions=dimensions,
        )

    @classmethod
    def decode_prompt(cls, body: bytes) -> Embed:
        """``POST /api/embeddings``: one text, which is never cut. Raises `InvalidRequest`."""
        fields = Fields.of(gojson.parse(body), "EmbeddingRequest")
        model, prompt = fields.string("model"), fields.string("prompt")
        return cls(
            model=model or "",
            texts=(prompt,) if prompt else (),
            options=fields.mapping("options", "map[string]interface {}") or {},
            keep_alive_s=gojson.keep_alive(fields.raw("keep_alive")),
            truncate=False,
            dimensions=None,
        )

    def request(self, spec: ModelSpec) -> EmbedRequest:
        """For the runtime. Raises `InvalidRequest` for a wrong option."""
        return EmbedRequest(
            spec=spec,
            texts=self.texts,
            options=parse_options(self.options),
            keep_alive_s=self.keep_alive_s,
            truncate=self.truncate,
            dimensions=self.dimensions,
        )


def _texts(value: object) -> tuple[str, ...]:
    """A text or a list of texts; an empty text by itself is none, in a list it is one."""
    if value is None or value == "":
        return ()
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InvalidRequest("invalid input type")
    return tuple(texts)


def embeddings(model: str, embedded: Embedded, total_ns: int) -> Iterator[bytes]:
    """The answer of ``/api/embed``, piece by piece, so that writing thousands of vectors keeps nobody else waiting.

    ``truncated_inputs`` is not in Ollama, which does not say what it has cut.
    """
    yield b'{"model":%s,"embeddings":[' % dumps(model)
    for start in range(0, len(embedded.vectors), _AT_ONCE):
        piece = orjson.dumps(embedded.vectors[start : start + _AT_ONCE])
        yield (b"," if start else b"") + piece[1:-1]
    rest = {
        "total_duration": total_ns,
        "load_duration": embedded.load_ns,
        "prompt_eval_count": embedded.tokens,
        "truncated_inputs": list(embedded.cut),
    }
    told = b"".join(b',"%s":%s' % (name.encode(), dumps(value)) for name, value in rest.items() if value)
    yield b"]%s}" % told


def embedding(embedded: Embedded) -> bytes:
    """The answer of ``/api/embeddings``: the engine's numbers with all their digits."""
    return dumps({"embedding": embedded.vectors[0] if embedded.vectors else []})
