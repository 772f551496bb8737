"""The Responses API through the genuine ``openai`` client, against a real server with a real engine."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import openai
import pytest
from openai.types.responses import ResponseOutputMessage, ResponseReasoningItem
from pydantic import BaseModel

from tests.conftest import RunningServer

BOTH = pytest.mark.parametrize("model", ["tiny", "tinygo"])
WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the current weather for a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": False,
}
THOUGHT = "The user greets me or asks who I am.\n"
HELLO = "Hello! How can I help you?"
GREEDY: Any = {"temperature": 0}
ORDER = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.reasoning_summary_part.added",
    "response.reasoning_summary_text.delta",
    "response.reasoning_summary_text.done",
    "response.reasoning_summary_part.done",
    "response.output_item.done",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.completed",
]


class Person(BaseModel):
    name: str
    age: int


def without_repeats(kinds: list[str]) -> list[str]:
    return [kind for place, kind in enumerate(kinds) if place == 0 or kinds[place - 1] != kind]


def shape(output: list[Any]) -> list[Any]:
    """Items without what differs each time."""
    return [item.model_dump(exclude={"id", "call_id"}) for item in output]


@BOTH
def test_an_answer_has_its_thought_its_text_and_its_counts(client: openai.OpenAI, model: str) -> None:
    response = client.responses.create(model=model, input="Hello", **GREEDY)
    thought, message = response.output
    assert isinstance(thought, ResponseReasoningItem)
    assert isinstance(message, ResponseOutputMessage)
    assert thought.summary[0].text == THOUGHT == thought.encrypted_content
    assert (response.output_text, response.status, message.status) == (HELLO, "completed", "completed")
    usage = response.usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (11, 22, 33)
    assert 0 < usage.output_tokens_details.reasoning_tokens < 22
    assert response.completed_at is not None


@BOTH
def test_a_stream_has_every_event_in_its_place_and_ends_with_the_same_items(client: openai.OpenAI, model: str) -> None:
    whole = client.responses.create(model=model, input="Hello", **GREEDY)
    events = list(client.responses.create(model=model, input="Hello", stream=True, **GREEDY))
    assert without_repeats([event.type for event in events]) == ORDER
    assert [event.sequence_number for event in events] == list(range(len(events)))
    texts = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(texts) == HELLO
    assert len(texts) > 3
    (done,) = (event for event in events if event.type == "response.output_text.done")
    assert done.text == HELLO
    last = events[-1]
    assert last.type == "response.completed"
    assert shape(last.response.output) == shape(whole.output)
    indexes = [event.output_index for event in events if event.type == "response.output_item.done"]
    assert indexes == [0, 1]


def test_the_clients_own_helper_puts_a_stream_together(client: openai.OpenAI) -> None:
    with client.responses.stream(model="tiny", input="Hello", **GREEDY) as stream:
        snapshots = [event.snapshot for event in stream if event.type == "response.output_text.delta"]
        assert stream.get_final_response().output_text == HELLO == snapshots[-1]


def test_the_asynchronous_client_is_served_alike(both_server: RunningServer) -> None:
    async def ask() -> tuple[str, str, str]:
        async with openai.AsyncOpenAI(base_url=f"{both_server.url}/v1", api_key="none", max_retries=0) as client:
            whole = await client.responses.create(model="tiny", input="Hello", **GREEDY)
            pieces = []
            async for event in await client.responses.create(model="tiny", input="Hello", stream=True, **GREEDY):
                if event.type == "response.output_text.delta":
                    pieces.append(event.delta)
            again = await client.responses.retrieve(whole.id)
            return whole.output_text, "".join(pieces), again.output_text

    assert asyncio.run(ask()) == (HELLO, HELLO, HELLO)


@BOTH
def test_a_tool_is_called_and_its_result_used_through_the_previous_response(client: openai.OpenAI, model: str) -> None:
    called = client.responses.create(model=model, input="What is the weather in Paris?", tools=[WEATHER], **GREEDY)
    call = called.output[-1]
    assert call.type == "function_call"
    assert (call.name, call.arguments) == ("get_weather", '{"city":"Paris"}')
    assert call.call_id.startswith("call_")
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "21 degrees"}
    answer = client.responses.create(
        model=model, input=[result], previous_response_id=called.id, tools=[WEATHER], **GREEDY
    )
    assert "21 degrees" in answer.output_text
    assert answer.previous_response_id == called.id


@BOTH
def test_a_client_that_keeps_the_conversation_itself_gets_the_same(client: openai.OpenAI, model: str) -> None:
    question: Any = {"role": "user", "content": "What is the weather in Paris?"}
    called = client.responses.create(model=model, input=[question], tools=[WEATHER], store=False, **GREEDY)
    call = called.output[-1]
    assert call.type == "function_call"
    history: Any = [question, *(item.model_dump(exclude_none=True) for item in called.output)]
    history.append(
        {
            "type": "function_call_output",
            "call_id": call.call_id,
            "output": [{"type": "input_text", "text": "21 degrees"}],
        }
    )
    answer = client.responses.create(model=model, input=history, tools=[WEATHER], store=False, **GREEDY)
    assert "21 degrees" in answer.output_text
    assert answer.model_dump()["store"] is False


@BOTH
def test_a_streamed_call_is_whole_and_nothing_of_it_is_lost(client: openai.OpenAI, model: str) -> None:
    events = list(
        client.responses.create(
            model=model, input="What is the weather in Oslo?", tools=[WEATHER], stream=True, **GREEDY
        )
    )
    (done,) = (event for event in events if event.type == "response.function_call_arguments.done")
    pieces = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    assert json.loads("".join(pieces)) == json.loads(done.arguments) == {"city": "Oslo"}
    last = events[-1]
    assert last.type == "response.completed"
    assert [item.type for item in last.response.output] == ["reasoning", "function_call"]


def test_a_call_that_is_not_wanted_does_not_come(client: openai.OpenAI) -> None:
    asked: Any = {"model": "tiny", "input": "What is the weather in Paris?", "tools": [WEATHER], "temperature": 0}
    response = client.responses.create(tool_choice="none", **asked)
    assert "function_call" not in [item.type for item in response.output]
    assert response.tool_choice == "none"


@BOTH
def test_an_answer_has_the_form_of_a_class(client: openai.OpenAI, model: str) -> None:
    prompt = "Give name, age as JSON: Ada is 36 years old and lives in Paris."
    parsed = client.responses.parse(model=model, input=prompt, text_format=Person, **GREEDY)
    assert parsed.output_parsed == Person(name="Ada", age=36)


def test_an_object_of_any_shape_can_be_asked_for(client: openai.OpenAI) -> None:
    prompt = "Give name, age as JSON: Ada is 36 years old and lives in Paris."
    response = client.responses.create(model="tiny", input=prompt, text={"format": {"type": "json_object"}}, **GREEDY)
    assert isinstance(json.loads(response.output_text), dict)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_is_cut_says_so_and_has_its_message(client: openai.OpenAI, stream: bool) -> None:
    asked: Any = {"model": "tiny", "input": "Hello", "max_output_tokens": 4, **GREEDY}
    if stream:
        last = list(client.responses.create(stream=True, **asked))[-1]
        assert last.type == "response.incomplete"
        response = last.response
    else:
        response = client.responses.create(**asked)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    thought, message = response.output
    assert isinstance(thought, ResponseReasoningItem)
    assert thought.summary[0].text == "The user greets me"
    assert isinstance(message, ResponseOutputMessage)
    assert (message.status, message.content[0].type) == ("incomplete", "output_text")


def test_instructions_lead_and_are_not_inherited(client: openai.OpenAI) -> None:
    first = client.responses.create(model="tiny", input="Who are you?", instructions="You are Ada, a pirate.", **GREEDY)
    assert (first.output_text, first.instructions) == ("I am Ada, a pirate.", "You are Ada, a pirate.")
    second = client.responses.create(model="tiny", input="Who are you?", previous_response_id=first.id, **GREEDY)
    assert second.instructions is None


@BOTH
def test_log_probabilities_come_with_the_text(client: openai.OpenAI, model: str) -> None:
    asked: Any = {"model": model, "input": "Hello", "include": ["message.output_text.logprobs"], "top_logprobs": 3}
    events = list(client.responses.create(stream=True, **asked, **GREEDY))
    deltas = [event for event in events if event.type == "response.output_text.delta"]
    assert all(len(entry.top_logprobs or ()) == 3 for event in deltas for entry in event.logprobs)
    last = events[-1]
    assert last.type == "response.completed"
    message = last.response.output[-1]
    assert isinstance(message, ResponseOutputMessage)
    part = message.content[0]
    assert part.type == "output_text"
    assert part.logprobs
    assert "".join(entry.token for entry in part.logprobs) == HELLO
    assert last.response.top_logprobs == 3


def test_what_was_sent_is_repeated_and_what_the_model_has_is_told(client: openai.OpenAI) -> None:
    response = client.responses.create(
        model="tiny", input="Hello", temperature=0.0, metadata={"a": "b"}, parallel_tool_calls=False, truncation="auto",
        max_output_tokens=30, max_tool_calls=3, user="me", reasoning={"effort": "low"}, safety_identifier="s",
    )  # fmt: skip
    assert response.metadata == {"a": "b"}
    assert (response.parallel_tool_calls, response.truncation) == (False, "auto")
    assert (response.max_output_tokens, response.max_tool_calls, response.user) == (30, 3, "me")
    assert response.reasoning is not None
    assert response.reasoning.effort == "low"
    assert (response.temperature, response.top_p, response.safety_identifier) == (0, 0.9, "s")


def test_a_text_file_in_the_input_is_read(client: openai.OpenAI) -> None:
    data = base64.b64encode(b"My name is Ada.").decode()
    file: Any = {"type": "input_file", "filename": "me.txt", "file_data": f"data:text/plain;base64,{data}"}
    question: Any = {"type": "input_text", "text": "What is my name?"}
    with_file: Any = [{"role": "user", "content": [file, question]}]
    alone: Any = [{"role": "user", "content": [question]}]
    counts = [client.responses.input_tokens.count(model="tiny", input=i).input_tokens for i in (alone, with_file)]
    assert counts[1] - counts[0] >= 6


@BOTH
def test_tokens_are_counted_as_the_answer_counts_them(client: openai.OpenAI, model: str) -> None:
    asked: Any = {"model": model, "input": "What is the weather in Paris?", "tools": [WEATHER]}
    counted = client.responses.input_tokens.count(**asked)
    usage = client.responses.create(**asked, **GREEDY).usage
    assert usage is not None
    assert counted.input_tokens == usage.input_tokens


def test_an_empty_input_loads_the_model(client: openai.OpenAI) -> None:
    response = client.responses.create(model="tiny", input=[])
    assert (response.status, response.output) == ("completed", [])
    events = list(client.responses.create(model="tiny", input=[], stream=True))
    assert [event.type for event in events] == ["response.created", "response.in_progress", "response.completed"]


@BOTH
@pytest.mark.parametrize("effort", ["none", "low"])
def test_log_probabilities_add_no_message_to_a_call(client: openai.OpenAI, model: str, effort: Any) -> None:
    asked: Any = {"input": "What is the weather in Paris?", "tools": [WEATHER], "reasoning": {"effort": effort}}
    response = client.responses.create(model=model, include=["message.output_text.logprobs"], **asked, **GREEDY)
    kinds = [item.type for item in response.output]
    assert kinds == (["function_call"] if effort == "none" else ["reasoning", "function_call"])


@BOTH
def test_log_probabilities_of_what_might_have_been_a_stop_or_a_call_are_kept(client: openai.OpenAI, model: str) -> None:
    asked: Any = {"input": "Hello", "tools": [WEATHER], "reasoning": {"effort": "none"}}
    response = client.responses.create(
        model=model, include=["message.output_text.logprobs"], extra_body={"stop": ["Hello you"]}, **asked, **GREEDY
    )
    (message,) = response.output
    assert isinstance(message, ResponseOutputMessage)
    part = message.content[0]
    assert part.type == "output_text"
    assert part.text == HELLO == "".join(entry.token for entry in part.logprobs or ())
