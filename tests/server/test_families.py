"""Answers that are held to something, of models of random weights with the templates of many families: the grammar does it all."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import anthropic
import jsonschema
import openai
import pytest

from corral.store import Store
from tests.conftest import RunningServer, start_server
from tests.families import TEMPLATES, marks, put_family, thinks, thought_marks
from tests.server.test_held_answers import HELLO, post, tool

EACH = pytest.mark.parametrize("family", list(TEMPLATES))
WEATHER = tool(
    "get_weather",
    city={"type": "string", "enum": ["Paris", "Rome"]},
    days={"type": "integer", "minimum": 1, "maximum": 9},
)
GET = tool(
    "get", codes={"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1, "maxItems": 2}, ok={"type": "boolean"}
)
TOOLS = [WEATHER, GET]
SCHEMAS = {t["function"]["name"]: t["function"]["parameters"] for t in TOOLS}
NAMED = {"type": "function", "function": {"name": "get"}}
AGE = {
    "type": "object",
    "properties": {"age": {"type": "integer", "minimum": 1, "maximum": 99}, "ok": {"type": "boolean"}},
    "required": ["age", "ok"],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    home = tmp_path_factory.mktemp("home")
    for name in TEMPLATES:
        put_family(Store(home / "models"), home, name)
    running = start_server(home, home / "models")
    yield running
    running.stop()


def bias(family: str) -> dict[str, Any]:
    """Thoughts would last for ever: no random model writes the one token that ends them."""
    return {str(thought_marks(family)[1]): 7}


def said(server: RunningServer, family: str, **body: Any) -> dict[str, Any]:
    options = {"temperature": 1.5, "top_k": 0, "top_p": 1, "num_predict": 300, "num_ctx": 1024, "seed": 5}
    options |= {"logit_bias": bias(family)}
    status, lines = post(server, "/api/chat", model=family, messages=HELLO, options=options, **body)
    assert status == 200, lines
    assert lines[-1]["done_reason"] == "stop", lines
    message: dict[str, Any] = lines[-1]["message"]
    message["content"] = "".join(line["message"]["content"] for line in lines)
    calls = [call for line in lines for call in line["message"].get("tool_calls", ())]
    return message | {"tool_calls": calls}


def check(name: str, arguments: Any) -> None:
    jsonschema.validate(json.loads(arguments) if isinstance(arguments, str) else arguments, SCHEMAS[name])


@EACH
@pytest.mark.parametrize("stream", [False, True])
def test_what_is_required_is_one_call_of_its_schema_and_nothing_else(
    server: RunningServer, family: str, stream: bool
) -> None:
    for choice in ("required", NAMED):
        message = said(server, family, tools=TOOLS, tool_choice=choice, parallel_tool_calls=False, stream=stream)
        (call,) = message["tool_calls"]
        assert not message["content"]
        assert choice == "required" or call["function"]["name"] == "get"
        check(call["function"]["name"], call["function"]["arguments"])


@EACH
@pytest.mark.parametrize("tools", [None, TOOLS], ids=["", "tools"])
def test_an_answer_that_may_be_anything_is_never_an_error(
    server: RunningServer, family: str, tools: list[dict[str, Any]] | None
) -> None:
    options = {"temperature": 1.5, "num_predict": 40, "num_ctx": 1024, "seed": 5, "logit_bias": bias(family)}
    status, lines = post(server, "/api/chat", model=family, messages=HELLO, tools=tools, options=options, stream=True)
    assert status == 200
    assert lines[-1]["done"], lines[-1]
    assert lines[-1]["eval_count"] > 0


@EACH
def test_an_answer_beside_tools_has_the_format_in_one_generation(server: RunningServer, family: str) -> None:
    for body in ({}, {"tools": TOOLS, "parallel_tool_calls": False}):
        message = said(server, family, format=AGE, **body)
        for call in message["tool_calls"]:
            check(call["function"]["name"], call["function"]["arguments"])
        if not message["tool_calls"]:
            jsonschema.validate(json.loads(message["content"]), AGE)
        message = said(server, family, regex="(yes|no) [0-9]{2}", **body)
        assert message["tool_calls"] or re.fullmatch("(yes|no) [0-9]{2}", message["content"])


@pytest.mark.parametrize("family", [name for name in TEMPLATES if thinks(name)])
def test_a_thought_goes_to_the_thinking_and_what_is_held_behind_it(server: RunningServer, family: str) -> None:
    likely = {str(token): 9 for token in thought_marks(family)}
    thoughts = []
    for seed in range(4):
        options = {"temperature": 1.5, "num_predict": 300, "num_ctx": 1024, "seed": seed, "logit_bias": likely}
        body = {"model": family, "messages": HELLO, "options": options, "tools": TOOLS}
        status, lines = post(server, "/api/chat", **body, format=AGE, parallel_tool_calls=False, stream=True)
        assert status == 200
        assert lines[-1]["done_reason"] == "stop"
        content = "".join(line["message"]["content"] for line in lines)
        calls = [call for line in lines for call in line["message"].get("tool_calls", ())]
        if content:
            jsonschema.validate(json.loads(content), AGE)
        assert bool(content) != bool(calls)
        thoughts.append("".join(line["message"].get("thinking", "") for line in lines))
    assert any(thoughts)


@pytest.mark.parametrize("family", ["command-r", "gpt-oss", "qwen3-coder"])
def test_an_answer_that_was_begun_goes_on_in_the_format(server: RunningServer, family: str) -> None:
    begun = [*HELLO, {"role": "assistant", "content": "Here it is: "}]
    options = {"temperature": 1.5, "num_predict": 100, "num_ctx": 1024, "seed": 2}
    status, (answer,) = post(server, "/api/chat", model=family, messages=begun, format=AGE, options=options)
    assert status == 200
    jsonschema.validate(json.loads(answer["message"]["content"]), AGE)


@EACH
def test_no_call_and_no_mark_of_one_comes_where_none_is_to_be(server: RunningServer, family: str) -> None:
    options = {"temperature": 1.5, "num_predict": 60, "num_ctx": 1024, "seed": 5, "logit_bias": bias(family)}
    body = {"model": family, "messages": HELLO, "tools": TOOLS, "tool_choice": "none", "options": options}
    status, (answer,) = post(server, "/api/chat", **body)
    assert status == 200
    assert "tool_calls" not in answer["message"]
    of_calls = [mark for mark in marks(family) if re.search("tool|call|action", mark, re.IGNORECASE)]
    assert not any(mark in answer["message"]["content"] for mark in of_calls)


@EACH
def test_every_api_gives_the_call_that_was_named(server: RunningServer, family: str) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60) as client:
        ask: dict[str, Any] = {"model": family, "messages": HELLO, "tools": TOOLS, "tool_choice": NAMED, "seed": 5}
        ask |= {"logit_bias": bias(family), "max_completion_tokens": 300}
        choice = client.chat.completions.create(**ask).choices[0]
        assert (choice.finish_reason, choice.message.content or "") == ("tool_calls", "")
        (call,) = choice.message.tool_calls or ()
        assert call.function.name == "get"
        check("get", call.function.arguments)
        chunks = [c.choices[0] for c in client.chat.completions.create(**ask, stream=True) if c.choices]
        parts = [call.function for chunk in chunks for call in chunk.delta.tool_calls or ()]
        check("get", "".join(part.arguments or "" for part in parts))
        assert [chunk.finish_reason for chunk in chunks if chunk.finish_reason] == ["tool_calls"]
        assert not "".join(chunk.delta.content or "" for chunk in chunks)
        if thinks(family):
            return  # the other two have no way to end a random thought
        flat = [{"type": "function"} | t["function"] for t in TOOLS]
        answer = client.responses.create(
            model=family,
            input="Hello",
            tools=flat,
            tool_choice={"type": "function", "name": "get"},
            max_output_tokens=300,
        )
        check("get", next(item.arguments for item in answer.output if item.type == "function_call"))
        assert not answer.output_text
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=60) as other:
        tools = [{"name": t["function"]["name"], "input_schema": t["function"]["parameters"]} for t in TOOLS]
        message = other.messages.create(
            model=family, max_tokens=300, messages=HELLO, tools=tools, tool_choice={"type": "tool", "name": "get"}
        )
        assert message.stop_reason == "tool_use"
        (block,) = [block for block in message.content if block.type != "thinking"]
        assert block.type == "tool_use"
        check("get", block.input)
