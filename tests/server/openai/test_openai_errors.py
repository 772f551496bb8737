"""What goes wrong on OpenAI's API, as the genuine client sees it; and bodies that come packed."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import httpx
import openai
import pytest
import zstandard

from corral.server.bodies import LARGEST
from tests.conftest import RunningServer

HELLO = [{"role": "user", "content": "Hello"}]
BODY = json.dumps({"model": "tiny", "messages": HELLO, "max_tokens": 2, "reasoning_effort": "none"}).encode()
CHAT = "/v1/chat/completions"


def post(server: RunningServer, body: bytes, path: str = CHAT, **headers: str) -> httpx.Response:
    return httpx.post(server.url + path, content=body, headers=headers, timeout=30)


def error(response: httpx.Response) -> dict[str, Any]:
    """The error of an answer, which has all four keys."""
    found: dict[str, Any] = response.json()["error"]
    assert list(found) == ["message", "type", "param", "code"]
    return found


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": ["Hello"]}, "messages[0]"),
        ({"messages": [{"content": "Hello"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": {"a": 1}}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "wild"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}]},
         "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,x"}}]}]},
         "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
         "messages[0].content[0]"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "nope"}}]}]},
         "messages[0].tool_calls[0].function"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"top_p": True}, "top_p"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_completion_tokens": "9"}, "max_completion_tokens"),
        ({"options": {"temperature": "hot"}}, "options.temperature"),
        ({"options": []}, "options"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"stop": 5}, "stop"),
        ({"stop": [None]}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"1": 101}}, "logit_bias"),
        ({"logit_bias": {"-1": 1}}, "logit_bias"),
        ({"logit_bias": [1]}, "logit_bias"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
        ({"reasoning_effort": "wild"}, "reasoning_effort"),
        ({"reasoning": {"effort": "wild"}}, "reasoning.effort"),
        ({"think": "wild"}, "think"),
        ({"keep_alive": []}, "keep_alive"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": "json"}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format.json_schema.schema"),
        ({"response_format": {"type": "json_object"}, "grammar": "root ::= \"a\""}, "grammar"),
        ({"format": "xml"}, "format"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"moderation": {"model": "x"}}, "moderation"),
        ({"model": ""}, "model"),
        ({"model": 7}, "model"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_refused_with_its_field(openai_server: RunningServer, sent: Any, param: str) -> None:
    response = post(openai_server, json.dumps({"model": "tiny", "messages": HELLO} | sent).encode())
    found = error(response)
    assert (response.status_code, found["type"], found["param"]) == (400, "invalid_request_error", param), found


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/embeddings"])
@pytest.mark.parametrize("body", [b"", b"nonsense", b'{"model":', b"[]", b"7", b"\xff"])
def test_what_is_no_request_is_refused_in_openais_shape(openai_server: RunningServer, path: str, body: bytes) -> None:
    response = post(openai_server, body, path)
    assert response.status_code == 400
    assert error(response)["type"] == "invalid_request_error"


def test_errors_are_the_clients_own_exceptions(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="nope", messages=HELLO, stream=True)
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError):
        client.moderations.create(input="x")
    with pytest.raises(openai.PermissionDeniedError):
        client.chat.completions.create(model="tiny:cloud", messages=HELLO)


@pytest.mark.parametrize("stream", [True, False])
def test_a_prompt_that_is_too_long_is_refused_with_the_numbers(client: openai.OpenAI, model: str, stream: bool) -> None:
    turns = [{"role": role, "content": "word " * 60} for _ in range(4) for role in ("user", "assistant")]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model=model, messages=[*turns, *HELLO], stream=stream, extra_body={"options": {"num_ctx": 256}}
        )
    assert caught.value.code == "context_length_exceeded"
    assert "This model's maximum context length is 256 tokens" in caught.value.message  # clients look for it


def test_an_image_needs_a_model_that_sees(client: openai.OpenAI) -> None:
    image = "data:image/png;base64,iVBORw0KGgo="
    content = [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": image}}]
    with pytest.raises(openai.BadRequestError, match='"tiny" does not support images'):
        client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": content}])


def _zstd(body: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(body)


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [("zstd", _zstd), ("gzip", gzip.compress), ("deflate", zlib.compress), ("identity", bytes),
     ("gzip, zstd", lambda body: _zstd(gzip.compress(body)))],
)  # fmt: skip
def test_bodies_may_be_packed(openai_server: RunningServer, encoding: str, pack: Any) -> None:
    response = post(openai_server, pack(BODY), **{"content-encoding": encoding})
    assert response.json()["choices"][0]["message"]["content"] == "Hello!"


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        ("br", BODY, 415),
        ("gzip", BODY, 400),
        ("zstd", BODY, 400),
        ("gzip", gzip.compress(BODY)[:-12], 400),
        ("zstd", _zstd(BODY)[:-3], 400),
        ("gzip", gzip.compress(bytes(LARGEST + 1), 1), 413),
        ("zstd", _zstd(bytes(LARGEST + 1)), 413),
    ],
    ids=["unknown", "no-gzip", "no-zstd", "short-gzip", "short-zstd", "bomb-gzip", "bomb-zstd"],
)
def test_what_cannot_be_unpacked_is_refused(
    openai_server: RunningServer, encoding: str, body: bytes, status: int
) -> None:
    response = post(openai_server, body, **{"content-encoding": encoding})
    assert response.status_code == status
    assert encoding in error(response)["message"] or status == 413


NOT = {"type": "object", "properties": {"a": {"not": {}}}}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


@pytest.mark.parametrize(
    ("path", "sent", "param"),
    [
        (CHAT, {"messages": [{"role": "user", "content": "word " * 5000}]}, "messages"),
        ("/v1/completions", {"prompt": "word " * 5000}, "prompt"),
        ("/v1/responses", {"input": "word " * 5000}, "input"),
        (CHAT, {"messages": [{"role": "user", "content": [PICTURE]}]}, "messages"),
        (CHAT, {"messages": HELLO, "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": NOT}}},
         "response_format.json_schema.schema"),
        (CHAT, {"messages": HELLO, "stream": True, "response_format": {"type": "json_object", "schema": NOT}},
         "response_format.schema"),
        (CHAT, {"messages": HELLO, "response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (CHAT, {"messages": HELLO, "format": NOT}, "format"),
        (CHAT, {"messages": HELLO, "regex": "(?=a)"}, "regex"),
        (CHAT, {"messages": HELLO, "grammar": "root = 1"}, "grammar"),
        (CHAT, {"messages": HELLO, "tools": [{"type": "function", "function": {"name": "f", "strict": True, "parameters": NOT}}]},
         "tools[0].function.parameters"),
        ("/v1/responses", {"input": "Hello", "tools": [{"type": "function", "name": "f", "strict": True, "parameters": NOT}]},
         "tools[0].parameters"),
        ("/v1/responses", {"input": "Hello", "text": {"format": {"type": "json_schema", "name": "a", "schema": NOT}}},
         "text.format.schema"),
        (CHAT, {"messages": HELLO, "model": "a b"}, "model"),
        ("/v1/embeddings", {"input": "Hello"}, "model"),
        ("/v1/rerank", {"documents": ["a"]}, "query"),
        ("/v1/rerank", {"query": "a"}, "documents"),
        ("/v1/rerank", {"query": "a", "documents": [1]}, "documents.0"),
        ("/v1/rerank", {"query": "a", "documents": ["a"], "top_n": 0}, "top_n"),
        ("/v1/rerank", {"query": "a", "documents": ["a"]}, "model"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("model", ["tiny", "tinygo"])
def test_what_is_found_behind_the_first_look_names_its_field_too(
    openai_server: RunningServer, path: str, sent: dict[str, Any], model: str, param: str
) -> None:
    found = post(openai_server, json.dumps({"model": model, **sent}).encode(), path)
    assert found.status_code == 400
    assert (error(found)["type"], error(found)["param"]) == ("invalid_request_error", param)


def test_documents_may_come_packed(openai_server: RunningServer) -> None:
    body = zstandard.compress(json.dumps({"model": "nobody", "query": "a", "documents": ["a"]}).encode())
    found = post(openai_server, body, "/v1/rerank", **{"content-encoding": "zstd"})
    assert (found.status_code, error(found)["code"]) == (404, "model_not_found")
