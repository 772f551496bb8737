"""A server whose models see and hear: Tiny with small random projectors, behind each kind of template."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from corral.tiny import TINY_FILE
from tests.conftest import RunningServer, start_server
from tests.projectors import make_audio, make_both, make_one_file, make_vision

GREEDY = {"temperature": 0, "num_predict": 4}
TEMPLATE = "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
Ask = Callable[..., "Answer"]


class Answer:
    """An answer to a chat or a prompt that was not streamed."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.body: dict[str, Any] = response.json()

    @property
    def error(self) -> str:
        return str(self.body["error"])

    @property
    def prompt_tokens(self) -> int:
        assert self.status == 200, self.body
        return int(self.body["prompt_eval_count"])

    @property
    def said(self) -> Any:
        """Each token with its probability: what the model saw shows in them."""
        assert self.status == 200, self.body
        return [(entry["token"], round(entry["logprob"], 3)) for entry in self.body["logprobs"]]


def bring(url: str, file: Path) -> str:
    """Send a file; its digest."""
    data = file.read_bytes()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    httpx.post(f"{url}/api/blobs/{digest}", content=data).raise_for_status()
    return digest


def create(url: str, name: str, projector: Path, **more: Any) -> None:
    files = {"tiny.gguf": bring(url, TINY_FILE), "mmproj.gguf": bring(url, projector)}
    body = {"model": name, "files": files, "stream": False, **more}
    assert httpx.post(f"{url}/api/create", json=body, timeout=60).json() == {"status": "success"}


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Models: tiny; sees; hears; senses, which can do both; each as NAME-go behind a Go template; one-file, senses in one."""
    home = tmp_path_factory.mktemp("home")
    running = start_server(home, home / "models", CORRAL_AUDIO_MAX_LENGTH="25m")
    for name, projector in (
        ("sees", make_vision(home / "vision.gguf")),
        ("hears", make_audio(home / "audio.gguf")),
        ("senses", make_both(home / "both.gguf")),
    ):
        create(running.url, name, projector)
        create(running.url, f"{name}-go", projector, template=TEMPLATE)
    one = make_one_file(home / "one.gguf", TINY_FILE, home / "both.gguf")
    body = {"model": "one-file", "files": {"one.gguf": bring(running.url, one)}, "stream": False}
    assert httpx.post(f"{running.url}/api/create", json=body, timeout=60).json() == {"status": "success"}
    yield running
    running.stop()


@pytest.fixture
def chat(server: RunningServer) -> Ask:
    """Ask a model with one message, or with ``messages``."""

    def ask(model: str, content: str = "Hello", *, path: str = "/api/chat", **fields: Any) -> Answer:
        message = {key: fields.pop(key) for key in ("images",) if key in fields}
        messages = fields.pop("messages", [{"role": "user", "content": content, **message}])
        body = {"model": model, "messages": messages, "stream": False, "logprobs": True}
        return Answer(httpx.post(server.url + path, json={**body, "options": GREEDY, **fields}, timeout=60))

    return ask


@pytest.fixture
def generate(server: RunningServer) -> Ask:
    """Ask a model with a prompt."""

    def ask(model: str, prompt: str = "Hello", **fields: Any) -> Answer:
        body = {"model": model, "prompt": prompt, "stream": False, "logprobs": True, "options": GREEDY, **fields}
        return Answer(httpx.post(f"{server.url}/api/generate", json=body, timeout=60))

    return ask
