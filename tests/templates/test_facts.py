"""What is read from templates: capabilities, tags around thoughts, the tag of calls, and which template is used."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral.templates.choice import JinjaFacts, Templates, choose, jinja_facts, prefers
from corral.templates.facts import TemplateFacts, facts
from corral.templates.template import Template
from tests.templates.styles import STYLES

RECIPE = Path(__file__).parents[2] / "recipes" / "tiny"
MESSAGES = "{{ range .Messages }}%s{{ end }}"


def of(text: str) -> TemplateFacts:
    return facts(Template.parse(text))


def calls(text: str) -> str:
    return of(MESSAGES % text).tool_tag


def thoughts(text: str) -> tuple[str, str] | None:
    return of(MESSAGES % text).thinking_tags


@pytest.mark.parametrize(
    ("style", "capabilities"),
    [
        ("llama3", {"tools"}),
        ("mistral", {"tools"}),
        ("qwen", {"tools", "thinking"}),
        ("channels", {"tools", "thinking"}),
        ("chatml", set()),
        ("gemma", set()),
        ("fill_in", {"insert"}),
    ],
)
def test_capabilities_are_what_a_template_uses(style: str, capabilities: set[str]) -> None:
    found = of(STYLES[style])
    assert {name for name in ("tools", "thinking", "insert") if getattr(found, name)} == capabilities


def test_names_are_found_wherever_they_stand() -> None:
    defined = '{{define "x"}}{{if (eq (len .Suffix) 1)}}{{end}}{{end}}'
    found = of(defined + '{{with $y := $.Tools}}{{template "x" (index .Messages 0).Role}}{{end}}')
    assert (found.insert, found.tools, found.messages, found.response) == (True, True, True, False)


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        (
            '{{ if .ToolCalls }}<tool_call>\n{{ range .ToolCalls }}{"name": "{{ .Function.Name }}"}{{ end }}{{ end }}',
            "<tool_call>",
        ),
        ('{{ if .ToolCalls }}[TOOL_CALLS] [{{ range .ToolCalls }}{"name": 1}{{ end }}]{{ end }}', "[TOOL_CALLS] ["),
        ('{{ if .Content }}x{{ else if .ToolCalls }}{{ range .ToolCalls }}{"name": 1}{{ end }}{{ end }}', "{"),
        ("{{ with .ToolCalls }}Action: {{ end }}", "Action:"),
        ("{{ if and .ToolCalls (not .Content) }}<call>{{ end }}", "<call>"),
        ("{{ .Content }}", "{"),
        # what Ollama's search misses
        ('{{ range .ToolCalls }}<tool_call>{"name": 1}</tool_call>{{ end }}', "<tool_call>"),
        ('{{ range $i, $c := .ToolCalls }}{{ if $i }}, {{ end }}<tool_call>{"name": 1}{{ end }}', "<tool_call>"),
        ("{{ if .ToolCalls }}\n{{ range .ToolCalls }}\n<tool_call>{{ end }}{{ end }}", "<tool_call>"),
        (
            "{{ if or .Content .ToolCalls }}<|assistant|>{{ end }}{{ range .ToolCalls }}<tool_call>{{ end }}",
            "<tool_call>",
        ),
        ("{{ range $m := $.Messages }}{{ if $m.ToolCalls }}<c>{{ end }}{{ end }}", "<c>"),
    ],
)
def test_the_tag_of_calls_is_the_first_text_where_they_are_printed(text: str, tag: str) -> None:
    assert calls(text) == tag


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("{{ if .Thinking }}<think>\n{{ .Thinking }}\n</think>\n\n{{ end }}", ("<think>", "</think>")),
        ("{{ if .Thinking }}Thought: {{ .Thinking }} So it is.{{ end }}", ("Thought:", "So it is.")),
        ("{{ with .Thinking }}<t>{{ . }}</t>{{ end }}", None),
        ("{{ .Thinking }}", None),
        ("<think>{{ .Thinking }}", None),
        ("{{ .Content }}", None),
        # what Ollama's search misses
        ("<|im_start|>a b\n<think>{{ .Thinking }}</think>{{ .Content }}<|im_end|> \n", ("<think>", "</think>")),
        ("{{ .Role }}<think>\n{{ .Thinking }}\n</think>\n{{ .Content }}", ("<think>", "</think>")),
    ],
)
def test_tags_around_thoughts_are_what_the_template_prints_around_them(text: str, tags: tuple[str, str] | None) -> None:
    assert thoughts(text) == tags


def test_thoughts_of_named_messages_are_found() -> None:
    assert of("{{ range $m := .Messages }}<t>{{ $m.Thinking }}</t>{{ end }}").thinking_tags == ("<t>", "</t>")


def test_thoughts_outside_of_the_messages_are_not_looked_at() -> None:
    assert of("<t>{{ .Thinking }}</t>{{ range .Tools }}<t>{{ .Thinking }}</t>{{ end }}").thinking_tags is None


def test_facts_of_deeply_nested_templates_are_found() -> None:
    deep = 5000
    found = of(
        "{{ range .Messages }}" + "{{ if .Content }}" * deep + "<c>{{ .Thinking }}</c>" + "{{ end }}" * (deep + 1)
    )
    assert found.messages


def test_the_tiny_models_template_tells_all() -> None:
    found = of((RECIPE / "template.gotmpl").read_text(encoding="utf-8"))
    assert found.tool_tag == "<tool_call>"
    assert found.thinking_tags == ("<think>", "</think>")
    assert found.tools
    assert found.round_trip
    assert jinja_facts((RECIPE / "chat_template.jinja").read_text(encoding="utf-8")) == JinjaFacts(True, True, True)


PLAIN = of("{{ .System }} {{ .Prompt }}")
TOOLS = of("{{ .Tools }}{{ range .Messages }}{{ end }}")
INSERT = of("{{ .Prompt }}{{ .Suffix }}")
ROUND = of('{{ .Tools }}{{ range .Messages }}{{ .ToolCalls }}{{ if eq .Role "tool" }}{{ end }}{{ end }}')
NOTHING = JinjaFacts(False, False, False)
JUST_TOOLS = JinjaFacts(True, False, False)
TOOLS_ROUND = JinjaFacts(True, False, True)
ALL = JinjaFacts(True, True, True)


@pytest.mark.parametrize(
    ("go", "jinja", "used"),
    [
        (None, None, "jinja"),
        (None, ALL, "jinja"),
        (PLAIN, None, "go"),
        (PLAIN, NOTHING, "go"),
        (PLAIN, JUST_TOOLS, "jinja"),
        (TOOLS, JUST_TOOLS, "go"),
        (TOOLS, TOOLS_ROUND, "jinja"),
        (ROUND, TOOLS_ROUND, "go"),
        (ROUND, JUST_TOOLS, "go"),
        (TOOLS, ALL, "jinja"),
        (ROUND, ALL, "jinja"),
        (ROUND, JinjaFacts(True, True, False), "go"),
        (INSERT, JUST_TOOLS, "go"),
        (INSERT, ALL, "jinja"),
        (TOOLS, JinjaFacts(False, True, False), "go"),
    ],
)
def test_the_template_that_offers_more_is_used(go: TemplateFacts | None, jinja: JinjaFacts | None, used: str) -> None:
    assert prefers(go, jinja) == used


def test_what_a_user_writes_is_used() -> None:
    assert prefers(PLAIN, ALL) == "jinja"
    assert prefers(PLAIN, ALL, own=True) == "go"


def test_a_setting_decides_before_any_heuristic() -> None:
    assert prefers(PLAIN, ALL, wanted=True) == "go"
    assert prefers(ROUND, NOTHING, own=True, wanted=False) == "jinja"
    assert prefers(None, ALL, wanted=True) == "jinja"


def test_a_choice_says_why() -> None:
    assert choose(Templates(PLAIN, ALL, own=True)).reason == "its user wrote the template"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{% for m in messages %}{{ m.content }}{% endfor %}", NOTHING),
        ("{{ content.split('</think>')[-1] }}", JinjaFacts(False, True, False)),
        ("{{ content.split('</think>')[-1] }}{{ reasoning_content }}", NOTHING),
        ("{{ message.tool_calls }}{% if message['role'] == 'tool' %}", TOOLS_ROUND),
        ('{{ message.tool_calls }}{% if message.role == "tool" %}', TOOLS_ROUND),
        ("{{ tool_calls }}<|start_header_id|>ipython", TOOLS_ROUND),
        ("{{ tools }}", JUST_TOOLS),
    ],
)
def test_jinja_templates_tell_what_they_offer(text: str, found: JinjaFacts) -> None:
    assert jinja_facts(text) == found
