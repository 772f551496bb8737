"""The genuine ``anthropic`` client against a real server with a real engine."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest
from anthropic.types import Message, ThinkingBlock, ToolUseBlock
from pydantic import BaseModel

from corral.store import Store
from corral.tiny import TINY_FILE
from tests.conftest import RunningServer, StartServer, start_server
from tests.gguf.dialect_models import GEMMA3
from tests.gguf.test_ollama_dialect import png
from tests.server.test_faults import engines
from tests.server.test_ollama_dialect import put as put_with_projector
from tests.wire.test_replay import embedding_model, put
from tests.wire.tinygo import put_tinygo

GREEDY: dict[str, Any] = {"max_tokens": 64, "extra_body": {"temperature": 0}}
HELLO: Any = [{"role": "user", "content": "Hello"}]
WEATHER: Any = {
    "name": "get_weather",
    "description": "Get the current weather for a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
QUESTION: Any = {"role": "user", "content": "What is the weather in Paris?"}
BOTH = pytest.mark.parametrize("model", ["tiny", "tinygo"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Tiny with the template in its file and with a Go template, and a model that only embeds."""
    home = tmp_path_factory.mktemp("anthropic")
    store = Store(home / "models")
    put(store, "tiny", TINY_FILE, "qwen3", "4.46M", "Q8_0")
    put_tinygo(store)
    put(store, "minilm", embedding_model(home / "minilm.gguf"), "bert", "22.57M", "F16")
    running = start_server(home, home / "models")
    yield running
    running.stop()


@pytest.fixture
def client(server: RunningServer) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0) as client:
        yield client


def kinds(message: Message) -> list[str]:
    return [block.type for block in message.content]


