"""litellm's providers: ``ollama/`` writes a prompt of its own for ``/api/generate``, the others chat."""

from __future__ import annotations

import gc
import json
import os
import warnings
from collections.abc import AsyncIterator, Iterator
from inspect import isawaitable
from typing import Any

import pytest
from anyio import to_thread

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it fetches one when it is imported
pytest.importorskip("litellm", reason="litellm is not installed; try: make test")

import litellm
from litellm.llms.custom_httpx.async_client_cleanup import close_litellm_async_clients

from tests.clients.conftest import await_idle, loaded
from tests.clients.data import ADA, PERSON, PIXEL, WEATHER
from tests.conftest import RunningServer

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Items? .* on TypedDict class .* using the `ReadOnly` qualifier:UserWarning"),
]

PROVIDERS = ("ollama", "ollama_chat", "openai", "anthropic")
SUM = [{"role": "user", "content": "What is 2 + 3?"}]
THOUGHT = "I have to add 2 and 3. The result is 5.\n"
PARIS = {"role": "user", "content": "What is the weather in Paris?"}


@pytest.fixture(params=PROVIDERS)
def provider(request: pytest.FixtureRequest) -> str:
    return request.param


def where(server: RunningServer, provider: str) -> dict[str, str]:
    """The two settings that point litellm at a server."""
    return {"api_base": server.url + ("/v1" if provider == "openai" else ""), "api_key": "unused"}


