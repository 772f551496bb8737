"""The genuine ``ollama`` client against a real server with a real engine."""

from __future__ import annotations

import json
from collections.abc import Iterator

import ollama
import pytest

from tests.conftest import RunningServer

GREEDY = {"temperature": 0, "seed": 1}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather for a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}


@pytest.fixture
def client(shared_server: RunningServer) -> Iterator[ollama.Client]:
    client = ollama.Client(shared_server.url)
    yield client
    client._client.close()


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def test_tiny_appears_on_first_use_and_is_listed_then(client: ollama.Client) -> None:
    assert client.show("tiny").capabilities == ["tools", "thinking", "completion"]
    (model,) = client.list().models
    assert model.model == "tiny:latest"
    assert model.details.parameter_size == "4.46M"
    assert model.size > 4_800_000
    assert "MIT License" in (client.show("tiny").license or "")


def test_generate_answers_whole_and_in_a_stream_alike(client: ollama.Client) -> None:
    whole = client.generate("tiny", "Hello", options=GREEDY)
    pieces = list(client.generate("tiny", "Hello", options=GREEDY, stream=True))
    assert whole.response == "Hello! How can I help you?" == "".join(piece.response for piece in pieces)
    assert whole.thinking == "".join(piece.thinking or "" for piece in pieces)
    assert pieces[-1].done_reason == "stop"
    assert (whole.eval_count, whole.prompt_eval_count) == (22, 11)
    assert whole.total_duration > whole.eval_duration > 0


def test_chat_remembers_what_it_is_told(client: ollama.Client) -> None:
    messages = [
        user("My name is Ada."),
        {"role": "assistant", "content": "Nice to meet you, Ada."},
        user("What is my name?"),
    ]
    assert client.chat("tiny", messages, options=GREEDY).message.content == "Your name is Ada."


def test_a_context_continues_the_conversation(client: ollama.Client) -> None:
    first = client.generate("tiny", "My name is Ada.", options=GREEDY, think=False)
    second = client.generate("tiny", "What is my name?", context=first.context, options=GREEDY)
    assert second.response == "Your name is Ada."
    assert second.thinking
    assert len(second.context or ()) > len(first.context or ())


def test_tools_are_called_and_their_results_used(client: ollama.Client) -> None:
    question = user("What is the weather in Paris?")
    called = client.chat("tiny", [question], tools=[WEATHER], options=GREEDY)
    (call,) = called.message.tool_calls or ()
    assert (call.function.name, call.function.arguments) == ("get_weather", {"city": "Paris"})
    result = {"role": "tool", "tool_name": "get_weather", "content": "21 degrees"}
    answer = client.chat("tiny", [question, called.message, result], tools=[WEATHER], options=GREEDY)
    assert "21 degrees" in (answer.message.content or "")


def test_a_streamed_tool_call_stands_on_the_last_line(client: ollama.Client) -> None:
    *pieces, last = client.chat(
        "tiny", [user("What is the weather in Oslo?")], tools=[WEATHER], options=GREEDY, stream=True
    )
    assert not any(piece.message.tool_calls for piece in pieces)
    assert last.done
    assert [call.function.arguments for call in last.message.tool_calls or ()] == [{"city": "Oslo"}]


@pytest.mark.parametrize("think", [True, "high", None])
def test_thoughts_are_apart_from_the_answer(client: ollama.Client, think: bool | str | None) -> None:
    message = client.chat("tiny", [user("What is 2 + 3?")], think=think, options=GREEDY).message
    assert message.thinking == "I have to add 2 and 3. The result is 5.\n"
    assert message.content == "2 + 3 = 5"


def test_thinking_can_be_turned_off(client: ollama.Client) -> None:
    message = client.chat("tiny", [user("Hello")], think=False, options=GREEDY).message
    assert (message.thinking, message.content) == (None, "Hello! How can I help you?")


@pytest.mark.parametrize("way", ["chat", "generate"])
@pytest.mark.parametrize("format_", ["json", PERSON], ids=["json", "schema"])
def test_an_answer_has_the_form_that_was_asked_for(client: ollama.Client, way: str, format_: object) -> None:
    prompt = "Give name, age as JSON: Ada is 36 years old and lives in Paris."
    if way == "chat":
        text = client.chat("tiny", [user(prompt)], format=format_, options=GREEDY).message.content or ""
    else:
        text = client.generate("tiny", prompt, format=format_, options=GREEDY).response
    assert json.loads(text) == {"name": "Ada", "age": 36}


