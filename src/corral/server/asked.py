"""One request, for those who watch: its id, whose API it speaks, which model it is for, how it ended."""

from __future__ import annotations

import re
import secrets
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from starlette.datastructures import Headers
from starlette.types import Scope

Outcome = Literal["ok", "refused", "failed", "unavailable", "stopped", "hung_up"]
Requests = Counter[tuple[str, str, Outcome]]  # by dialect, model, outcome

REQUEST_ID = "x-request-id"
_VERSION = "anthropic-version"  # a header that Anthropic's clients always send

OPERATIONS = frozenset(("/health", "/ready", "/metrics"))  # asked by machines, every few seconds
_DIALECTS = (
    ("/api/", "native"),
    ("/v2/rerank", "openai"),
    ("/v2/", "registry"),
    ("/v1/messages", "anthropic"),
    ("/v1/responses", "responses"),
    ("/v1/", "openai"),
    ("/rerank", "openai"),
)
# Paths below /v1/ that are OpenAI's whatever headers a client adds; Anthropic's clients ask for many others.
_OPENAI = (
    "/v1/chat/",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/audio/",
    "/v1/rerank",
    "/v1/batches",
    "/v1/moderations",
)
_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}", re.ASCII)
_KEY = "corral.asked"


@dataclass(slots=True)
class Asked:
    """What is known of a request. ``model`` stays empty unless it is one that exists here."""

    id: str
    dialect: str
    model: str = ""
    whole: bool = False  # the answer's last byte was handed over
    broken: bool = False  # the answer had begun, and ended with an error
    hung_up: bool = False

    @classmethod
    def begin(cls, scope: Scope) -> Asked:
        """The record of a request that has just come. It keeps the id that its client gave it, if that is a sane one."""
        headers = Headers(scope=scope)
        dialect = dialect_of(scope["path"])
        if dialect == "openai" and _VERSION in headers and scope["path"].startswith("/v1/"):
            dialect = "openai" if scope["path"].startswith(_OPENAI) else "anthropic"  # both have models and files
        given_id = headers.get(REQUEST_ID, "")
        if not _SANE_ID.fullmatch(given_id):
            given_id = f"req_{secrets.token_hex(12)}" if dialect == "anthropic" else secrets.token_hex(8)
        asked = cls(given_id, dialect)
        scope[_KEY] = asked
        return asked

    @classmethod
    def of(cls, scope: Scope) -> Asked:
        """The record of the request with this ``scope``."""
        asked: Asked = scope[_KEY]
        return asked

    @property
    def id_headers(self) -> dict[str, str]:
        """The headers that tell the id: also by the name by which Anthropic's clients look for it."""
        named = {REQUEST_ID: self.id}
        return named | {"request-id": self.id} if self.dialect == "anthropic" else named

    def outcome(self, status: int, *, closing: bool) -> Outcome:
        """How it ended, if its answer had ``status``. ``closing`` is whether the server is on its way out."""
        if self.hung_up:
            return "hung_up"
        if closing and (self.broken or not self.whole or status == 503):
            return "stopped"
        if self.broken or not self.whole:
            return "failed"
        if status < 400:
            return "ok"
        if status == 503:
            return "unavailable"
        return "refused" if status < 500 else "failed"


def dialect_of(path: str) -> str:
    """Whose API has ``path``. There are few answers, whatever is asked for.

    >>> dialect_of("/api/chat"), dialect_of("/metrics"), dialect_of("/wp-login.php")
    ('native', 'operations', 'other')
    """
    if path in OPERATIONS:
        return "operations"
    return next((dialect for prefix, dialect in _DIALECTS if path.startswith(prefix)), "other")
