"""Genuine clients of OpenAI's, and files of requests."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types import Batch

from tests.conftest import RunningServer
from tests.server.conftest import Connect


@pytest.fixture
def client(shared_server: RunningServer, connect: Connect) -> openai.OpenAI:
    return connect(shared_server)


def line(custom_id: str, endpoint: str = "/v1/chat/completions", **body: Any) -> dict[str, Any]:
    """One request."""
    asked = {"model": "tiny", "temperature": 0, **body}
    return {"custom_id": custom_id, "method": "POST", "url": endpoint, "body": asked}


def chat(custom_id: str, text: str = "Hello", **body: Any) -> dict[str, Any]:
    """One chat."""
    return line(custom_id, messages=[{"role": "user", "content": text}], **body)


def upload(client: openai.OpenAI, lines: list[Any]) -> str:
    """A file with ``lines``; a text is a line as it is."""
    text = "".join((entry if isinstance(entry, str) else json.dumps(entry)) + "\n" for entry in lines)
    return client.files.create(file=("requests.jsonl", text.encode()), purpose="batch").id


def begin(client: openai.OpenAI, lines: list[Any], endpoint: Any = "/v1/chat/completions", **more: Any) -> Batch:
    """A batch of ``lines``."""
    return client.batches.create(
        input_file_id=upload(client, lines), endpoint=endpoint, completion_window="24h", **more
    )


def until(client: openai.OpenAI, batch_id: str, wanted: Callable[[Batch], bool]) -> Batch:
    """The batch when it is as ``wanted``."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = client.batches.retrieve(batch_id)
        if wanted(found):
            return found
        time.sleep(0.05)
    raise AssertionError(f"it did not come to that: {found}")


def ended(client: openai.OpenAI, batch_id: str) -> Batch:
    """The batch when it has ended."""
    return until(client, batch_id, lambda batch: batch.status in ("completed", "failed", "expired", "cancelled"))


def results(client: openai.OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    """The lines of a file of results."""
    assert file_id is not None
    return [json.loads(entry) for entry in client.files.content(file_id).text.splitlines()]


@pytest.fixture
def endless_store(endless: Path) -> Path:
    """A store with a model whose answers do not end by themselves."""
    return endless
