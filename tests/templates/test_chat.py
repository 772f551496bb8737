"""Conversations rendered with Ollama's templates, in each of the three ways, against what Ollama itself rendered."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

from corral.engine.base import Conversation, Message, ToolCall
from corral.errors import TemplateError
from corral.templates.chat import ChatTemplate
from tests.templates.styles import STYLES

TINY = (
    (Path(__file__).parents[2] / "recipes" / "tiny" / "template.gotmpl").read_text(encoding="utf-8").removesuffix("\n")
)
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather for a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
TOOLS_SHOWN = (
    "<|im_start|>system\nTools:\n"
    '{"type":"function","function":{"name":"get_weather","description":"Get the current weather for a city",'
    '"parameters":{"type":"object","required":["city"],"properties":{"city":{"type":"string"}}}}}\n'
    'To use one, write <tool_call>{"name": ..., "arguments": ...}</tool_call><|im_end|>\n'
)


def user(content: str, *images: bytes) -> Message:
    return Message("user", content, images=images)


def said(content: str, thinking: str = "") -> Message:
    return Message("assistant", content, thinking)


def called(*calls: tuple[str, str]) -> Message:
    return Message("assistant", tool_calls=tuple(ToolCall(name, arguments) for name, arguments in calls))


def render(template: str, *messages: Message, tools: Any = (), **more: Any) -> str:
    conversation = Conversation(tuple(messages), tools=tuple(tools), **more)
    return ChatTemplate.parse(template).chat(conversation, today=datetime.date(2026, 11, 25)).prompt


RECORDED: list[tuple[str, list[Message], dict[str, Any], str]] = [
    (
        "one question",
        [user("Hello")],
        {"thinking": True},
        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n<think>\n",
    ),
    (
        "neighbours of one role",
        [user("a"), said("b"), said("c", "T"), user("d")],
        {"thinking": True},
        (
            "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb\n\nc<|im_end|>\n"
            "<|im_start|>user\nd<|im_end|>\n<|im_start|>assistant\n<think>\n"
        ),
    ),
    (
        "an answer to go on with",
        [user("Hello"), said("Hello! How")],
        {"thinking": True},
        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\nHello! How",
    ),
    (
        "nothing asked",
        [user("")],
        {"thinking": True},
        "<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n<think>\n",
    ),
    (
        "a system message alone",
        [Message("system", "S")],
        {"thinking": True},
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>assistant\n<think>\n",
    ),
    (
        "an image",
        [user("Hello", b"png")],
        {"thinking": True},
        "<|im_start|>user\n[img-0]Hello<|im_end|>\n<|im_start|>assistant\n<think>\n",
    ),
    (
        "a call and its result",
        [user("a"), called(("get_weather", '{"a": 1, "b": "x"}')), Message("tool", "21", tool_name="get_weather")],
        {"thinking": True, "tools": [WEATHER]},
        (
            TOOLS_SHOWN + "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"
            '<tool_call>\n{"name": "get_weather", "arguments": {"a":1,"b":"x"}}\n</tool_call><|im_end|>\n'
            "<|im_start|>user\n<tool_response>\n21\n</tool_response><|im_end|>\n<|im_start|>assistant\n<think>\n"
        ),
    ),
]


@pytest.mark.parametrize(
    ("messages", "more", "prompt"), [case[1:] for case in RECORDED], ids=[case[0] for case in RECORDED]
)
def test_a_prompt_is_what_ollama_rendered(messages: list[Message], more: dict[str, Any], prompt: str) -> None:
    assert render(TINY, *messages, **more) == prompt


def test_a_template_of_one_message_after_another_is_what_ollama_rendered() -> None:
    template = (
        "{{ range .Messages }}<|im_start|>{{ .Role }}\nMY {{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
    )
    assert render(template, user("Hello")) == "<|im_start|>user\nMY Hello<|im_end|>\n<|im_start|>assistant\n"


def test_a_wrong_field_of_a_message_is_ollamas_error() -> None:
    with pytest.raises(TemplateError) as refused:
        render("{{ .Nope }}x{{ range .Messages }}{{ .Nope }}{{ end }}", user("Hello"))
    assert str(refused.value) == (
        'template: :1:36: executing "" at <.Nope>: can\'t evaluate field Nope in type *template.templateMessage'
    )


def test_arguments_of_past_calls_are_shown_in_the_order_and_characters_they_were_sent() -> None:
    template = (
        "{{ range .Messages }}{{ range .ToolCalls }}{{ .Function.Arguments }} {{ json .Function.Arguments }}"
        "{{ range $key, $value := .Function.Arguments }} {{ $key }}={{ $value }}{{ end }}{{ end }}{{ end }}"
    )
    sent = '{"z": 1, "a": "<b> \\u003c \\n é", "n": {"y": 2.50, "x": [1e3]}}'
    shown = '{"z":1,"a":"<b> < \\n é","n":{"y":2.50,"x":[1e3]}}'
    prompt = render(template, called(("f", sent)))
    assert prompt == f"{shown} {shown} z=1 a=<b> < \n é n=map[x:[1000] y:2.5]"


def test_numbers_of_arguments_are_floats_as_in_ollama() -> None:
    template = "{{ range .Messages }}{{ range .ToolCalls }}{{ printf `%T` .Function.Arguments.n }}{{ end }}{{ end }}"
    assert render(template, called(("f", '{"n": 1}'))) == "float64"


@pytest.mark.parametrize("arguments", ["", "[1]", "{", '"text"', "null", "[" * 100_000])
def test_arguments_that_are_no_object_break_nothing(arguments: str) -> None:
    template = "{{ range .Messages }}{{ range .ToolCalls }}{{ .Function.Arguments }}|{{ .Function.Arguments.x }}{{ end }}{{ end }}"
    assert render(template, called(("f", arguments))) == f"{arguments or '{}'}|<no value>"


def test_tools_are_shown_with_the_keys_that_ollama_knows_in_its_order() -> None:
    tool = {
        "function": {
            "strict": True,
            "parameters": {
                "additionalProperties": False,
                "properties": {
                    "b": {"enum": ["<x>", 1, None], "description": "d & e", "type": ["string", "null"], "default": 1},
                    "a": {"anyOf": [{"type": "integer"}, {"type": ["array"]}], "items": {"z": 1, "a": 2}},
                    "c": {"type": "object", "properties": {"z": {"type": "number"}, "y": {}}, "required": ["z"]},
                },
                "required": ["a"],
                "$defs": {"k": 1},
                "type": "object",
            },
            "name": "f",
        },
        "type": "function",
    }
    assert render("{{ range .Messages }}{{ end }}{{ .Tools }}", user("x"), tools=[tool]) == (
        '[{"type":"function","function":{"name":"f","description":"","parameters":{"type":"object","$defs":{"k":1},"required":["a"],"properties":{'
        '"a":{"anyOf":[{"type":"integer"},{"type":"array"}],"items":{"a":2,"z":1}},'
        '"b":{"type":["string","null"],"description":"d \\u0026 e","enum":["\\u003cx\\u003e",1,null]},'
        '"c":{"type":"object","properties":{"z":{"type":"number"},"y":{}},"required":["z"]}}}}}]'
    )


def test_tools_that_lack_everything_are_shown_too() -> None:
    shown = '{"type":"","function":{"name":"","description":"","parameters":{"type":"","properties":null}}}'
    assert (
        render("{{ range .Tools }}{{ . }}{{ end }}{{ .Messages }}", tools=[{}, {"function": 1}]) == f"{shown}{shown}[]"
    )


@pytest.mark.parametrize("key", ["items", "properties"])
def test_a_tool_that_nests_without_end_is_refused(key: str) -> None:
    nested: dict[str, Any] = {}
    for _ in range(5000):
        nested = {key: {"properties": nested} if key == "properties" else nested}
    tool = {"function": {"parameters": {"properties": {"p": nested}}}}
    with pytest.raises(TemplateError, match="nested"):
        render("{{ .Tools }}{{ .Messages }}", tools=[tool])


def test_types_of_properties_become_typescript() -> None:
    kinds = {
        "a": {"type": "string"},
        "b": {"type": ["integer", "null"]},
        "c": {"anyOf": [{"type": "array"}, {"type": "object"}]},
        "d": {},
        "e": {"type": "date"},
    }
    tool = {"function": {"parameters": {"properties": kinds}}}
    template = (
        "{{ range .Tools }}{{ range $name, $it := .Function.Parameters.Properties }}"
        "{{ $name }} {{ toTypeScriptType $it }} ({{ $it.Type }})\n{{ end }}{{ end }}{{ range .Messages }}{{ end }}"
    )
    assert render(template, user("x"), tools=[tool]) == (
        "a string (string)\nb number | null ([integer null])\nc any[] | Record<string, any> ()\nd any ()\ne any (date)\n"
    )


def test_old_templates_are_run_for_each_question_and_end_where_the_model_goes_on() -> None:
    messages = [Message("system", "S"), user("one"), said("1"), user("two")]
    assert render(STYLES["chatml"], *messages) == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\none<|im_end|>\n<|im_start|>assistant\n1<|im_end|>\n"
        "<|im_start|>user\ntwo<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_system_message_in_the_middle_opens_a_round() -> None:
    messages = [user("one"), Message("system", "S"), user("two")]
    assert render("[{{ .System }}|{{ .Prompt }}|{{ .Response }}]", *messages) == "[|one|][S|two|"


def test_an_old_template_goes_on_with_a_begun_answer() -> None:
    assert render(STYLES["phi3"], user("Hi"), said("Well")) == "<|user|>\nHi<|end|>\n<|assistant|>\nWell"


def test_a_template_without_messages_and_response_gets_the_response() -> None:
    template = ChatTemplate.parse(STYLES["plain"])
    assert "response" in template.variables
    assert render(STYLES["plain"], user("a"), said("b"), user("c")) == " ab c"


def test_what_follows_the_response_in_a_branch_is_cut_too() -> None:
    template = "{{ if .Prompt }}Q {{ .Prompt }} A {{ .Response }}!{{ else }}none {{ .Response }}!{{ end }} end"
    assert render(template, user("a"), said("b"), user("c")) == "Q a A b! endQ c A "


def test_the_middle_is_filled_in() -> None:
    template = ChatTemplate.parse(STYLES["fill_in"])
    assert template.fill("def f(", "return x") == "<PRE> def f( <SUF>return x <MID>"


def test_images_are_numbered_over_all_messages_and_go_where_they_are_named() -> None:
    conversation = Conversation((user("see", b"0", b"1"), said("ok"), user("[img] and [img]", b"2", b"3", b"4")))
    rendered = ChatTemplate.parse("{{ range .Messages }}{{ .Content }}|{{ end }}").chat(conversation)
    assert rendered.prompt == "[img-0][img-1]see|ok|[img-4][img-2] and [img-3]|"
    assert rendered.images == (b"0", b"1", b"2", b"3", b"4")


def test_merging_messages_loses_neither_calls_nor_images() -> None:
    template = (
        "{{ range .Messages }}{{ .Content }}{{ range .ToolCalls }}<{{ .Function.Index }}{{ .Function.Name }}>{{ end }}"
        "{{ len .Images }};{{ end }}"
    )
    prompt = render(template, user("a", b"0"), user("b", b"1"), said("c"), called(("f", "{}")), called(("g", "{}")))
    assert prompt == "[img-0]a\n\n[img-1]b2;c\n\n\n\n<0f><1g>0;"


def test_results_of_tools_are_not_merged() -> None:
    template = "{{ range .Messages }}{{ .ToolName }}:{{ .Content }}:{{ .ToolCallID }};{{ end }}"
    results = [Message("tool", str(number), tool_name="f", tool_call_id=f"id{number}") for number in range(2)]
    assert render(template, *results) == "f:0:id0;f:1:id1;"


def test_system_messages_are_gathered_and_stay() -> None:
    template = "{{ .System }}|{{ range .Messages }}{{ .Role }}:{{ .Content }};{{ end }}"
    messages = [Message("system", "A"), Message("developer", "B"), user("x"), Message("system", "C")]
    assert render(template, *messages) == "A\n\nB\n\nC|system:A\n\nB;user:x;system:C;"


@pytest.mark.parametrize(
    ("more", "shown"),
    [
        ({}, "false [] false"),
        ({"thinking": True}, "true [] true"),
        ({"thinking": False}, "false [] true"),
        ({"thinking": True, "effort": "high"}, "true [high] true"),
    ],
)
def test_templates_see_whether_and_how_to_think(more: dict[str, Any], shown: str) -> None:
    asked = "{{ .Think }} [{{ .ThinkLevel }}] {{ .IsThinkSet }}"
    assert render(asked + "{{ range .Messages }}{{ end }}", **more) == shown
    assert render(asked + "{{ .Response }}", user("x"), **more) == shown


def test_dates_are_the_day_that_is_given() -> None:
    assert render("{{ currentDate }} {{ yesterdayDate }}{{ .Response }}") == "2026-11-25 2026-11-24"


@pytest.mark.parametrize("style", STYLES)
def test_every_style_renders_a_conversation_with_all_there_is(style: str) -> None:
    messages = [Message("system", "Sys"), user("ask me", b"png"), called(("get_weather", '{"city":"Köln"}'))]
    messages += [Message("tool", "21", tool_name="get_weather"), said("It is 21.", "so"), user("and now?")]
    prompt = render(STYLES[style], *messages, tools=[WEATHER], thinking=True)
    assert "and now?" in prompt
    if "Messages" in STYLES[style]:
        assert prompt.index("ask me") < prompt.index("and now?")


def test_a_long_conversation_is_rendered() -> None:
    messages = [user(f"question {number}") if number % 2 else said(f"answer {number}") for number in range(5001)]
    assert render(TINY, *messages).count("<|im_end|>") == 5000


def test_a_nested_template_is_refused_and_not_a_crash() -> None:
    deep = 5000
    with pytest.raises(TemplateError, match="too deep"):
        ChatTemplate.parse("{{ if .Prompt }}" * deep + "{{ .Response }}" + "{{ end }}" * deep)


@pytest.mark.parametrize("text", ["{{ .Prompt", "{{ nope }}"])
def test_a_broken_template_is_refused_with_gos_message(text: str) -> None:
    with pytest.raises(TemplateError, match=r"^template: :1: "):
        ChatTemplate.parse(text)
