"""LangChain's own standard tests of a chat model and of embeddings, and what they do not ask."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Literal

import ollama
import pytest
from anyio import to_thread

pytest.importorskip("langchain_ollama", reason="langchain-ollama is not installed; try: make test")

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.runnables import Runnable
from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM
from langchain_tests.integration_tests import ChatModelIntegrationTests, EmbeddingsIntegrationTests
from pydantic import BaseModel, ValidationError

from tests.clients.conftest import await_idle, loaded
from tests.clients.data import ADA, PIXEL, WEATHER
from tests.conftest import RunningServer

pytestmark = pytest.mark.anyio


MADE: list[Any] = []


class Chat(ChatOllama):
    def model_post_init(self, context: Any) -> None:
        super().model_post_init(context)
        MADE.append(self)


class Embeddings(OllamaEmbeddings):
    def model_post_init(self, context: Any) -> None:
        super().model_post_init(context)
        MADE.append(self)


class Complete(OllamaLLM):
    def model_post_init(self, context: Any) -> None:
        super().model_post_init(context)
        MADE.append(self)


@pytest.fixture(autouse=True)
async def closing(anyio_backend: str) -> AsyncIterator[None]:
    """LangChain leaves its connections to the collector, which complains."""
    yield
    while MADE:
        model = MADE.pop()
        model._client._client.close()
        await model._async_client._client.aclose()


class Asks:
    """Tests that know where the server is, also where they ask for parameters and not for fixtures."""

    url = ""

    @pytest.fixture(autouse=True)
    def _found(self, server: RunningServer) -> None:
        self.url = server.url


def too_small(what: str) -> pytest.MarkDecorator:
    return pytest.mark.xfail(reason=f"Tiny {what}; the tests of TestChatOllama ask the same of the server")


class TestStandardChat(Asks, ChatModelIntegrationTests):
    """Tiny goes round in circles where it knows nothing, and then a string of JSON does not end: hence the penalty."""

    chat_model_class = Chat
    supports_json_mode = True
    has_tool_choice = False  # ChatOllama does not send it

    @property
    def chat_model_params(self) -> dict[str, Any]:
        sampling = {"temperature": 0, "repeat_penalty": 2, "repeat_last_n": -1, "num_predict": 400}
        return {"model": "tiny", "base_url": self.url, **sampling}

    @pytest.fixture
    def model(self, request: pytest.FixtureRequest) -> Chat:
        """The model of a test.

        Behind a penalty two words for the place in the agent's loop are nearly as likely, and one of them leads to a second
        call. Which is the likelier depends on how much of the prompt was in memory, as llama.cpp rounds differently when it reads
        fewer tokens at a time.
        """
        params = {**self.standard_chat_model_params, **self.chat_model_params, **getattr(request, "param", {})}
        if request.function.__name__ == "test_agent_loop":
            params["repeat_penalty"] = 1
        return Chat(**params)

    @pytest.fixture
    def benchmark(self) -> None:
        """Asked for by a test that replays recorded answers, which is skipped."""

    vcr = benchmark

    @too_small("calls the tool, but not with the number of the question")
    @pytest.mark.parametrize("model", [{}, {"output_version": "v1"}], indirect=True)
    def test_tool_calling(self, model: ChatOllama) -> None:
        super().test_tool_calling(model)

    @too_small("calls the tool, but not with the number of the question")
    async def test_tool_calling_async(self, model: ChatOllama) -> None:
        await super().test_tool_calling_async(model)

    @too_small("writes JSON with keys of its own where only the question names them")
    def test_json_mode(self, model: ChatOllama) -> None:
        super().test_json_mode(model)

    @too_small("was taught no Chinese to name a customer with")
    def test_unicode_tool_call_integration(self, model: ChatOllama) -> None:  # type: ignore[override]
        super().test_unicode_tool_call_integration(model)


class TestStandardEmbeddings(Asks, EmbeddingsIntegrationTests):
    embeddings_class = Embeddings

    @pytest.fixture(autouse=True)
    def _named(self, minilm_name: str) -> None:
        self.name = minilm_name

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": self.name, "base_url": self.url}


class Person(BaseModel):
    name: str
    age: int


class Weather(BaseModel):
    """Get the current weather for a city"""

    city: str


class Customer(BaseModel):
    name: Literal["你好啊集团"]


class TestChatOllama(Asks):
    def tiny(self, **parameters: Any) -> ChatOllama:
        return Chat(**{"model": "tiny", "base_url": self.url, "temperature": 0, **parameters})

    async def test_an_answer_ends_with_its_reason_and_its_counts(self) -> None:
        tiny = self.tiny(validate_model_on_init=True)
        whole = tiny.invoke("Hello")
        assert whole.content == "Hello! How can I help you?"
        assert whole.response_metadata["done_reason"] == "stop"
        assert whole.usage_metadata == {"input_tokens": 11, "output_tokens": 22, "total_tokens": 33}
        pieces = [piece async for piece in tiny.astream("Hello")]
        assert len(pieces) > 5
        assert "".join(str(piece.content) for piece in pieces) == whole.content
        assert self.tiny(num_predict=2).invoke("Hello").response_metadata["done_reason"] == "length"

    async def test_thoughts_are_the_reasoning_of_the_message(self) -> None:
        thought = "I have to add 2 and 3. The result is 5.\n"
        tiny = self.tiny(reasoning=True)
        for message in tiny.invoke("What is 2 + 3?"), await tiny.ainvoke("What is 2 + 3?"):
            assert (message.content, message.additional_kwargs["reasoning_content"]) == ("2 + 3 = 5", thought)
        streamed = [piece.additional_kwargs.get("reasoning_content", "") for piece in tiny.stream("What is 2 + 3?")]
        assert "".join(streamed) == thought
        plain = self.tiny(reasoning=False).invoke("Hello")
        assert (plain.content, plain.additional_kwargs) == ("Hello! How can I help you?", {})

    async def test_a_tool_is_called_with_parsed_arguments_and_its_result_is_used(self) -> None:
        tools: Runnable[Any, Any] = self.tiny().bind_tools([WEATHER])
        question = HumanMessage("What is the weather in Paris?")
        called: list[BaseMessage] = [
            tools.invoke([question]),
            await tools.ainvoke([question]),
            sum_of([piece async for piece in tools.astream([question])]),
        ]
        for message in called:
            assert isinstance(message, AIMessage)
            (call,) = message.tool_calls
            assert (call["name"], call["args"]) == ("get_weather", {"city": "Paris"})
            result = ToolMessage("21 degrees", tool_call_id=call["id"] or "")
            assert "21 degrees" in tools.invoke([question, message, result]).content

    @pytest.mark.parametrize(
        ("method", "question", "answer"),
        [
            ("json_schema", ADA, Person(name="Ada", age=36)),
            ("json_mode", ADA, Person(name="Ada", age=36)),
            ("function_calling", "What is the weather in Paris?", Weather(city="Paris")),
        ],
    )
    async def test_structured_output_is_what_was_asked_for(self, method: str, question: str, answer: BaseModel) -> None:
        structured = self.tiny().with_structured_output(type(answer), method=method)
        assert structured.invoke(question) == answer
        assert await structured.ainvoke(question) == answer

    def test_a_schema_holds_in_every_script(self) -> None:
        structured = self.tiny().with_structured_output(Customer)
        assert structured.invoke("Create a customer") == Customer(name="你好啊集团")

    def test_logprobs_come_with_the_answer(self) -> None:
        message = self.tiny(logprobs=True, top_logprobs=2, num_predict=2).invoke("Hello")
        first, second = message.response_metadata["logprobs"]
        assert (first.token, second.token) == ("The", " user")
        assert len(first.top_logprobs) == 2

    def test_an_image_for_a_model_that_cannot_see_is_refused(self) -> None:
        image = {"type": "image_url", "image_url": f"data:image/png;base64,{PIXEL}"}
        with pytest.raises(ollama.ResponseError, match='"tiny" does not support images') as refused:
            self.tiny().invoke([HumanMessage([{"type": "text", "text": "What is this?"}, image])])
        assert refused.value.status_code == 400

    async def test_a_model_that_is_not_there_is_an_error_of_the_client(self) -> None:
        with pytest.raises(ollama.ResponseError, match="model 'nope' not found") as refused:
            await self.tiny(model="nope").ainvoke("Hello")
        assert refused.value.status_code == 404
        with pytest.raises(ValidationError, match="Model `nope` not found"):
            Chat(model="nope", base_url=self.url, validate_model_on_init=True)
        with pytest.raises(ollama.ResponseError, match='option "temperature"'):
            self.tiny(temperature=1e9).invoke("Hello")
        with pytest.raises(ollama.ResponseError, match='"tiny" does not support embeddings'):
            Embeddings(model="tiny", base_url=self.url).embed_query("Hello")

    async def test_an_answer_that_is_left_frees_its_slot(self, server: RunningServer) -> None:
        endless = self.tiny(model="endless")
        stream = endless.stream("a")
        next(stream)
        stream.close()
        await_idle(server, "endless")
        async with aclosing(endless.astream("a")) as pieces:
            await anext(pieces)
        await to_thread.run_sync(await_idle, server, "endless")

    def test_keep_alive_is_kept_to(self, server: RunningServer) -> None:
        self.tiny(keep_alive="1h").invoke("Hello")
        assert "tiny:latest" in loaded(server)
        self.tiny(keep_alive=0).invoke("Hello")
        assert "tiny:latest" not in loaded(server)

    async def test_the_older_interface_completes_prompts(self) -> None:
        tiny = Complete(model="tiny", base_url=self.url, temperature=0)
        assert tiny.invoke("Hello") == "Hello! How can I help you?" == "".join(tiny.stream("Hello"))
        assert await tiny.ainvoke("Hello") == "Hello! How can I help you?"


def sum_of(pieces: list[Any]) -> BaseMessage:
    """The message that its pieces make, as LangChain adds them."""
    total = pieces[0]
    for piece in pieces[1:]:
        total += piece
    return total
