"""The server's log: one line an event, each with the id of the request it belongs to, or ``-``."""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar

NO_REQUEST = "-"
_FORMAT = "%(asctime)s %(levelname)s %(request)s %(name)s: %(message)s"

request_id: ContextVar[str] = ContextVar("request_id", default=NO_REQUEST)
"""The request that is being answered. Tasks and threads that are started for it have it too."""


def configure(level: str) -> None:
    """Log to stderr from ``level`` on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_with_request)
    logging.basicConfig(level=level, handlers=[handler], format=_FORMAT)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


def _with_request(record: logging.LogRecord) -> bool:
    record.request = request_id.get()
    return True
