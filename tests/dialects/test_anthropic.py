"""What Anthropic's requests mean, and which are refused."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest

from corral.dialects.anthropic.requests import Messages
from corral.engine.base import Message, NamedTool, OutputFormat, ToolCall
from corral.errors import InvalidRequest

HELLO = {"role": "user", "content": "Hello"}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Paris"}}
PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": b64encode(b"png").decode()}}
TOOL = {"name": "get_weather", "description": "Weather", "input_schema": {"type": "object", "properties": {}}}


def decode(*turns: Any, fetched: dict[str, bytes] | None = None, **fields: Any) -> Messages:
    body = {"model": "tiny", "max_tokens": 9, "messages": list(turns) or [HELLO], **fields}
    return Messages.decode(body, fetched or {})


def content(*blocks: Any, role: str = "user", **rest: Any) -> tuple[Message, ...]:
    return decode({"role": role, "content": list(blocks)}, **rest).messages


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def test_results_of_tools_come_before_what_the_user_says_with_them() -> None:
    results = [
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": [text("18 "), text("degrees"), PNG]},
        {"type": "tool_result", "tool_use_id": "toolu_2", "content": "no such city", "is_error": True},
    ]
    other = CALL | {"id": "toolu_2", "name": "search"}
    asked = decode(
        HELLO,
        {"role": "assistant", "content": [text("Wait."), CALL, other]},
        {"role": "user", "content": [text("And now?"), *results]},
    )
    call = ToolCall("get_weather", '{"city":"Paris"}', "toolu_1")
    assert asked.messages == (
        Message("user", "Hello"),
        Message("assistant", "Wait.", tool_calls=(call, ToolCall("search", '{"city":"Paris"}', "toolu_2"))),
        Message("tool", "18 degrees", images=(b"png",), tool_name="get_weather", tool_call_id="toolu_1"),
        Message("tool", "Error: no such city", tool_name="search", tool_call_id="toolu_2"),
        Message("user", "And now?"),
    )


def test_a_search_of_another_provider_is_a_call_and_its_result() -> None:
    found = [{"type": "web_search_result", "title": "Paris", "url": "https://example.org", "encrypted_content": "…"}]
    search = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "Paris"}}
    result = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": found}
    failed = result | {"content": {"type": "web_search_tool_result_error", "error_code": "unavailable"}}
    said = content(text("Let me look."), search, result, text("It is a city."), role="assistant")
    assert [message.role for message in said] == ["assistant", "tool", "assistant"]
    assert said[1].content == "- Paris: https://example.org"
    assert content(search, failed, role="assistant")[1].content == "web_search_tool_result_error: unavailable"


def test_documents_and_search_results_are_text() -> None:
    plain = {"type": "base64", "media_type": "text/plain", "data": b64encode("Größe".encode()).decode()}
    blocks = {"type": "content", "content": [text("one "), text("two")]}
    (message,) = content(
        {"type": "document", "title": "Sizes", "context": "Of trees", "source": plain},
        {"type": "document", "source": blocks},
        {"type": "search_result", "title": "Trees", "source": "https://example.org", "content": [text("They grow.")]},
        text("Hello"),
    )
    assert message.content == (
        "<document>\n<title>Sizes</title>\n<context>Of trees</context>\nGröße\n</document>\n"
        "<document>\none two\n</document>\n"
        "<search_result>\n<title>Trees</title>\n<source>https://example.org</source>\nThey grow.\n</search_result>\n"
        "Hello"
    )


def test_images_come_as_data_or_as_links_that_were_fetched() -> None:
    link = {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}
    (message,) = content(text("Hello"), PNG, link, fetched={"https://example.org/a.png": b"other"})
    assert message.images == (b"png", b"other")
    with pytest.raises(InvalidRequest, match="fetches images only if"):
        content(link)


def test_a_system_message_has_one_place() -> None:
    system = [text("You are "), {**text("Ada."), "cache_control": {"type": "ephemeral"}}]
    asked = decode({"role": "system", "content": "Be brief."}, HELLO, system=system)
    assert asked.messages == (Message("system", "You are Ada.\n\nBe brief."), Message("user", "Hello"))


def test_the_attribution_of_a_client_is_dropped_and_nothing_else_is() -> None:
    line = text("x-anthropic-billing-header: cc_version=1; cch=a;")
    assert decode(HELLO, system=[line, text("You are Ada.")]).messages[0] == Message("system", "You are Ada.")
    assert decode(HELLO, system=[line]).messages == (Message("user", "Hello"),)
    quoted = "What is x-anthropic-billing-header: good for?"
    assert decode(HELLO, system=quoted).messages[0].content == quoted


@pytest.mark.parametrize(
    ("thinking", "config", "think"),
    [
        (None, None, None),
        ({"type": "enabled", "budget_tokens": 1024}, None, True),
        ({"type": "enabled"}, {"effort": "low"}, "low"),
        ({"type": "adaptive"}, None, None),
        ({"type": "adaptive"}, {"effort": "xhigh"}, "high"),
        (None, {"effort": "max"}, "max"),
        ({"type": "disabled"}, {"effort": "high"}, False),
    ],
)
def test_how_hard_to_think(thinking: Any, config: Any, think: Any) -> None:
    assert decode(HELLO, thinking=thinking, output_config=config).think == think


@pytest.mark.parametrize("fields", [{"output_config": {"format": "F"}}, {"output_format": "F"}])
def test_a_schema_is_found_in_both_places(fields: dict[str, Any]) -> None:
    form = {"type": "json_schema", "schema": {"type": "object"}}
    given = json.loads(json.dumps(fields).replace('"F"', json.dumps(form)))
    assert decode(HELLO, **given).output == OutputFormat({"type": "object"})


@pytest.mark.parametrize(
    ("choice", "expected", "parallel"),
    [
        ({"type": "auto"}, "auto", True),
        ({"type": "any", "disable_parallel_tool_use": True}, "required", False),
        ({"type": "tool", "name": "get_weather"}, NamedTool("get_weather"), True),
        ({"type": "none"}, "none", True),
    ],
)
def test_which_tool_is_called(choice: Any, expected: Any, parallel: bool) -> None:
    tools = decode(HELLO, tools=[TOOL], tool_choice=choice).tools
    assert (tools.choice, tools.parallel) == (expected, parallel)
    function = {"name": "get_weather", "description": "Weather", "parameters": TOOL["input_schema"]}
    assert tools.listed == ({"type": "function", "function": function},)


def test_tools_that_the_client_carries_out_have_parameters_and_a_search_for_tools_is_needless() -> None:
    given = [
        {"type": "bash_20250124", "name": "bash"},
        {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
        {"type": "tool_search_tool_regex_20251119", "name": "tool_search_tool_regex"},
        {**TOOL, "defer_loading": True},
    ]
    asked = decode(HELLO, tools=given)
    functions: list[Any] = [tool["function"] for tool in asked.tools.listed]
    assert [f["name"] for f in functions] == ["bash", "str_replace_based_edit_tool", "get_weather"]
    assert "command" in functions[0]["parameters"]["properties"]
    assert asked.ignored == ("tool_search_tool_regex_20251119",)


def test_what_means_nothing_here_is_named() -> None:
    asked = decode(HELLO, context_management={"edits": []}, metadata={"user_id": "x"}, service_tier="auto")
    assert asked.ignored == ("context_management",)
    asked = decode(HELLO, fallbacks="default", speed="fast", nonsense=None, output_config={"effort": "endless"})
    assert asked.ignored == ("fallbacks", "speed", "output_config.effort")
    assert decode(HELLO, output_config={"effort": "XHigh "}).ignored == ()


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"model": ""}, "model is required"),
        ({"max_tokens": None}, "max_tokens is required"),
        ({"max_tokens": 0}, "max_tokens is required and must be positive"),
        ({"max_tokens": "9"}, r"cannot unmarshal string into .*\.max_tokens of type int"),
        ({"messages": []}, "messages is required"),
        ({"messages": "Hello"}, r"MessagesRequest\.messages"),
        ({"messages": ["Hello"]}, r"messages\.0: expected an object"),
        ({"messages": [HELLO, {"role": "user"}]}, r"messages\.1\.content is required"),
        ({"messages": [{"role": "user", "content": []}]}, r"messages\.0\.content is required"),
        ({"messages": [{"role": "user", "content": 7}]}, r"of type \[\]anthropic\.ContentBlock"),
        ({"messages": [{"role": "user", "content": ["Hello"]}]}, r"of type anthropic\.ContentBlock"),
        ({"messages": [{"role": "tool", "content": "x"}]}, r'messages\.0\.role: "tool"'),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, r"messages\.0\.content\.0\.text"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, r'messages\.0\.content\.0\.type.*"video"'),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "invalid image source"),
        ({"system": 7}, "system: expected"),
        ({"system": [PNG]}, r'system\.0\.type: "image"'),
        ({"stop_sequences": "7"}, r"stop_sequences of type \[\]string"),
        ({"stop_sequences": [""]}, r"stop_sequences\.0"),
        ({"thinking": {"type": "often"}}, r'thinking\.type: "often"'),
        ({"thinking": True}, r"MessagesRequest\.thinking"),
        ({"output_config": {"format": {"type": "xml"}}}, r"output_config\.format"),
        ({"output_format": {"type": "json_schema"}}, r"output_format\.schema"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, r"web_search_20250305.*Anthropic's servers"),
        ({"tools": [{"type": "browser_toolset_20260801"}]}, r"tools\.0: browser_toolset_20260801 needs Anthropic's servers"),
        ({"tools": [{"type": "mcp_toolset", "mcp_server_name": "x"}]}, r"tools\.0: mcp_toolset needs"),
        ({"tools": [{"input_schema": {}}]}, r"tools\.0\.name is required"),
        ({"tools": [{"name": "f", "input_schema": "x"}]}, 'invalid input_schema for tool "f"'),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "g"}}, r'tool_choice\.name: "g"'),
        ({"tool_choice": {"type": "any"}}, r"tool_choice\.type: any needs tools"),
        ({"tools": [TOOL], "tool_choice": {"type": "often"}}, r'tool_choice\.type: "often"'),
        ({"mcp_servers": [{"type": "url", "name": "x"}]}, "mcp_servers is not supported"),
        ({"container": "c"}, "container is not supported"),
        ({"compaction": {"type": "summarize"}}, "compaction is not supported"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        decode(**fields)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ({"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}, "PDF documents are not supported"),
        ({"type": "url", "url": "https://example.org/a.pdf"}, "PDF documents are not supported"),
        ({"type": "file", "file_id": "file_1"}, "documents of the type file are not supported"),
        (None, r"messages\.0\.content\.0\.source is required"),
        ({"type": "content", "content": [{"type": "document"}]}, r'a block of the type "document" cannot stand here'),
    ],
)
def test_documents_that_cannot_be_read_are_refused_by_name(source: Any, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        content({"type": "document", "source": source})
