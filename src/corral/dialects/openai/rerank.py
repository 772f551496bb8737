"""``/v1/rerank``: documents in the order in which they answer a query, in the shape that Jina and Cohere share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from corral.dialects import gojson
from corral.dialects.gojson import Fields, kind
from corral.errors import InvalidRequest
from corral.library import ModelSpec
from corral.runtime.options import parse_options
from corral.runtime.requests import RerankRequest
from corral.runtime.reranking import Ranked

MOST_DOCUMENTS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerank:
    """A request as sent. ``top_n`` ``None`` is all of them."""

    model: str
    query: str
    documents: tuple[str, ...]
    top_n: int | None
    return_documents: bool
    truncate: bool
    most_tokens: int | None
    options: Mapping[str, Any]
    keep_alive_s: float | None

    @classmethod
    def decode(cls, body: bytes) -> Rerank:
        """Raises `InvalidRequest`."""
        fields = Fields.of(gojson.parse(body), "RerankRequest")
        query, documents = fields.string("query"), fields.array("documents", "[]string")
        if not query:
            raise InvalidRequest("query is required: the text that the documents are to answer", param="query")
        if not documents:
            raise InvalidRequest("documents is required: a list of texts that is not empty", param="documents")
        if len(documents) > MOST_DOCUMENTS:
            raise InvalidRequest(
                f"documents: {len(documents)} are more than {MOST_DOCUMENTS}; send them in several requests",
                param="documents",
            )
        return cls(
            model=fields.string("model") or "",
            query=query,
            documents=tuple(_text(document, number) for number, document in enumerate(documents)),
            top_n=_positive(fields, "top_n"),
            return_documents=fields.boolean("return_documents") or False,
            truncate=fields.boolean("truncate") or False,
            most_tokens=_positive(fields, "max_tokens_per_doc"),
            options=fields.mapping("options", "map[string]interface {}") or {},
            keep_alive_s=gojson.keep_alive(fields.raw("keep_alive")),
        )

    def request(self, spec: ModelSpec) -> RerankRequest:
        """For the runtime. Raises `InvalidRequest` for a wrong option."""
        return RerankRequest(
            spec=spec,
            query=self.query,
            documents=self.documents,
            options=parse_options(self.options),
            keep_alive_s=self.keep_alive_s,
            truncate=self.truncate,
            most_tokens=self.most_tokens,
        )

    def answer(self, ranked: Ranked) -> bytes:
        """The best first; of equals the one that was sent first."""
        order = sorted(range(len(ranked.scores)), key=lambda index: -ranked.scores[index])[: self.top_n]
        results = []
        for index in order:
            result: dict[str, Any] = {"index": index, "relevance_score": ranked.scores[index]}
            if self.return_documents:
                result["document"] = {"text": self.documents[index]}
            results.append(result)
        answer: dict[str, Any] = {
            "model": self.model,
            "object": "list",
            "usage": {"prompt_tokens": ranked.tokens, "total_tokens": ranked.tokens},
            "results": results,
        }
        if ranked.cut:
            answer["truncated_documents"] = ranked.cut
        return orjson.dumps(answer)


def _text(document: object, number: int) -> str:
    text = document.get("text") if isinstance(document, dict) else document
    if not isinstance(text, str):
        where = f"documents.{number}"
        raise InvalidRequest(f'{where}: expected a text or {{"text": …}}, got {kind(document)}', param=where)
    return text


def _positive(fields: Fields, name: str) -> int | None:
    value = fields.integer(name)
    if value is not None and value < 1:
        raise InvalidRequest(f"{name}: {value} is not a number from 1", param=name)
    return value
