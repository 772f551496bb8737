"""Answers that are held to something: a format, a call, one call; for a model that its engine renders, and for a Go template.

The model is heated until it would write anything: what it still does right, the grammar does.
"""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from corral.store import Store
from tests.conftest import RunningServer, start_server
from tests.wire.tinygo import put_tinygo

HOT = {"temperature": 2, "top_k": 60, "top_p": 1.0, "num_predict": 250, "num_ctx": 1024}
BOTH = pytest.mark.parametrize("model", ["tiny", "tinygo"])
ADA = [{"role": "user", "content": "Give name, age as JSON: Ada is 36 years old and lives in Paris."}]
PARIS = [{"role": "user", "content": "What is the weather in Paris?"}]
HELLO = [{"role": "user", "content": "Hello"}]
PERSON = {
    "type": "object",
    "properties": {
        "age": {"type": "integer", "minimum": 1, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["a", "b", None]}, "maxItems": 3},
        "id": {"type": "string", "pattern": "^[a-f]{2}-[0-9]+$"},
        "score": {"type": "number", "minimum": 0.5, "exclusiveMaximum": 1},
    },
    "required": ["age", "id", "score"],
    "additionalProperties": False,
}


def tool(name: str, **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": name, "parameters": parameters}}


WEATHER = tool("get_weather", city={"type": "string", "enum": ["Paris", "Rome"]})
ADD = tool("add", a={"type": "integer", "minimum": 1, "maximum": 9}, b={"type": "integer", "minimum": 1, "maximum": 9})
SCHEMAS = {t["function"]["name"]: t["function"]["parameters"] for t in (WEATHER, ADD)}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    home = tmp_path_factory.mktemp("home")
    put_tinygo(Store(home / "models"))
    running = start_server(home, home / "models")
    yield running
    running.stop()


def post(server: RunningServer, path: str, **body: Any) -> tuple[int, list[dict[str, Any]]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.address.port, timeout=60)
    connection.request("POST", path, json.dumps({"stream": False} | body))
    answer = connection.getresponse()
    lines = [json.loads(line) for line in answer.read().splitlines()]
    connection.close()
    return answer.status, lines


def answers(server: RunningServer, count: int = 4, path: str = "/api/chat", **body: Any) -> Iterator[dict[str, Any]]:
    """Answers to one request with several seeds; those that the limit cut off are left out."""
    whole = 0
    for seed in range(count):
        status, lines = post(server, path, **body, options=HOT | body.get("options", {}) | {"seed": seed})
        assert status == 200, lines
        if lines[-1]["done_reason"] == "stop":
            whole += 1
            yield lines[-1]
    assert whole


@BOTH
@pytest.mark.parametrize("think", [True, False])
def test_an_answer_is_of_the_schema_however_hot_the_model_is(server: RunningServer, model: str, think: bool) -> None:
    for answer in answers(server, model=model, messages=ADA, format=PERSON, think=think):
        jsonschema.validate(json.loads(answer["message"]["content"]), PERSON)
        assert think or "thinking" not in answer["message"]


@BOTH
def test_a_format_leaves_the_thought_as_it_was_and_generates_nothing_twice(server: RunningServer, model: str) -> None:
    body = {"model": model, "messages": ADA, "options": {"temperature": 0, "num_predict": 60}}
    _, (free,) = post(server, "/api/chat", **body)
    _, (held,) = post(
        server, "/api/chat", **body, format={"type": "object", "properties": {"age": {"type": "integer"}}}
    )
    assert held["message"]["thinking"] == free["message"]["thinking"]
    assert held["prompt_eval_count"] == free["prompt_eval_count"]
    assert held["eval_count"] < free["eval_count"]
    assert json.loads(held["message"]["content"]).keys() <= {"age"}


def test_an_empty_turn_of_the_assistant_at_the_end_begins_nothing(server: RunningServer) -> None:
    cold = {"model": "tiny", "options": {"temperature": 0, "num_predict": 60}}
    empty = {"role": "assistant", "content": ""}
    _, (plain,) = post(server, "/api/chat", **cold, messages=HELLO)
    for streamed in (False, True):
        _, lines = post(server, "/api/chat", **cold, messages=[*HELLO, empty], stream=streamed)
        for field in ("content", "thinking"):
            assert "".join(line["message"].get(field, "") for line in lines) == plain["message"][field]
        assert lines[-1]["prompt_eval_count"] == plain["prompt_eval_count"]
    _, (held,) = post(server, "/api/chat", **cold, messages=[*ADA, empty], format="json")
    assert json.loads(held["message"]["content"]) == {"name": "Ada", "age": 36}


@BOTH
def test_a_streamed_answer_in_a_format_is_the_same_text(server: RunningServer, model: str) -> None:
    body = {"model": model, "messages": ADA, "format": PERSON, "options": HOT | {"seed": 3}}
    _, (whole,) = post(server, "/api/chat", **body)
    _, lines = post(server, "/api/chat", **body, stream=True)
    for field in ("content", "thinking"):
        assert "".join(line["message"].get(field, "") for line in lines) == whole["message"].get(field, "")
    assert len(lines) > 5


@BOTH
def test_tools_and_a_format_give_a_call_or_an_answer_in_the_format(server: RunningServer, model: str) -> None:
    for question in (PARIS, ADA):
        for answer in answers(server, 6, model=model, messages=question, tools=[WEATHER, ADD], format=PERSON):
            message = answer["message"]
            for call in message.get("tool_calls", ()):
                jsonschema.validate(call["function"]["arguments"], SCHEMAS[call["function"]["name"]])
            if not message.get("tool_calls"):
                jsonschema.validate(json.loads(message["content"]), PERSON)
            else:
                assert message["content"] == ""


@BOTH
def test_a_required_call_comes_whatever_was_asked(server: RunningServer, model: str) -> None:
    for answer in answers(server, model=model, messages=HELLO, tools=[WEATHER, ADD], tool_choice="required"):
        message = answer["message"]
        assert message["content"] == ""
        assert message["tool_calls"]
        for call in message["tool_calls"]:
            jsonschema.validate(call["function"]["arguments"], SCHEMAS[call["function"]["name"]])


@BOTH
@pytest.mark.parametrize("choice", [{"type": "function", "function": {"name": "add"}}, {"name": "add"}])
def test_a_named_tool_is_called_once_and_no_other(server: RunningServer, model: str, choice: object) -> None:
    for answer in answers(server, 4, model=model, messages=PARIS, tools=[WEATHER, ADD], tool_choice=choice):
        (call,) = answer["message"]["tool_calls"]
        assert call["function"]["name"] == "add"
        jsonschema.validate(call["function"]["arguments"], SCHEMAS["add"])


@BOTH
def test_no_tool_is_called_where_none_is_to_be(server: RunningServer, model: str) -> None:
    status, (answer,) = post(
        server,
        "/api/chat",
        model=model,
        messages=PARIS,
        tools=[WEATHER],
        tool_choice="none",
        options={"temperature": 0},
    )
    assert status == 200
    assert "tool_calls" not in answer["message"]
    assert "tool_call" not in answer["message"]["content"]


@BOTH
def test_one_call_at_most_where_calls_are_not_to_be_parallel(server: RunningServer, model: str) -> None:
    body = {"model": model, "messages": PARIS, "tools": [WEATHER, ADD], "parallel_tool_calls": False}
    for answer in answers(server, 6, **body):
        assert len(answer["message"].get("tool_calls", ())) <= 1
    for answer in answers(server, 4, **body, tool_choice="required"):
        assert len(answer["message"]["tool_calls"]) == 1


@BOTH
def test_several_calls_are_numbered_and_have_names_of_their_own(server: RunningServer, model: str) -> None:
    for answer in answers(server, 6, model=model, messages=PARIS, tools=[WEATHER, ADD], tool_choice="required"):
        calls = answer["message"]["tool_calls"]
        assert [call["function"]["index"] for call in calls] == list(range(len(calls)))
        assert len({call["id"] for call in calls}) == len(calls)


@BOTH
def test_a_grammar_and_a_regular_expression_hold_the_answer(server: RunningServer, model: str) -> None:
    for answer in answers(
        server, 3, model=model, messages=HELLO, grammar='root ::= "yes" | "no, " word\nword ::= [a-z]{2,3}'
    ):
        assert re.fullmatch("yes|no, [a-z]{2,3}", answer["message"]["content"])
    pattern = r"(?:red|green)\s\d{2,4}[!?]"
    for answer in answers(server, 3, model=model, messages=HELLO, regex=pattern):
        assert re.fullmatch(pattern, answer["message"]["content"])
    for answer in answers(server, 3, path="/api/generate", model=model, prompt="Hello", regex=pattern):
        assert re.fullmatch(pattern, answer["response"])
    for answer in answers(server, 3, path="/api/generate", model=model, prompt="Hello", regex=pattern, raw=True):
        assert re.fullmatch(pattern, answer["response"])


@BOTH
@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"format": {"type": "array", "uniqueItems": True}}, '"uniqueItems" at # cannot be enforced'),
        ({"format": {"properties": {"a": {"not": {}}}}}, '"not" at #/properties/a cannot be enforced'),
        ({"format": {"enum": []}}, '"enum" at # must be a list of values, one at least'),
        ({"format": {"$ref": "#/$defs/nope"}}, "\"$ref\" at # is '#/$defs/nope', which is not in this schema"),
        ({"format": {"pattern": "(?=a)"}}, "lookarounds"),
        ({"grammar": "root ::= other"}, '"grammar": the rule "root" uses "other", which is not defined'),
        ({"regex": "(a"}, "a closing parenthesis is missing"),
        ({"regex": "a", "format": "json"}, 'one of "format", "grammar" and "regex"'),
        ({"tool_choice": "required"}, "the request has no tools"),
        ({"tools": [WEATHER], "tool_choice": {"name": "nope"}}, "names 'nope', which is none of the tools: get_weather"),
        ({"tools": [WEATHER], "tool_choice": "perhaps"}, '"tool_choice" is "auto", "none", "required"'),
    ],
)  # fmt: skip
def test_what_cannot_be_held_to_is_refused_by_name_before_anything_is_said(
    server: RunningServer, model: str, body: dict[str, Any], error: str
) -> None:
    status, (line,) = post(server, "/api/chat", model=model, messages=HELLO, stream=True, **body)
    assert status == 400
    assert error in line["error"]


