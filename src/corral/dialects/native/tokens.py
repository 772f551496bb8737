"""``/api/tokenize`` and ``/api/detokenize``, which Ollama has not: a text as a model's tokens, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from corral.dialects import gojson
from corral.dialects.gojson import Fields, dumps
from corral.errors import InvalidRequest
from corral.library import ModelSpec
from corral.runtime.options import parse_options
from corral.runtime.requests import EngineRequest

MOST_TOKENS = 1_000_000
MOST_BYTES = 16 * MOST_TOKENS


@dataclass(frozen=True, slots=True, kw_only=True)
class _OfModel:
    model: str
    options: Mapping[str, Any]
    keep_alive_s: float | None

    def request(self, spec: ModelSpec) -> EngineRequest:
        """For the runtime. Raises `InvalidRequest` for a wrong option."""
        return EngineRequest(spec=spec, options=parse_options(self.options), keep_alive_s=self.keep_alive_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenise(_OfModel):
    """``POST /api/tokenize``."""

    content: str
    add_special: bool
    with_pieces: bool

    @classmethod
    def decode(cls, body: bytes) -> Tokenise:
        """Raises `InvalidRequest`."""
        fields = Fields.of(gojson.parse(body), "TokenizeRequest")
        content, prompt = fields.string("content"), fields.string("prompt")
        text = content if content is not None else prompt
        if text is None:
            raise InvalidRequest("content is required: the text whose tokens are asked for")
        if len(text.encode(errors="replace")) > MOST_BYTES:
            raise InvalidRequest(f"content has more than {MOST_BYTES} bytes; send it in parts")
        return cls(
            **_of_model(fields),
            content=text,
            add_special=fields.boolean("add_special") or False,
            with_pieces=fields.boolean("with_pieces") or False,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Detokenise(_OfModel):
    """``POST /api/detokenize``."""

    tokens: tuple[int, ...]

    @classmethod
    def decode(cls, body: bytes) -> Detokenise:
        """Raises `InvalidRequest`."""
        fields = Fields.of(gojson.parse(body), "DetokenizeRequest")
        tokens = fields.integers("tokens")
        if tokens is None:
            raise InvalidRequest("tokens is required: a list of whole numbers")
        if len(tokens) > MOST_TOKENS:
            raise InvalidRequest(f"tokens: {len(tokens)} are more than {MOST_TOKENS}; send them in parts")
        return cls(**_of_model(fields), tokens=tuple(tokens))


def _of_model(fields: Fields) -> dict[str, Any]:
    return {
        "model": fields.string("model") or "",
        "options": fields.mapping("options", "map[string]interface {}") or {},
        "keep_alive_s": gojson.keep_alive(fields.raw("keep_alive")),
    }


def tokens(found: Sequence[int]) -> bytes:
    """The answer of ``/api/tokenize``."""
    return orjson.dumps({"tokens": found})


def pieces(found: Sequence[tuple[int, bytes]]) -> bytes:
    """The answer of ``/api/tokenize`` with the text of each token, or its bytes where it is no text by itself."""
    return dumps({"tokens": [{"id": token, "piece": _piece(piece)} for token, piece in found]})


def _piece(data: bytes) -> str | list[int]:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return list(data)


def content(text: str) -> bytes:
    """The answer of ``/api/detokenize``."""
    return dumps({"content": text})
