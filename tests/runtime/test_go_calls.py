"""Calls in the forms of families whose Go templates are known: what the template tells, and how an answer is read by it."""

# ruff: noqa: E501 -- a template is easier to read on one line
from __future__ import annotations

import json
import random
from typing import Any

import pytest

from corral.engine.base import Conversation, Message
from corral.parsing import ParsedCall, Splitter
from corral.runtime.answers import splitter
from corral.runtime.gotemplates import GoPrompt
from tests.parsing.test_tools import cut
from tests.server.test_held_answers import tool

TOOLS = [tool("get_weather", city={"type": "string"}), tool("add", a={"type": "integer"})]
TURNS = """{{- range $i, $_ := .Messages }}
{{- if eq .Role "user" }}<|user|>{{ .Content }}{{ if and $.Tools (eq (len (slice $.Messages $i)) 1) }}{{ $.Tools }}{{ end }}<|end|>
{{- else if eq .Role "tool" }}<|result|>{{ .Content }}<|end|>
{{- else if eq .Role "assistant" }}<|assistant|>{{ .Content }}%s<|end|>
{{- end }}
{{- end }}<|assistant|>"""
FAMILIES: dict[str, tuple[str, str]] = {  # how calls are printed, and what a model writes
    "llama3.1": ('{{ if .ToolCalls }}{{ range .ToolCalls }}{"name": "{{ .Function.Name }}", "parameters": {{ .Function.Arguments }}}{{ end }}{{ end }}',
                 '{"name": "get_weather", "parameters": {"city": "Rome"}}'),
    "qwen2.5": ('{{ if .ToolCalls }}<tool_call>\n{{ range .ToolCalls }}{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}\n{{ end }}</tool_call>{{ end }}',
                '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>'),
    "mistral": ('{{ if .ToolCalls }}[TOOL_CALLS] [{{ range .ToolCalls }}{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}{{ end }}]{{ end }}',
                '[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Rome"}}]'),
    "command-r": ('{{ if .ToolCalls }}Action: ```json\n[{{ range .ToolCalls }}{"tool_name": "{{ .Function.Name }}", "parameters": {{ .Function.Arguments }}}{{ end }}]```{{ end }}',
                  'Action: ```json\n[\n    {\n        "tool_name": "get_weather",\n        "parameters": {"city": "Rome"}\n    }\n]```'),
    "deepseek-r1": ('{{ if .ToolCalls }}<｜tool▁calls▁begin｜>{{ range .ToolCalls }}<｜tool▁call▁begin｜>function<｜tool▁sep｜>{{ .Function.Name }}\n```json\n{{ .Function.Arguments }}\n```<｜tool▁call▁end｜>{{ end }}<｜tool▁calls▁end｜>{{ end }}',
                    '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{"city": "Rome"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>'),
    "granite": ('{{ if .ToolCalls }}<|tool_call|>[{{ range .ToolCalls }}{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}{{ end }}]{{ end }}',
                '<|tool_call|>[{"name": "get_weather", "arguments": {"city": "Rome"}}]'),
    "phi4-mini": ('{{ range .ToolCalls }}<|tool_call|>[{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}]<|/tool_call|>{{ end }}',
                  '<|tool_call|>[{"name": "get_weather", "arguments": {"city": "Rome"}}]<|/tool_call|>'),
    "functiongemma": ('{{ range .ToolCalls }}<start_function_call>call:{{ .Function.Name }}{ {{- $n := 0 }}{{ range $k, $v := .Function.Arguments }}{{ if $n }},{{ end }}{{ $n = 1 }}{{ $k }}:{{ if eq (printf "%%T" $v) "string" }}<escape>{{ $v }}<escape>{{ else }}{{ json $v }}{{ end }}{{ end }}}<end_function_call>{{ end }}',
                      "<start_function_call>call:get_weather{city:<escape>Rome<escape>}<end_function_call>"),
    "qwen3-coder": ('{{ range .ToolCalls }}<tool_call>\n<function={{ .Function.Name }}>\n{{ range $k, $v := .Function.Arguments }}<parameter={{ $k }}>\n{{ $v }}\n</parameter>\n{{ end }}</function>\n</tool_call>{{ end }}',
                    "<tool_call>\n<function=get_weather>\n<parameter=city>\nRome\n</parameter>\n</function>\n</tool_call>"),
}  # fmt: skip


async def splitter_of(printed: str) -> Splitter:
    go = GoPrompt.parse((TURNS % printed).replace("%%", "%"))
    conversation = Conversation((Message("user", "Hello"),), tuple(TOOLS))
    marks = await go.marks(await go.prompt(conversation), tools=True)
    assert marks.form is not None
    return splitter(marks, TOOLS, None)


@pytest.mark.anyio
@pytest.mark.parametrize("family", list(FAMILIES))
async def test_a_free_answer_of_a_family_is_read_by_what_its_template_prints(family: str) -> None:
    printed, written = FAMILIES[family]
    chooser = random.Random(2)
    for _ in range(20):
        reader = await splitter_of(printed)
        pieces: list[Any] = [piece for text in cut(written, chooser) for piece in reader.feed(text)] + reader.flush()
        calls = [(piece.name, json.loads(piece.arguments)) for piece in pieces if isinstance(piece, ParsedCall)]
        assert calls == [("get_weather", {"city": "Rome"})]
        assert not [piece for piece in pieces if not isinstance(piece, ParsedCall) and piece[0] == "text"]