@BOTH
def test_a_tool_that_must_be_strict_and_cannot_be_is_refused(server: RunningServer, model: str) -> None:
    odd = tool("odd", a={"type": "integer", "multipleOf": 3})
    body = {"model": model, "messages": HELLO, "tool_choice": "required", "options": HOT}
    status, (answer,) = post(server, "/api/chat", **body, tools=[odd])
    assert status == 200
    assert answer["done_reason"] == "length" or answer["message"]["tool_calls"]
    strict = {"type": "function", "function": {**odd["function"], "strict": True}}
    status, (line,) = post(server, "/api/chat", **body, tools=[strict])
    assert status == 400
    assert "calls of the tool 'odd' cannot be strict" in line["error"]


@BOTH
def test_an_answer_that_was_begun_has_no_thought_more_and_goes_on_in_the_format(
    server: RunningServer, model: str
) -> None:
    begun = [*ADA, {"role": "assistant", "content": "Here it is: "}]
    for answer in answers(server, model=model, messages=begun, format=PERSON):
        assert "thinking" not in answer["message"]
        jsonschema.validate(json.loads(answer["message"]["content"]), PERSON)


@BOTH
def test_turns_that_were_left_out_stand_in_a_header_too(server: RunningServer, model: str) -> None:
    turns = [*HELLO, {"role": "assistant", "content": "word " * 80}] * 3 + HELLO
    body = {"model": model, "messages": turns, "stream": False, "options": {"num_ctx": 128, "num_predict": 5}}
    connection = http.client.HTTPConnection("127.0.0.1", server.address.port, timeout=60)
    connection.request("POST", "/api/chat", json.dumps(body))
    answer = connection.getresponse()
    assert answer.headers["x-corral-dropped-messages"] == str(json.loads(answer.read())["dropped_messages"])
    connection.close()


