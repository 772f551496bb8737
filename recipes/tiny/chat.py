"""Ask a running engine for the next turn of a conversation, over either of two HTTP APIs."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

from conversation import Message, ToolCall, ToolSchema
from errors import ChatError

MAX_TOKENS = 200
CONTEXT_LENGTH = 2048
REQUEST_TIMEOUT_S = 120
STOP_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class Answer:
    content: str
    tool_calls: Sequence[ToolCall | str] = ()  # a text where the engine gave arguments that are not JSON


class Chat(Protocol):
    def answer(self, messages: Sequence[Message], tools: Sequence[ToolSchema], *, think: bool) -> Answer:
        """The greedy next turn. ``think=False`` leaves thinking to the engine's default. Raises ChatError."""
        ...


@dataclass(frozen=True, slots=True)
class NativeChat:
    """Corral's own API, ``/api/chat``, which is Ollama's."""

    url: str
    model: str

    def answer(self, messages: Sequence[Message], tools: Sequence[ToolSchema], *, think: bool) -> Answer:
        request: dict[str, object] = {
            "model": self.model,
            "messages": [self._turn(message) for message in messages],
            "stream": False,
            "options": {"temperature": 0, "num_predict": MAX_TOKENS},
        }
        if tools:
            request["tools"] = list(tools)
        if think:
            request["think"] = True
        message = _post(f"{self.url}/api/chat", request)["message"]
        calls = [call["function"] for call in message.get("tool_calls") or []]
        return Answer(
            message.get("content") or "",
            [{"name": call["name"], "arguments": call["arguments"]} for call in calls],
        )

    @staticmethod
    def _turn(message: Message) -> dict[str, object]:
        turn: dict[str, object] = {"role": message["role"], "content": message["content"]}
        if calls := message.get("tool_calls"):
            turn["tool_calls"] = [{"function": call} for call in calls]
        return turn


@dataclass(frozen=True, slots=True)
class OpenAIChat:
    """OpenAI's API, ``/v1/chat/completions``, with llama.cpp's ``chat_template_kwargs``."""

    url: str

    def answer(self, messages: Sequence[Message], tools: Sequence[ToolSchema], *, think: bool) -> Answer:
        request: dict[str, object] = {
            "messages": [self._turn(message) for message in messages],
            "temperature": 0,
            "max_tokens": MAX_TOKENS,
        }
        if tools:
            request["tools"] = list(tools)
        if think:
            request["chat_template_kwargs"] = {"enable_thinking": True}
        message = _post(f"{self.url}/v1/chat/completions", request)["choices"][0]["message"]
        calls = [self._call(call["function"]) for call in message.get("tool_calls") or []]
        return Answer(message.get("content") or "", calls)

    @staticmethod
    def _turn(message: Message) -> dict[str, object]:
        turn: dict[str, object] = {"role": message["role"], "content": message["content"]}
        if message["role"] == "tool":
            turn["tool_call_id"] = "call-0"
        if calls := message.get("tool_calls"):
            turn["tool_calls"] = [
                {
                    "id": f"call-{index}",
                    "type": "function",
                    "function": {"name": call["name"], "arguments": json.dumps(call["arguments"])},
                }
                for index, call in enumerate(calls)
            ]
        return turn

    @staticmethod
    def _call(function: dict[str, str]) -> ToolCall | str:
        try:
            return {"name": function["name"], "arguments": json.loads(function["arguments"])}
        except json.JSONDecodeError:
            return f"{function['name']}({function['arguments']})"


def _post(url: str, body: dict[str, object]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=REQUEST_TIMEOUT_S) as response:
            return json.load(response)
    except urllib.error.HTTPError as exc:
        with exc:
            detail = exc.read(1000).decode(errors="replace").strip()
        raise ChatError(f"{url} answered {exc.code}: {detail}") from exc
    except OSError as exc:
        raise ChatError(f"{url} does not answer ({exc}); is the server running?") from exc


@contextlib.contextmanager
def serve_gguf(path: Path) -> Iterator[OpenAIChat]:
    """llama.cpp's server with a model file, in a process of its own that ends with the block."""
    if not path.is_file():
        raise ChatError(f"{path} does not exist")
    spawn = multiprocessing.get_context("spawn")  # a fork would copy PyTorch's threads half-way through their work
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(path, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield OpenAIChat(_address(ours, path))
    finally:
        ours.close()  # the server ends when it sees this
        process.join(STOP_TIMEOUT_S)
        if process.is_alive():
            process.kill()
            process.join()


def _address(connection: Connection, path: Path) -> str:
    try:
        url, problem = connection.recv()
    except EOFError as exc:
        raise ChatError(f"the engine ended while it loaded {path}") from exc
    if problem:
        raise ChatError(f"the engine cannot load {path}: {problem}")
    return url


def _serve(path: Path, connection: Connection) -> None:
    """The server's process: send its address, or what went wrong, then wait until nobody listens."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)  # llama.cpp writes its log to both
    os.dup2(quiet, 2)
    try:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.port = 0
        params.n_ctx = CONTEXT_LENGTH
        params.warmup = False
        server = xllamacpp.Server(params)
    except Exception as exc:  # whatever it is, the person who waits should read it
        connection.send(("", f"{type(exc).__name__}: {exc}"))
        return
    connection.send((server.listening_address, ""))
    with contextlib.suppress(EOFError):
        connection.recv()
    os._exit(0)  # requests are over; there is nothing to save