@pytest.fixture(scope="module", autouse=True)
def few_to_collect() -> Iterator[None]:
    """What was imported stays; to look through it after each test took longer than the test."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
async def closing(anyio_backend: str) -> AsyncIterator[None]:
    """litellm keeps its connections for the next loop, which is another one."""
    litellm.suppress_debug_info = True
    yield
    await close_litellm_async_clients()
    cache = litellm.in_memory_llm_clients_cache
    for client in list(cache.cache_dict.values()):
        if hasattr(client, "close") and isawaitable(closed := client.close()):
            await closed
    cache.flush_cache()
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        gc.collect()  # of a stream that was refused it keeps no client at all


@pytest.fixture
def asked(server: RunningServer, provider: str) -> dict[str, Any]:
    """What every question has."""
    return {"model": f"{provider}/tiny", **where(server, provider), "temperature": 0, "max_tokens": 200}


def message(answer: Any) -> Any:
    return answer.choices[0].message


async def test_an_answer_and_its_thought_come_whole_and_in_pieces(asked: dict[str, Any]) -> None:
    answers = [
        litellm.completion(**asked, messages=SUM),
        await litellm.acompletion(**asked, messages=SUM),
        litellm.stream_chunk_builder(list(litellm.completion(**asked, messages=SUM, stream=True))),
        litellm.stream_chunk_builder(
            [piece async for piece in await litellm.acompletion(**asked, messages=SUM, stream=True)]
        ),
    ]
    for answer in answers:
        assert (message(answer).content, message(answer).reasoning_content) == ("2 + 3 = 5", THOUGHT)
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage.completion_tokens > 0


def test_counts_and_the_reason_of_the_end_arrive(server: RunningServer) -> None:
    asked = {"model": "ollama_chat/tiny", "api_base": server.url, "temperature": 0, "messages": SUM}
    usage = litellm.completion(**asked).usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (18, 27)
    assert litellm.completion(**asked, max_tokens=3).choices[0].finish_reason == "length"
    stopped = litellm.completion(**asked, stop=[" ="])
    assert (message(stopped).content, stopped.choices[0].finish_reason) == ("2 + 3", "stop")


@pytest.mark.parametrize(
    "form",
    [
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}},
    ],
    ids=["json", "schema"],
)
def test_an_answer_has_the_form_that_was_asked_for(asked: dict[str, Any], provider: str, form: dict[str, Any]) -> None:
    # Anthropic's API has no formats: litellm lists a tool with the schema, and chooses it. Made to call a tool that it does not
    # know, Tiny copies Ada's name into the call only if it goes there without a thought.
    if provider == "anthropic":
        asked |= {"thinking": {"type": "disabled"}, "allowed_openai_params": ["thinking"]}
    answer = litellm.completion(**asked, messages=[{"role": "user", "content": ADA}], response_format=form)
    assert json.loads(message(answer).content) == {"name": "Ada", "age": 36}


@pytest.mark.parametrize("provider", [name for name in PROVIDERS if name != "ollama"], indirect=True)
async def test_a_tool_is_called_and_its_result_is_used(asked: dict[str, Any]) -> None:
    asked["tools"] = [WEATHER]
    answers = [
        litellm.completion(**asked, messages=[PARIS]),
        await litellm.acompletion(**asked, messages=[PARIS]),
        litellm.stream_chunk_builder(list(litellm.completion(**asked, messages=[PARIS], stream=True))),
    ]
    for answer in answers:
        assert answer.choices[0].finish_reason == "tool_calls"
        (call,) = message(answer).tool_calls
        assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Paris"})
        result = {"role": "tool", "tool_call_id": call.id, "content": "21 degrees"}
        final = litellm.completion(**asked, messages=[PARIS, message(answer).model_dump(), result])
        assert "21 degrees" in message(final).content


async def test_refusals_are_litellms_own_errors(asked: dict[str, Any], provider: str) -> None:
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    seen = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]}]
    with pytest.raises(litellm.BadRequestError, match="does not support images"):
        litellm.completion(**asked, messages=seen)
    nobody = {**asked, "model": f"{provider}/nope", "messages": SUM}
    with pytest.raises(litellm.NotFoundError, match="model 'nope' not found"):
        litellm.completion(**nobody)
    with pytest.raises(litellm.NotFoundError, match=r"nope\W+not found"):
        await litellm.acompletion(**nobody, stream=True)
    with pytest.raises(litellm.BadRequestError, match="temperature"):
        litellm.completion(**{**asked, "temperature": 1e9, "messages": SUM})


async def test_an_answer_that_is_left_frees_its_slot(server: RunningServer, provider: str) -> None:
    asked = {"model": f"{provider}/endless", **where(server, provider), "messages": SUM, "stream": True}
    answer = await litellm.acompletion(**asked)
    await anext(aiter(answer))
    await answer.aclose()
    await to_thread.run_sync(await_idle, server, "endless")


def test_keep_alive_is_kept_to(server: RunningServer) -> None:
    # Not with "ollama/", which sends it among the options, where it means nothing.
    asked = {"model": "ollama_chat/tiny", "api_base": server.url, "messages": SUM}
    litellm.completion(**asked, keep_alive="1h")
    assert "tiny:latest" in loaded(server)
    litellm.completion(**asked, keep_alive=0)
    assert "tiny:latest" not in loaded(server)


@pytest.mark.parametrize("provider", ["ollama", "openai"], indirect=True)
async def test_texts_are_embedded(server: RunningServer, provider: str, minilm_name: str) -> None:
    texts = ["a cat", "a kitten", "a bond market"]
    asked = {"model": f"{provider}/{minilm_name}", **where(server, provider), "input": texts}
    for answer in litellm.embedding(**asked), await litellm.aembedding(**asked):
        cat, kitten, market = (item["embedding"] for item in answer.data)
        assert len(cat) == 384
        assert dot(cat, kitten) > dot(cat, market) + 0.3
    with pytest.raises(litellm.BadRequestError, match="does not support embeddings"):
        litellm.embedding(**{**asked, "model": f"{provider}/tiny"})


def test_what_a_model_can_do_is_read_from_the_server(server: RunningServer) -> None:
    info = litellm.get_model_info("ollama/tiny", api_base=server.url)
    assert (info["supports_function_calling"], info["max_tokens"]) == (True, 2048)


def test_prompts_are_completed(server: RunningServer) -> None:
    answer = litellm.text_completion(model="ollama/tiny", api_base=server.url, prompt="Hello", temperature=0)
    assert answer.choices[0].text == "Hello! How can I help you?"


def dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))