def test_tools_and_a_format_do_not_get_in_each_others_way(client: ollama.Client) -> None:
    call = client.chat("tiny", [user("What is the weather in Paris?")], tools=[WEATHER], format=PERSON, options=GREEDY)
    assert [c.function.name for c in call.message.tool_calls or ()] == ["get_weather"]
    prompt = "Give name, age as JSON: Ada is 36 years old and lives in Paris."
    answer = client.chat("tiny", [user(prompt)], tools=[WEATHER], format=PERSON, options=GREEDY)
    assert set(json.loads(answer.message.content or "")) == {"name", "age"}
    assert not answer.message.tool_calls


def test_a_beginning_of_an_answer_is_continued_and_not_repeated(client: ollama.Client) -> None:
    messages = [user("Hello"), {"role": "assistant", "content": "Hello! How"}]
    assert client.chat("tiny", messages, options=GREEDY).message.content == " can I help you?"


def test_a_beginning_of_an_answer_can_have_a_format(client: ollama.Client) -> None:
    messages = [user("Give name, age as JSON: Ada is 36 years old."), {"role": "assistant", "content": ""}]
    answer = client.chat("tiny", messages, format=PERSON, options={**GREEDY, "num_predict": 60})
    assert set(json.loads(answer.message.content or "")) == {"name", "age"}


def test_stop_strings_end_answers_and_not_thoughts(client: ollama.Client) -> None:
    answer = client.chat("tiny", [user("Hello")], options={**GREEDY, "stop": ["user", "How"]})
    assert answer.message.thinking == "The user greets me or asks who I am.\n"
    assert answer.message.content == "Hello! "
    assert answer.done_reason == "stop"
    assert 0 < answer.eval_count < 22
    assert client.chat("tiny", [user("Hello")], options={**GREEDY, "stop": [""]}).message.content


def test_a_tool_call_that_is_cut_off_is_not_lost(client: ollama.Client) -> None:
    options = {**GREEDY, "num_predict": 25}
    answer = client.chat("tiny", [user("What is the weather in Paris?")], tools=[WEATHER], options=options)
    assert answer.done_reason == "length"
    assert "get_weather" in (answer.message.content or "")
    assert answer.message.thinking


def test_log_probabilities_come_with_their_rivals(client: ollama.Client) -> None:
    answer = client.generate("tiny", "Hello", options={**GREEDY, "num_predict": 2}, logprobs=True, top_logprobs=2)
    first, second = answer.logprobs or ()
    assert (first.token, second.token) == ("The", " user")
    assert -0.01 < first.logprob <= 0
    assert len(first.top_logprobs or ()) == 2


def test_raw_prompts_are_completed_as_they_stand(client: ollama.Client) -> None:
    prompt = "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    assert client.generate("tiny", prompt, raw=True, options=GREEDY).response == "Hello! How can I help you?"


def test_the_oldest_turns_go_first_and_the_answer_says_how_many(client: ollama.Client) -> None:
    turns = [user("I like " + "apples " * 60), {"role": "assistant", "content": "Good."}] * 3
    question = user("My name is Ada. What is my name?")
    body = {"model": "tiny", "messages": [*turns, question], "stream": False, "options": {**GREEDY, "num_ctx": 256}}
    answer = client._request_raw("POST", "/api/chat", json=body).json()
    assert answer["dropped_messages"] in (2, 4, 6)
    assert answer["prompt_eval_count"] < 256
    with pytest.raises(ollama.ResponseError, match="longer than the context length of 256 tokens") as refused:
        client.chat("tiny", [user("word " * 300)], options={"num_ctx": 256})
    assert refused.value.status_code == 400


