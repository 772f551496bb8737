"""``/v1/embeddings``: requests and answers."""

from __future__ import annotations

import sys
from array import array
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace

from corral.dialects.gojson import dumps
from corral.dialects.openai.asked import fields_of
from corral.dialects.openai.completions import Prompt, prompts
from corral.dialects.wire import options
from corral.errors import InvalidRequest
from corral.library import ModelSpec
from corral.runtime.embedding import Embedded
from corral.runtime.options import Options
from corral.runtime.requests import EmbedRequest

MOST_INPUTS = 2048
_KNOWN = frozenset({"model", "input", "dimensions", "encoding_format", "user", "options", "keep_alive"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Embeddings:
    """A request, checked. Vectors are asked for as ``base64``, or as numbers."""

    model: str
    texts: tuple[Prompt, ...]
    dimensions: int | None
    base64: bool
    options: Options
    keep_alive_s: float | None

    @classmethod
    def decode(cls, body: bytes) -> Embeddings:
        """Raises `InvalidRequest`."""
        fields = fields_of(body, "EmbedRequest")
        model, dimensions = fields.string("model") or "", fields.integer("dimensions")
        written = fields.string("encoding_format") or "float"
        if written.lower() not in ("float", "base64"):
            raise InvalidRequest(
                f"Invalid value for 'encoding_format' = {written}. Supported values: ['float', 'base64'].",
                param="encoding_format",
            )
        if dimensions is not None and dimensions < 1:
            raise InvalidRequest(f"dimensions must be at least 1, not {dimensions}", param="dimensions")
        given = options.options(fields, options.ALIASES)
        unknown = [
            n for n, value in fields.values.items() if value is not None and n not in _KNOWN and n not in given.values
        ]
        return cls(
            model=model,
            texts=_inputs(fields.raw("input")),
            dimensions=dimensions,
            base64=written.lower() == "base64",
            options=replace(given, ignored=(*given.ignored, *unknown)),
            keep_alive_s=options.keep_alive(fields),
        )

    def request(self, spec: ModelSpec) -> EmbedRequest:
        """For the runtime. Nothing is cut here: what is too long is an error."""
        return EmbedRequest(
            spec=spec,
            texts=self.texts,
            options=self.options,
            keep_alive_s=self.keep_alive_s,
            truncate=False,
            dimensions=self.dimensions,
        )

    def answer(self, embedded: Embedded) -> bytes:
        """The vectors. Raises `InvalidRequest` when more dimensions were asked for than there are."""
        length = len(embedded.vectors[0]) if embedded.vectors else 0
        if self.dimensions is not None and self.dimensions > length:
            raise InvalidRequest(
                f"dimensions is {self.dimensions}, but vectors of this model have {length}", param="dimensions"
            )
        write = _packed if self.base64 else _numbers
        rows = (
            b'{"object":"embedding","embedding":%s,"index":%d}' % (write(vector), index)
            for index, vector in enumerate(embedded.vectors)
        )
        usage = dumps({"prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens})
        return b'{"object":"list","data":[%s],"model":%s,"usage":%s}' % (b",".join(rows), dumps(self.model), usage)


def _inputs(value: object) -> tuple[Prompt, ...]:
    if value is None or value == []:
        raise InvalidRequest("invalid input: send a text, a list of tokens, or a list of such", param="input")
    try:
        found = prompts(value, "input")
    except InvalidRequest as exc:
        raise InvalidRequest(f"invalid input type: {exc}", param=exc.param) from exc
    if len(found) > MOST_INPUTS:
        raise InvalidRequest(f"input has {len(found)} texts; the most is {MOST_INPUTS}", param="input")
    return found


def _packed(vector: Sequence[float]) -> bytes:
    """Base64 of numbers of 32 bits, the least significant byte first."""
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return b'"%s"' % b64encode(numbers.tobytes())


def _numbers(vector: Sequence[float]) -> bytes:
    """Nine digits each, which tell a number of 32 bits from all others."""
    return ("[" + ",".join(["%.9g"] * len(vector)) % tuple(vector) + "]").encode()