def text(message: Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


@BOTH
def test_a_message_is_answered_whole_and_in_a_stream_alike(client: anthropic.Anthropic, model: str) -> None:
    whole = client.messages.create(model=model, messages=HELLO, **GREEDY)
    with client.messages.stream(model=model, messages=HELLO, **GREEDY) as stream:
        said = "".join(stream.text_stream)
        streamed = stream.get_final_message()
    assert text(whole) == said == text(streamed) == "Hello! How can I help you?"
    assert kinds(whole) == kinds(streamed) == ["thinking", "text"]
    assert whole.content[0] == streamed.content[0]
    assert (whole.stop_reason, whole.model, whole.role) == ("end_turn", model, "assistant")
    assert whole.id.startswith("msg_")
    assert whole._request_id
    assert whole._request_id.startswith("req_")
    for usage in (whole.usage, streamed.usage):
        assert (usage.input_tokens + (usage.cache_read_input_tokens or 0), usage.output_tokens) == (11, 22)


@BOTH
def test_a_stream_begins_with_the_true_count_of_its_prompt(client: anthropic.Anthropic, model: str) -> None:
    messages: Any = [{"role": "user", "content": "Repeat: one two three four"}]
    counted = client.messages.count_tokens(model=model, messages=messages).input_tokens
    for attempt in range(2):
        events = list(client.messages.create(model=model, messages=messages, stream=True, **GREEDY))
        assert [event.type for event in (events[0], events[-2], events[-1])] == [
            "message_start",
            "message_delta",
            "message_stop",
        ]
        start, delta = events[0], events[-2]
        assert start.type == "message_start"
        assert delta.type == "message_delta"
        begun = start.message.usage
        assert begun.input_tokens + (begun.cache_read_input_tokens or 0) == counted
        assert begun.input_tokens == delta.usage.input_tokens
        assert begun.cache_read_input_tokens == delta.usage.cache_read_input_tokens
        if attempt:
            assert begun.cache_read_input_tokens
            assert begun.cache_read_input_tokens > counted // 2


def test_the_first_event_counts_what_was_not_cached(client: anthropic.Anthropic) -> None:
    messages: Any = [{"role": "user", "content": "Nobody has asked this before"}]
    start = next(iter(client.messages.create(model="tiny", messages=messages, stream=True, **GREEDY)))
    assert start.type == "message_start"
    assert start.message.usage.input_tokens > 5


@BOTH
@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called_and_its_result_goes_back(client: anthropic.Anthropic, model: str, stream: bool) -> None:
    asked: dict[str, Any] = {"model": model, "tools": [WEATHER], **GREEDY}
    if stream:
        with client.messages.stream(messages=[QUESTION], **asked) as events:
            answer: Message = events.get_final_message()
    else:
        answer = client.messages.create(messages=[QUESTION], **asked)
    call = answer.content[-1]
    assert isinstance(call, ToolUseBlock)
    assert (call.name, call.input, answer.stop_reason) == ("get_weather", {"city": "Paris"}, "tool_use")
    assert call.id.startswith("toolu_")
    result: Any = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "18 degrees"}]}
    history: Any = [QUESTION, {"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
    final = client.messages.create(messages=history, **asked)
    assert final.stop_reason == "end_turn"
    assert "18 degrees" in text(final)


def test_the_tool_runner_of_the_client_runs_tools(client: anthropic.Anthropic) -> None:
    asked = []

    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """Get the current weather for a city

        Args:
            city: The city
        """
        asked.append(city)
        return "18 degrees"

    runner = client.beta.messages.tool_runner(model="tiny", tools=[get_weather], messages=[QUESTION], **GREEDY)
    final = runner.until_done()
    assert asked == ["Paris"]
    assert "18 degrees" in "".join(block.text for block in final.content if block.type == "text")
    result: Any = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "18 degrees"}
    alone = client.messages.count_tokens(model="tiny", messages=[{"role": "user", "content": [result]}]).input_tokens
    read = final.usage.input_tokens + (final.usage.cache_read_input_tokens or 0)
    assert read > alone + 100, "the question, the call and the tools were sent again"


def test_a_conversation_that_the_server_should_keep_is_refused_so_that_clients_send_it_whole(
    client: anthropic.Anthropic,
) -> None:
    for thread in ({"type": "create"}, {"type": "continue", "previous_message_id": "msg_1"}):
        asked: Any = {"model": "tiny", "messages": HELLO, "max_tokens": 9, "thread": thread}
        with pytest.raises(anthropic.BadRequestError, match="thread is not supported") as found:
            client.beta.messages.create(**asked)
        body: Any = found.value.body
        assert body["error"]["details"] == {"error_code": "thread_unsupported_request"}
    kept = client.beta.messages.thread(
        model="tiny", max_tokens=64, unsupported_request_behavior="continue_unthreaded", extra_body={"temperature": 0}
    )
    kept.send({"role": "user", "content": "My name is Ada"})
    kept.send({"role": "user", "content": "What is my name?"})
    assert len(kept.messages) == 4


def test_no_tool_is_called_where_none_may_be(client: anthropic.Anthropic) -> None:
    answer = client.messages.create(
        model="tiny", messages=[QUESTION], tools=[WEATHER], tool_choice={"type": "none"}, **GREEDY
    )
    assert answer.stop_reason == "end_turn"
    assert "tool_use" not in kinds(answer)


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "get_weather"}])
def test_a_tool_is_called_where_one_must_be(client: anthropic.Anthropic, choice: Any) -> None:
    other: Any = {"name": "send_mail", "input_schema": {"type": "object", "properties": {}}}
    answer = client.messages.create(
        model="tiny", messages=[QUESTION], tools=[other, WEATHER], tool_choice=choice, **GREEDY
    )
    calls = [block for block in answer.content if block.type == "tool_use"]
    assert calls
    if choice["type"] == "tool":
        assert {call.name for call in calls} == {"get_weather"}


@BOTH
def test_thoughts_are_signed_and_taken_back_whoever_signed_them(client: anthropic.Anthropic, model: str) -> None:
    answer = client.messages.create(model=model, messages=HELLO, **GREEDY)
    thought = answer.content[0]
    assert isinstance(thought, ThinkingBlock)
    assert thought.signature
    foreign: Any = {"type": "thinking", "thinking": "Hm.", "signature": "EqQBCgIYAhIkN2Y="}
    redacted: Any = {"type": "redacted_thinking", "data": "EmwKAhgBEgy3va3pzix"}
    for history in ([thought], [foreign], [redacted], [foreign, redacted]):
        content: Any = [*history, {"type": "text", "text": "Hello! How can I help you?"}]
        messages: Any = [*HELLO, {"role": "assistant", "content": content}, QUESTION]
        assert client.messages.create(model=model, messages=messages, **GREEDY).stop_reason == "end_turn"