def test_a_full_context_ends_the_answer_with_length(client: ollama.Client) -> None:
    answer = client.generate(
        "tiny", "Tell me a story", raw=True, options={"num_ctx": 64, "temperature": 1.5, "seed": 3}
    )
    assert answer.prompt_eval_count + answer.eval_count <= 64
    assert answer.done_reason in ("length", "stop")


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({"model": "nope"}, 404, "model 'nope' not found"),
        ({"model": "a b"}, 400, "invalid model name"),
        ({"model": "tiny", "options": {"num_ctx": 0}}, 400, 'option "num_ctx" must be at least 4'),
        ({"model": "tiny", "options": {"top_p": 7}}, 400, 'option "top_p"'),
        ({"model": "tiny", "format": "xml"}, 400, "invalid format"),
        ({"model": "tiny", "format": {"type": "nonsense"}}, 400, "is 'nonsense', which is none of"),
        ({"model": "tiny", "tools": [{"type": "function"}]}, 400, 'each of "tools" needs a "function"'),
        ({"model": "tiny", "tools": ["x"]}, 400, "string into Go struct field ChatRequest.tools of type api.Tool"),
        ({"model": "tiny", "tools": [{"function": {"name": 5}}]}, 400, "ChatRequest.tools.function.name of type string"),
        ({"model": "nope", "format": "xml"}, 404, "model 'nope' not found"),
        ({"model": "tiny", "think": "wild"}, 400, "invalid think value"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_refused_with_a_reason(
    client: ollama.Client, shared_server: RunningServer, body: dict[str, object], status: int, error: str
) -> None:
    with pytest.raises(ollama.ResponseError, match=error) as refused:
        client._request_raw("POST", "/api/chat", json={"messages": [user("Hello")], **body})
    assert refused.value.status_code == status


def test_what_only_loads_or_unloads_asks_nothing_of_a_format(client: ollama.Client) -> None:
    for keep_alive, reason in ((0, "unload"), (None, "load")):
        body = {"model": "tiny", "format": "xml", "stream": False, "keep_alive": keep_alive}
        assert client._request_raw("POST", "/api/generate", json=body).json()["done_reason"] == reason


def test_copilot_finds_a_model_under_the_name_by_which_it_asks(
    client: ollama.Client, shared_server: RunningServer
) -> None:
    copilot = ollama.Client(shared_server.url)
    copilot._client.headers["User-Agent"] = "GitHubCopilotChat/0.30.0"
    info = copilot.show("tiny").modelinfo
    copilot._client.close()
    assert info is not None
    assert info["general.basename"] == "tiny"
    assert list(info) == sorted(info)
    assert {**(client.show("tiny").modelinfo or {}), "general.basename": "tiny"} == info


def test_copies_answer_and_deletion_leaves_the_other(client: ollama.Client) -> None:
    client.copy("tiny", "me/second:v1")
    assert client.chat("me/second:v1", [user("Hello")], options=GREEDY).message.content == "Hello! How can I help you?"
    assert {m.model for m in client.ps().models} >= {"me/second:v1", "tiny:latest"}  # an engine each
    client.delete("me/second:v1")
    assert [m.model for m in client.list().models] == ["tiny:latest"]
    assert client.chat("tiny", [user("Hello")], options=GREEDY).message.content
    with pytest.raises(ollama.ResponseError, match="not found"):
        client.delete("me/second:v1")


def test_a_model_stays_as_long_as_it_is_told(client: ollama.Client) -> None:
    client.generate("tiny", keep_alive=-1)
    (model,) = [m for m in client.ps().models if m.model == "tiny:latest"]
    assert model.expires_at.year > 2100
    client.generate("tiny", "Hello", keep_alive="1h", options={"num_predict": 1})
    (model,) = [m for m in client.ps().models if m.model == "tiny:latest"]
    assert model.expires_at.year < 2100
    assert client.generate("tiny", keep_alive=0).done_reason == "unload"
    assert not [m for m in client.ps().models if m.model == "tiny:latest"]


def test_keep_alive_of_nothing_unloads_after_the_answer(client: ollama.Client) -> None:
    assert client.generate("tiny", "Hello", keep_alive=0, options=GREEDY).response
    assert not [m for m in client.ps().models if m.model == "tiny:latest"]


def test_a_smaller_context_does_not_load_again_and_a_larger_one_does(
    client: ollama.Client, shared_server: RunningServer
) -> None:
    def context() -> int:
        return next(m.context_length for m in client.ps().models if m.model == "tiny:latest")

    client.generate("tiny", keep_alive=0)
    client.generate("tiny", "Hello", options={"num_ctx": 512, "num_predict": 1})
    assert context() == 512
    loads = shared_server.log().count("loaded tiny:latest")
    client.generate("tiny", "Hello", options={"num_ctx": 256, "num_predict": 1})
    assert (context(), shared_server.log().count("loaded tiny:latest")) == (512, loads)
    client.generate("tiny", "Hello", options={"num_ctx": 1024, "num_predict": 1})
    assert context() == 1024
