"""Tools through the genuine ``openai`` client, on both paths."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from pydantic import BaseModel, Field

from corral.dialects.openai.messages import messages

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather for a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
TIME = {"type": "function", "function": {"name": "get_time"}}
QUESTION = [{"role": "user", "content": "What is the weather in Paris?"}]


def ask(client: openai.OpenAI, model: str, messages: Any = QUESTION, **more: Any) -> Any:
    return client.chat.completions.create(model=model, messages=messages, temperature=0, **more)


def rendered(client: openai.OpenAI, model: str, messages: Any, **more: Any) -> str:
    answer = ask(client, model, messages, extra_body={"_debug_render_only": True}, **more)
    return str(answer.model_extra["_debug_info"]["rendered_template"])


def test_a_call_goes_out_and_its_result_comes_back(client: openai.OpenAI, model: str) -> None:
    answer = ask(client, model, tools=[WEATHER])
    (choice,) = answer.choices
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    assert call.id.startswith("call_")
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Paris"})
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny, 21 degrees"}
    told = ask(client, model, [*QUESTION, choice.message.model_dump(exclude_none=True), result], tools=[WEATHER])
    assert "sunny" in told.choices[0].message.content
    assert told.choices[0].finish_reason == "stop"


def test_a_streamed_call_is_whole_in_one_chunk(client: openai.OpenAI, model: str) -> None:
    chunks = list(ask(client, model, tools=[WEATHER], stream=True))
    (calls,) = [chunk.choices[0].delta.tool_calls for chunk in chunks if chunk.choices[0].delta.tool_calls]
    assert (calls[0].index, calls[0].type) == (0, "function")
    assert json.loads(calls[0].function.arguments) == {"city": "Paris"}
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_a_strict_tool_is_held_to_its_schema_also_where_a_call_is_the_models_choice(
    client: openai.OpenAI, model: str
) -> None:
    city = {"type": "string", "enum": ["Rome", "Oslo"]}  # Tiny would say Paris
    schema = {"type": "object", "properties": {"city": city}, "required": ["city"], "additionalProperties": False}
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": schema, "strict": True}}
    (choice,) = ask(client, model, tools=[tool]).choices
    (call,) = choice.message.tool_calls
    assert json.loads(call.function.arguments)["city"] in ("Rome", "Oslo")
    assert choice.finish_reason == "tool_calls"


def test_log_probabilities_come_with_calls_and_with_answers_that_are_none(client: openai.OpenAI, model: str) -> None:
    for stream in (False, True):
        told = list(ask(client, model, tools=[WEATHER], logprobs=True, stream=True)) if stream else []
        choices = [chunk.choices[0] for chunk in told] or ask(client, model, tools=[WEATHER], logprobs=True).choices
        said = "".join(e.token for choice in choices if choice.logprobs for e in choice.logprobs.content)
        assert "get_weather" in said
        assert choices[-1].finish_reason == "tool_calls"
    answer = ask(client, model, [{"role": "user", "content": "Hello"}], tools=[WEATHER], logprobs=True).choices[0]
    assert answer.message.content == "Hello! How can I help you?"
    assert "".join(e.token for e in answer.logprobs.content).endswith(answer.message.content)


@pytest.mark.parametrize("parameters", [{}, {"parameters": {"type": "object", "properties": {}}}])
def test_a_function_without_parameters_is_called_with_none(
    client: openai.OpenAI, model: str, parameters: dict[str, Any]
) -> None:
    tool = {"type": "function", "function": {"name": "get_time", **parameters}}
    (choice,) = ask(client, model, tools=[tool], tool_choice="required").choices
    assert [call.function.arguments for call in choice.message.tool_calls] == ["{}"] * len(choice.message.tool_calls)


def test_that_a_tool_is_strict_is_no_part_of_the_prompt(client: openai.OpenAI, model: str) -> None:
    strict = {"type": "function", "function": {**WEATHER["function"], "strict": True}}
    assert rendered(client, model, QUESTION, tools=[strict]) == rendered(client, model, QUESTION, tools=[WEATHER])


def test_the_clients_helpers_parse_strict_calls(client: openai.OpenAI, model: str) -> None:
    class GetWeather(BaseModel):
        """Get the current weather for a city"""

        city: str = Field()

    tool = openai.pydantic_function_tool(GetWeather, name="get_weather")
    found = client.chat.completions.parse(model=model, messages=QUESTION, temperature=0, tools=[tool])
    assert found.choices[0].message.tool_calls[0].function.parsed_arguments == GetWeather(city="Paris")
    with client.chat.completions.stream(model=model, messages=QUESTION, temperature=0, tools=[tool]) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert "tool_calls.function.arguments.done" in kinds
    assert final.choices[0].message.tool_calls[0].function.parsed_arguments == GetWeather(city="Paris")


def test_the_old_form_is_answered_in_the_old_form(client: openai.OpenAI, model: str) -> None:
    functions = [WEATHER["function"]]
    answer = ask(client, model, functions=functions)
    (choice,) = answer.choices
    assert choice.finish_reason == "function_call"
    assert choice.message.tool_calls is None
    assert json.loads(choice.message.function_call.arguments) == {"city": "Paris"}
    result = {"role": "function", "name": "get_weather", "content": "sunny"}
    told = ask(client, model, [*QUESTION, choice.message.model_dump(exclude_none=True), result], functions=functions)
    assert "sunny" in told.choices[0].message.content
    chunks = list(ask(client, model, functions=functions, stream=True))
    (called,) = [chunk.choices[0].delta.function_call for chunk in chunks if chunk.choices[0].delta.function_call]
    assert called.name == "get_weather"
    assert chunks[-1].choices[0].finish_reason == "function_call"


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_call_that_is_required_comes_where_the_engine_renders(client: openai.OpenAI, choice: Any) -> None:
    answer = ask(client, "tiny", tools=[TIME, WEATHER], tool_choice=choice)
    assert answer.choices[0].message.tool_calls[0].function.name == "get_weather"


def test_only_allowed_tools_reach_the_model(client: openai.OpenAI, model: str) -> None:
    allowed = {"mode": "auto", "tools": [{"type": "function", "function": {"name": "get_time"}}]}
    choice = {"type": "allowed_tools", "allowed_tools": allowed}
    prompt = rendered(client, model, QUESTION, tools=[WEATHER, TIME], tool_choice=choice)
    assert "get_time" in prompt
    assert "get_weather" not in prompt


def test_past_calls_reach_the_model_as_they_were_sent(client: openai.OpenAI, model: str) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"z": 1, "a": "<b>"}'}}
    messages = [
        *QUESTION,
        {"role": "assistant", "content": None, "tool_calls": [call], "reasoning": "I think."},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "sunny"}]},
    ]
    prompt = "".join(rendered(client, model, messages, tools=[WEATHER]).split())
    assert '{"z":1,"a":"<b>"}' in prompt
    assert ("Ithink." in prompt) == (model == "tiny")  # the Go template of tinygo prints no past thoughts
    assert "sunny" in prompt


def test_an_answer_of_a_tool_gets_the_name_of_the_latest_call_with_its_id() -> None:
    def called(name: str) -> dict[str, Any]:
        call = {"id": "c1", "type": "function", "function": {"name": name, "arguments": ""}}
        return {"role": "assistant", "tool_calls": [call]}

    answers = [{"role": "tool", "tool_call_id": id_, "content": "x"} for id_ in ("c1", "other", "")]
    turns = messages([called("old"), called("new"), *answers, {**answers[1], "name": "mine"}], {})
    assert [turn.tool_name for turn in turns[2:]] == ["new", "", "", "mine"]
    assert turns[0].tool_calls[0].arguments == "{}"


@pytest.mark.parametrize(
    ("sent", "param", "words"),
    [
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type", "custom tools are not supported"),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "custom", "custom": {"name": "x"}}},
            "tool_choice.type",
            "custom",
        ),
        ({"tools": [WEATHER], "tool_choice": "always"}, "tool_choice", '"always"'),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice", '"x"'),
        ({"tool_choice": "required"}, "tool_choice", "no tools"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name", "needs a name"),
        ({"tools": [{"type": "function"}]}, "tools[0].function", "must be an object"),
        ({"functions": [WEATHER["function"]], "function_call": {"name": "x"}}, "function_call", '"x"'),
        ({"functions": [WEATHER["function"]], "function_call": "required"}, "function_call", '"required"'),
    ],
)
def test_tools_that_cannot_be_are_refused_by_name(client: openai.OpenAI, sent: Any, param: str, words: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, "tiny", **sent)
    assert caught.value.param == param
    assert words in caught.value.message