def test_a_thought_that_is_not_shown_comes_back_in_its_signature(client: anthropic.Anthropic) -> None:
    thinking: Any = {"type": "adaptive", "display": "omitted"}
    answer = client.messages.create(model="tinygo", messages=HELLO, thinking=thinking, **GREEDY)
    with client.messages.stream(model="tinygo", messages=HELLO, thinking=thinking, **GREEDY) as stream:
        assert stream.get_final_message().content[0] == answer.content[0]
    hidden = answer.content[0]
    assert isinstance(hidden, ThinkingBlock)
    assert (hidden.thinking, text(answer)) == ("", "Hello! How can I help you?")
    shown: Any = {"type": "thinking", "thinking": "The user greets me or asks who I am.\n", "signature": ""}
    # Of two questions with a call between, templates print the thought of the call.
    call: Any = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Paris"}}
    result: Any = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "18 degrees"}
    counts = {
        client.messages.count_tokens(
            model="tiny",
            messages=[QUESTION, {"role": "assistant", "content": content}, {"role": "user", "content": [result]}],
        ).input_tokens
        for content in ([hidden, call], [shown, call])
    }
    without: Any = [QUESTION, {"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    assert len(counts) == 1
    assert counts != {client.messages.count_tokens(model="tiny", messages=without).input_tokens}


@BOTH
def test_thinking_can_be_turned_off(client: anthropic.Anthropic, model: str) -> None:
    answer = client.messages.create(model=model, messages=HELLO, thinking={"type": "disabled"}, **GREEDY)
    assert kinds(answer) == ["text"]


@BOTH
def test_a_stop_sequence_is_named(client: anthropic.Anthropic, model: str) -> None:
    messages: Any = [{"role": "user", "content": "Count from 3 to 9."}]
    asked: dict[str, Any] = {"model": model, "messages": messages, "stop_sequences": ["nothing", "7"], **GREEDY}
    answer = client.messages.create(**asked)
    assert (answer.stop_reason, answer.stop_sequence, text(answer)) == ("stop_sequence", "7", "3, 4, 5, 6, ")
    with client.messages.stream(**asked) as stream:
        streamed = stream.get_final_message()
    assert (streamed.stop_reason, streamed.stop_sequence) == ("stop_sequence", "7")


@BOTH
def test_the_answer_goes_on_from_what_the_client_began(client: anthropic.Anthropic, model: str) -> None:
    begun: Any = [*HELLO, {"role": "assistant", "content": "Hello! How"}]
    assert text(client.messages.create(model=model, messages=begun, **GREEDY)) == " can I help you?"


@BOTH
def test_an_answer_is_cut_at_its_limit(client: anthropic.Anthropic, model: str) -> None:
    answer = client.messages.create(model=model, messages=HELLO, max_tokens=3, extra_body={"temperature": 0})
    assert (answer.stop_reason, answer.usage.output_tokens, kinds(answer)) == ("max_tokens", 3, ["thinking"])


class Person(BaseModel):
    name: str
    age: int


@BOTH
def test_the_parse_helper_gets_what_it_asked_for(client: anthropic.Anthropic, model: str) -> None:
    messages: Any = [{"role": "user", "content": "My name is Ada and I am 36."}]
    answer = client.messages.parse(model=model, messages=messages, output_format=Person, max_tokens=200)
    assert isinstance(answer.parsed_output, Person)


@BOTH
@pytest.mark.parametrize("with_tools", [False, True])
def test_tokens_are_counted_as_the_model_reads_them(client: anthropic.Anthropic, model: str, with_tools: bool) -> None:
    asked: dict[str, Any] = {"model": model, "messages": [QUESTION], "system": "You are Ada, a pirate."}
    if with_tools:
        asked["tools"] = [WEATHER]
    counted = client.messages.count_tokens(**asked).input_tokens
    usage = client.messages.create(**asked, max_tokens=1).usage
    assert counted == usage.input_tokens + (usage.cache_read_input_tokens or 0)


def test_the_line_that_changes_with_every_request_is_no_part_of_the_prompt(client: anthropic.Anthropic) -> None:
    def counted(*texts: str) -> int:
        system: Any = [{"type": "text", "text": t, "cache_control": {"type": "ephemeral"}} for t in texts]
        return client.messages.count_tokens(model="tiny", messages=HELLO, system=system).input_tokens

    line = "x-anthropic-billing-header: cc_version=2.1.5.c{}; cc_entrypoint=cli; cch=0{};"
    assert counted(line.format(1, 1), "You are Ada.") == counted("You are Ada.")
    assert counted(f"{line.format(2, 2)}\nYou are Ada.") == counted("You are Ada.")


def test_a_document_is_read(client: anthropic.Anthropic) -> None:
    def counted(*blocks: Any) -> int:
        return client.messages.count_tokens(model="tiny", messages=[{"role": "user", "content": blocks}]).input_tokens

    document: Any = {
        "type": "document",
        "source": {"type": "text", "media_type": "text/plain", "data": "one two three"},
    }
    question: Any = {"type": "text", "text": "Hello"}
    assert counted(document, question) > counted(question) + 5
    assert counted({**document, "title": "Numbers"}, question) > counted(document, question)


def test_models_are_listed_page_by_page(client: anthropic.Anthropic) -> None:
    listed = list(client.models.list(limit=1))
    assert sorted(model.id for model in listed) == ["minilm:latest", "tiny:latest", "tinygo:latest"]
    assert client.models.list(limit=2).has_more
    back = client.models.list(before_id=listed[2].id, limit=1)
    assert [model.id for model in back.data] == [listed[1].id]
    tiny = client.models.retrieve("tiny")
    assert (tiny.id, tiny.display_name, tiny.type, tiny.lifecycle) == ("tiny", "tiny:latest", "model", "active")
    assert tiny.max_input_tokens == 2048
    assert tiny.created_at.tzinfo
    assert not client.models.list(lifecycle=["retired"]).data


def test_what_anthropics_servers_have_besides_is_refused_in_their_shape(
    client: anthropic.Anthropic, server: RunningServer
) -> None:
    with pytest.raises(anthropic.NotFoundError, match="files are not supported"):
        client.beta.files.list()
    with pytest.raises(anthropic.NotFoundError, match="files are not supported"):
        client.beta.files.upload(file=("a.txt", b"a", "text/plain"))
    with pytest.raises(anthropic.NotFoundError) as found:
        client.beta.skills.list()
    body: Any = found.value.body
    assert (body["type"], body["error"]["type"]) == ("error", "not_found_error")
    assert body["request_id"] == found.value.request_id
    named = {"anthropic-version": "2023-06-01"}
    assert "type" not in httpx.post(f"{server.url}/v1/chat/completions", json={}, headers=named).json()


def test_thoughts_are_counted_among_the_tokens_of_the_answer(client: anthropic.Anthropic) -> None:
    whole = client.messages.create(model="tiny", messages=HELLO, **GREEDY)
    with client.messages.stream(model="tiny", messages=HELLO, **GREEDY) as stream:
        streamed = stream.get_final_message()
    for usage in (whole.usage, streamed.usage):
        assert usage.output_tokens_details
        assert 8 < usage.output_tokens_details.thinking_tokens < usage.output_tokens


@BOTH
def test_a_limit_may_be_larger_than_any_context(client: anthropic.Anthropic, model: str) -> None:
    asked: Any = {"model": model, "messages": HELLO, "timeout": 60, "extra_body": {"temperature": 0}}
    for limit in (2**31, 2**40):
        assert client.messages.create(**asked, max_tokens=limit).stop_reason == "end_turn"


def test_other_clients_get_the_other_list(server: RunningServer) -> None:
    assert httpx.get(f"{server.url}/v1/models").json()["object"] == "list"


@pytest.mark.parametrize("model", ["nothing", "minilm"])
def test_errors_are_those_that_the_client_knows(client: anthropic.Anthropic, model: str) -> None:
    wanted = anthropic.NotFoundError if model == "nothing" else anthropic.BadRequestError
    with pytest.raises(wanted) as found:
        client.messages.create(model=model, messages=HELLO, **GREEDY)
    assert found.value.request_id
    assert found.value.request_id.startswith("req_")
    body: Any = found.value.body
    assert body["request_id"] == found.value.request_id
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("nothing")
    with pytest.raises(anthropic.NotFoundError, match="message batches are not supported"):
        client.messages.batches.list()


@BOTH
@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_does_not_fit_is_refused_in_the_words_clients_look_for(
    client: anthropic.Anthropic, model: str, stream: bool
) -> None:
    messages: Any = [*HELLO, {"role": "assistant", "content": "Hello!"}, {"role": "user", "content": "word " * 3000}]
    with pytest.raises(anthropic.BadRequestError, match=r"prompt is too long: 3\d\d\d tokens > 2048 maximum"):
        client.messages.create(model=model, messages=messages, max_tokens=8, stream=stream)


@pytest.mark.anyio
async def test_the_asynchronous_client_is_answered_too(server: RunningServer) -> None:
    async with anthropic.AsyncAnthropic(base_url=server.url, api_key="none") as client:
        async with client.messages.stream(model="tiny", messages=HELLO, **GREEDY) as stream:
            said = [piece async for piece in stream.text_stream]
            assert (await stream.get_final_message()).stop_reason == "end_turn"
        assert "".join(said) == "Hello! How can I help you?"
        assert (await client.messages.count_tokens(model="tiny", messages=HELLO)).input_tokens == 11
        assert [model.id async for model in client.models.list()]


def test_an_engine_that_dies_in_mid_answer_ends_the_stream_with_an_error_event(
    serve: StartServer, endless: Path
) -> None:
    server = serve(endless)
    asked: dict[str, Any] = {"model": "endless", "messages": HELLO, "stream": True, "max_tokens": 10000}
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0) as client:
        stream = client.messages.create(**asked, extra_body={"temperature": 0})
        for event in stream:
            if event.type == "content_block_delta":
                break
        (engine,) = engines(server)
        engine.kill()
        with pytest.raises(anthropic.APIStatusError, match="the engine ended unexpectedly") as found:
            list(stream)
    body: Any = found.value.body
    assert (body["type"], body["error"]["type"]) == ("error", "api_error")


def test_an_answer_that_fills_the_context_says_so(client: anthropic.Anthropic) -> None:
    body = {"temperature": 0, "options": {"num_ctx": 16}}
    answer = client.messages.create(model="tiny", messages=HELLO, max_tokens=64, extra_body=body)
    assert answer.stop_reason == "model_context_window_exceeded"
    assert answer.usage.output_tokens < 10


def test_an_image_is_seen_as_the_native_api_shows_it(serve: StartServer, tmp_path: Path) -> None:
    _, weights, projector = GEMMA3.write(tmp_path)
    put_with_projector(Store(tmp_path / "models"), "eyes", weights, projector)
    server = serve()
    data, question = b64encode(png()).decode(), "Tell me of two friends"
    greedy = {"temperature": 0, "num_predict": 12}
    message = {"role": "user", "content": question, "images": [data]}
    asked = {"model": "eyes", "messages": [message], "stream": False, "options": greedy}
    native = httpx.post(f"{server.url}/api/chat", json=asked, timeout=60).json()
    image: Any = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
    turn: Any = {"role": "user", "content": [image, {"type": "text", "text": question}]}
    extra: Any = {"max_tokens": 12, "extra_body": {"temperature": 0}}
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0) as client:
        answer = client.messages.create(model="eyes", messages=[turn], **extra)
        assert text(answer) == native["message"]["content"]
        read = answer.usage.input_tokens + (answer.usage.cache_read_input_tokens or 0)
        assert read == native["prompt_eval_count"]
        call: Any = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
        result: Any = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [image]}
        history: Any = [
            {"role": "user", "content": question},
            {"role": "assistant", "content": [call]},
            {"role": "user", "content": [result]},
        ]
        seen = client.messages.create(model="eyes", messages=history, **extra).usage
        assert seen.input_tokens + (seen.cache_read_input_tokens or 0) > read