@BOTH
def test_options_beside_options_are_heard_and_those_inside_win(server: RunningServer, model: str) -> None:
    _, (answer,) = post(server, "/api/chat", model=model, messages=HELLO, temperature=0, max_output_tokens=3)
    assert (answer["eval_count"], answer["done_reason"]) == (3, "length")
    _, (answer,) = post(
        server,
        "/api/chat",
        model=model,
        messages=HELLO,
        max_output_tokens=3,
        options={"temperature": 0, "num_predict": 4},
    )
    assert answer["eval_count"] == 4
    status, (line,) = post(server, "/api/chat", model=model, messages=HELLO, temperature="hot")
    assert (status, line["error"]) == (400, 'option "temperature" must be of type float32')


@BOTH
def test_further_samplers_of_the_engine_are_options(server: RunningServer, model: str) -> None:
    more = {"mirostat": 2, "dry_multiplier": 0.8, "dry_penalty_last_n": -1, "xtc_probability": 0.1, "top_n_sigma": 2,
            "dynatemp_range": 0.2, "samplers": ["top_k", "temperature"], "num_predict": 4}  # fmt: skip
    status, (answer,) = post(server, "/api/chat", model=model, messages=HELLO, options=more)
    assert (status, answer["eval_count"]) == (200, 4)
    never = {"temperature": 0, "num_predict": 30, "logit_bias": {"682": False}}  # "Hello"
    _, (answer,) = post(server, "/api/chat", model=model, messages=HELLO, options=never)
    assert "Hello" not in answer["message"]["content"]
