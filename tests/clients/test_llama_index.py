"""LlamaIndex's model and embeddings for Ollama."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import ollama
import pytest
from anyio import to_thread

pytest.importorskip("llama_index.llms.ollama", reason="llama-index-llms-ollama is not installed; try: make test")
pytest.importorskip(
    "llama_index.embeddings.ollama", reason="llama-index-embeddings-ollama is not installed; try: make test"
)

from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock, ThinkingBlock
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.ollama import OllamaEmbedding
from llama_index.llms.ollama import Ollama
from pydantic import BaseModel

from tests.clients.conftest import await_idle, loaded
from tests.clients.data import ADA, PIXEL
from tests.conftest import RunningServer

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings(
        "ignore:The `json` method is deprecated:DeprecationWarning"
    ),  # in its structured streams
]

THOUGHT = "I have to add 2 and 3. The result is 5.\n"


class Person(BaseModel):
    name: str
    age: int


def get_weather(city: str) -> str:
    """Get the current weather for a city"""
    return f"21 degrees in {city}"


WEATHER = FunctionTool.from_defaults(get_weather)


def user(text: str) -> list[ChatMessage]:
    return [ChatMessage(role="user", content=text)]


def thoughts(message: ChatMessage) -> str:
    return "".join(block.content or "" for block in message.blocks if isinstance(block, ThinkingBlock))


class Clients:
    """Makes models, and closes them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.made: list[Any] = []

    def tiny(self, **parameters: Any) -> Ollama:
        defaults = {"model": "tiny", "base_url": self.url, "temperature": 0, "context_window": 2048}
        self.made.append(Ollama(**{**defaults, **parameters}))
        return self.made[-1]

    def embedding(self, model: str) -> OllamaEmbedding:
        self.made.append(OllamaEmbedding(model_name=model, base_url=self.url))
        return self.made[-1]

    async def close(self) -> None:
        for model in self.made:
            for client in (model._client, model._async_client):
                if isinstance(client, ollama.AsyncClient):
                    await client._client.aclose()
                elif client is not None:
                    client._client.close()


@pytest.fixture
async def clients(server: RunningServer, anyio_backend: str) -> AsyncIterator[Clients]:
    clients = Clients(server.url)
    yield clients
    await clients.close()


async def test_an_answer_comes_whole_and_in_pieces(clients: Clients) -> None:
    tiny = clients.tiny()
    hello = "Hello! How can I help you?"
    assert tiny.complete("Hello").text == hello == (await tiny.acomplete("Hello")).text
    answer = tiny.chat(user("Hello"))
    assert answer.message.content == hello == (await tiny.achat(user("Hello"))).message.content
    assert answer.raw["done_reason"] == "stop"
    assert answer.raw["usage"] == {"prompt_tokens": 11, "completion_tokens": 22, "total_tokens": 33}
    assert "".join(piece.delta or "" for piece in tiny.stream_chat(user("Hello"))) == hello
    pieces = [piece.delta or "" async for piece in await tiny.astream_chat(user("Hello"))]
    assert "".join(pieces) == hello


def test_thoughts_are_blocks_of_their_own(clients: Clients) -> None:
    message = clients.tiny(thinking=True).chat(user("What is 2 + 3?")).message
    assert (message.content, thoughts(message)) == ("2 + 3 = 5", THOUGHT)
    pieces = list(clients.tiny(thinking=True).stream_chat(user("What is 2 + 3?")))
    assert "".join(piece.additional_kwargs.get("thinking_delta") or "" for piece in pieces) == THOUGHT
    assert thoughts(clients.tiny(thinking=False).chat(user("Hello")).message) == ""


async def test_a_tool_is_called_and_its_result_is_used(clients: Clients) -> None:
    tiny = clients.tiny()
    question = "What is the weather in Paris?"
    *_, streamed = tiny.stream_chat_with_tools([WEATHER], user_msg=question)
    for answer in tiny.chat_with_tools([WEATHER], user_msg=question), streamed:
        (call,) = tiny.get_tool_calls_from_response(answer)
        assert (call.tool_name, call.tool_kwargs) == ("get_weather", {"city": "Paris"})
        result = ChatMessage(role="tool", content="21 degrees", additional_kwargs={"tool_call_id": call.tool_id})
        final = tiny.chat_with_tools([WEATHER], chat_history=[*user(question), answer.message, result])
        assert "21 degrees" in (final.message.content or "")
    assert (await tiny.apredict_and_call([WEATHER], question)).response == "21 degrees in Paris"


async def test_structured_output_is_what_was_asked_for(clients: Clients) -> None:
    ada = Person(name="Ada", age=36)
    structured = clients.tiny().as_structured_llm(Person)
    assert structured.chat(user(ADA)).raw == ada
    assert (await structured.achat(user(ADA))).raw == ada
    *_, last = structured.stream_chat(user(ADA))
    assert last.raw == ada
    text = clients.tiny(json_mode=True).chat(user(ADA)).message.content or ""
    assert Person.model_validate_json(text) == ada


async def test_refusals_are_errors_of_the_client(clients: Clients) -> None:
    image = ChatMessage(
        role="user", blocks=[TextBlock(text="What is this?"), ImageBlock(image=base64.b64decode(PIXEL))]
    )
    with pytest.raises(ollama.ResponseError, match='"tiny" does not support images') as refused:
        clients.tiny().chat([image])
    assert refused.value.status_code == 400
    with pytest.raises(ollama.ResponseError, match="model 'nope' not found") as refused:
        await clients.tiny(model="nope").achat(user("Hello"))
    assert refused.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match='"tiny" does not support embeddings'):
        clients.embedding("tiny").get_text_embedding("a cat")


async def test_an_answer_that_is_left_frees_its_slot(server: RunningServer, clients: Clients) -> None:
    stream = clients.tiny(model="endless").stream_chat(user("a"))
    next(stream)
    stream.close()
    await_idle(server, "endless")
    async with aclosing(await clients.tiny(model="endless").astream_chat(user("a"))) as pieces:
        await anext(pieces)
    await to_thread.run_sync(await_idle, server, "endless")


def test_keep_alive_is_kept_to(server: RunningServer, clients: Clients) -> None:
    clients.tiny(keep_alive="1h").chat(user("Hello"))
    assert "tiny:latest" in loaded(server)
    clients.tiny(keep_alive=0).chat(user("Hello"))
    assert "tiny:latest" not in loaded(server)


def test_the_context_window_is_read_from_the_server(clients: Clients) -> None:
    assert clients.tiny(context_window=-1).metadata.context_window == 2048


async def test_texts_are_embedded(clients: Clients, minilm_name: str) -> None:
    model = clients.embedding(minilm_name)
    cat, kitten, market = model.get_text_embedding_batch(["a cat", "a kitten", "a bond market"])
    assert model.similarity(cat, kitten) > model.similarity(cat, market) + 0.3
    assert model.get_query_embedding("a cat") == pytest.approx(cat, abs=1e-5)
    assert await model.aget_text_embedding("a cat") == pytest.approx(cat, abs=1e-5)
