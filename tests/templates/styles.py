"""Chat templates in the manners of well-known model families, and conversations to render with them."""

# ruff: noqa: E501 - a template is not broken to fit a line

from __future__ import annotations

from typing import Any

STYLES = {
    "llama2": """[INST] {{ if .System }}<<SYS>>
{{ .System }}
<</SYS>>

{{ end }}{{ .Prompt }} [/INST] {{ .Response }}</s>""",
    "llama2_messages": """{{- $system := .System }}
{{- range $i, $m := .Messages }}
{{- if eq $m.Role "user" }}[INST] {{ if and $system (le $i 1) }}<<SYS>>
{{ $system }}
<</SYS>>

{{ end }}{{ $m.Content }} [/INST]
{{- else if eq $m.Role "assistant" }} {{ $m.Content }} </s><s>
{{- end }}
{{- end }}""",
    "llama3": """{{- if or .System .Tools }}<|start_header_id|>system<|end_header_id|>
{{- if .System }}

{{ .System }}
{{- end }}
{{- if .Tools }}

Answer with a call of a function when one fits. Today is {{ currentDate }}.
{{- end }}<|eot_id|>
{{- end }}
{{- range $i, $_ := .Messages }}
{{- $last := eq (len (slice $.Messages $i)) 1 }}
{{- if eq .Role "user" }}<|start_header_id|>user<|end_header_id|>
{{- if and $.Tools $last }}

Functions, one of which may be called by writing {"name": its name, "parameters": its arguments}:
{{ range $.Tools }}
{{- . }}
{{ end }}
{{ .Content }}<|eot_id|>
{{- else }}

{{ .Content }}<|eot_id|>
{{- end }}{{ if $last }}<|start_header_id|>assistant<|end_header_id|>

{{ end }}
{{- else if eq .Role "assistant" }}<|start_header_id|>assistant<|end_header_id|>
{{- if .ToolCalls }}
{{ range .ToolCalls }}
{"name": "{{ .Function.Name }}", "parameters": {{ .Function.Arguments }}}{{ end }}
{{- else }}

{{ .Content }}
{{- end }}{{ if not $last }}<|eot_id|>{{ end }}
{{- else if eq .Role "tool" }}<|start_header_id|>ipython<|end_header_id|>

{{ .Content }}<|eot_id|>{{ if $last }}<|start_header_id|>assistant<|end_header_id|>

{{ end }}
{{- end }}
{{- end }}""",
    "chatml": """{{- if .System }}<|im_start|>system
{{ .System }}<|im_end|>
{{ end }}{{ if .Prompt }}<|im_start|>user
{{ .Prompt }}<|im_end|>
{{ end }}<|im_start|>assistant
{{ .Response }}<|im_end|>
""",
    "chatml_messages": """{{- range $index, $message := .Messages }}<|im_start|>{{ $message.Role }}
{{ $message.Content }}<|im_end|>
{{ end }}<|im_start|>assistant
""",
    "mistral": """{{- range $index, $_ := .Messages }}
{{- if eq .Role "system" }}[SYSTEM_PROMPT]{{ .Content }}[/SYSTEM_PROMPT]
{{- else if eq .Role "user" }}
{{- if and (le (len (slice $.Messages $index)) 2) $.Tools }}[AVAILABLE_TOOLS]{{ $.Tools }}[/AVAILABLE_TOOLS]
{{- end }}[INST]{{ .Content }}[/INST]
{{- else if eq .Role "assistant" }}
{{- if .Content }}{{ .Content }}
{{- if not (eq (len (slice $.Messages $index)) 1) }}</s>
{{- end }}
{{- else if .ToolCalls }}[TOOL_CALLS][
{{- range $i, $c := .ToolCalls }}{{ if $i }}, {{ end }}{"name": "{{ $c.Function.Name }}", "arguments": {{ $c.Function.Arguments }}}
{{- end }}]</s>
{{- end }}
{{- else if eq .Role "tool" }}[TOOL_RESULTS]{"content": {{ json .Content }}}[/TOOL_RESULTS]
{{- end }}
{{- end }}""",
    "gemma": """{{- range $i, $_ := .Messages }}
{{- $last := eq (len (slice $.Messages $i)) 1 }}
{{- if or (eq .Role "user") (eq .Role "system") }}<start_of_turn>user
{{ .Content }}<end_of_turn>
{{ if $last }}<start_of_turn>model
{{ end }}
{{- else if eq .Role "assistant" }}<start_of_turn>model
{{ .Content }}{{ if not $last }}<end_of_turn>
{{ end }}
{{- end }}
{{- end }}""",
    "gemma_legacy": """<start_of_turn>user
{{ if .System }}{{ .System }} {{ end }}{{ .Prompt }}<end_of_turn>
<start_of_turn>model
{{ .Response }}<end_of_turn>
""",
    "phi3": """{{ if .System }}<|system|>
{{ .System }}<|end|>
{{ end }}{{ if .Prompt }}<|user|>
{{ .Prompt }}<|end|>
{{ end }}<|assistant|>
{{ .Response }}<|end|>
""",
    "command_r": """{{- if or .Tools .System }}<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>
{{- if .Tools }}# How to help
Use what is listed below where it serves the question.
{{ if .System }}
## From the owner
{{ .System }}
{{- end }}

## Tools
```python
{{- range .Tools }}
def {{ .Function.Name }}(
{{- range $name, $property := .Function.Parameters.Properties }}{{ $name }}: {{ $property.Type }}, {{ end }}) -> List[Dict]:
    '''{{ .Function.Description }}
{{- if .Function.Parameters.Properties }}

    Args:
{{- range $name, $property := .Function.Parameters.Properties }}
        {{ $name }} ({{ $property.Type }}): {{ $property.Description }}
{{- end }}
{{- end }}
    '''
    pass
{{ end }}```
{{- else if .System }}{{ .System }}
{{- end }}<|END_OF_TURN_TOKEN|>
{{- end }}
{{- range .Messages }}
{{- if eq .Role "system" }}{{ continue }}
{{- end }}<|START_OF_TURN_TOKEN|>
{{- if eq .Role "user" }}<|USER_TOKEN|>{{ .Content }}
{{- else if eq .Role "assistant" }}<|CHATBOT_TOKEN|>
{{- if .Content }}{{ .Content }}
{{- else if .ToolCalls }}Action: ```json
[
{{- range .ToolCalls }}
    {
        "tool_name": "{{ .Function.Name }}",
        "parameters": {{ .Function.Arguments }}
    }
{{- end }}
]```
{{- end }}
{{- else if eq .Role "tool" }}<|SYSTEM_TOKEN|><results>
{{ .Content }}</results>
{{- end }}<|END_OF_TURN_TOKEN|>
{{- end }}<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>""",
    "granite": """{{- if .Tools }}<|start_of_role|>available_tools<|end_of_role|>
{{- range .Tools }}
{{ . }}
{{- end }}<|end_of_text|>
{{ end }}
{{- range $index, $_ := .Messages }}
{{- if ne .Role "tool" }}<|start_of_role|>{{ .Role }}<|end_of_role|>
{{- else }}<|start_of_role|>tool_response<|end_of_role|>
{{- end }}
{{- if .Content }}{{ .Content }}
{{- else if .ToolCalls }}<|tool_call|>
{{- range .ToolCalls }}{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}
{{- end }}
{{- end }}<|end_of_text|>
{{ end }}<|start_of_role|>assistant<|end_of_role|>""",
    "qwen": """{{- $lastUser := -1 }}
{{- range $i, $m := .Messages }}{{ if eq $m.Role "user" }}{{ $lastUser = $i }}{{ end }}{{ end }}
{{- if or .System .Tools }}<|im_start|>system
{{ if .System }}{{ .System }}
{{ end }}
{{- if .Tools }}
# Tools

What can be called stands between the tags:
<tools>
{{- range .Tools }}
{"type": "function", "function": {{ .Function }}}
{{- end }}
</tools>

A call is written so:
<tool_call>
{"name": <its name>, "arguments": <its arguments>}
</tool_call>
{{- end }}<|im_end|>
{{ end }}
{{- range $i, $_ := .Messages }}
{{- $last := eq (len (slice $.Messages $i)) 1 }}
{{- if eq .Role "user" }}<|im_start|>user
{{ .Content }}
{{- if and $.IsThinkSet (eq $i $lastUser) }}
{{- if $.Think }} /think{{ else }} /no_think{{ end }}
{{- end }}<|im_end|>
{{ else if eq .Role "assistant" }}<|im_start|>assistant
{{ if and .Thinking (or $last (gt $i $lastUser)) }}<think>{{ .Thinking }}</think>
{{ end }}
{{- if .Content }}{{ .Content }}
{{- end }}
{{- if .ToolCalls }}
{{- range .ToolCalls }}
<tool_call>
{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}
</tool_call>
{{- end }}
{{- end }}{{ if not $last }}<|im_end|>
{{ end }}
{{- else if eq .Role "tool" }}<|im_start|>user
<tool_response>
{{ .Content }}
</tool_response><|im_end|>
{{ end }}
{{- if and (ne .Role "assistant") $last }}<|im_start|>assistant
{{ if and $.IsThinkSet (not $.Think) }}<think>

</think>

{{ end }}
{{- end }}
{{- end }}""",
    "channels": """{{- define "kind" }}{{ if . }}{{ range $i, $t := . }}{{ if $i }} | {{ end }}{{ $t }}{{ end }}{{ else }}any{{ end }}{{ end -}}
<|start|>system<|message|>Date: {{ currentDate }}
Effort: {{ if .ThinkLevel }}{{ .ThinkLevel }}{{ else }}medium{{ end }}<|end|>
{{- if or .System .Tools }}<|start|>developer<|message|>{{ .System }}
{{- if .Tools }}
namespace functions {
{{- range .Tools }}
// {{ .Function.Description }}
type {{ .Function.Name }} = (_: {
{{- range $name, $p := .Function.Parameters.Properties }}
{{ $name }}: {{ toTypeScriptType $p }}, // {{ template "kind" $p.Type }}
{{- end }}
}) => any;
{{- end }}
}
{{- end }}<|end|>
{{- end }}
{{- range $i, $m := .Messages }}
{{- if eq .Role "system" }}{{ continue }}{{ end }}
{{- if eq .Role "user" }}<|start|>user<|message|>{{ .Content }}<|end|>
{{- else if eq .Role "tool" }}<|start|>functions.{{ .ToolName }} to=assistant<|message|>{{ .Content }}<|end|>
{{- else }}
{{- if .Thinking }}<|start|>assistant<|channel|>analysis<|message|>{{ .Thinking }}<|end|>{{ end }}
{{- range .ToolCalls }}<|start|>assistant<|channel|>commentary to=functions.{{ .Function.Name }} <|constrain|>json<|message|>{{ .Function.Arguments }}<|call|>
{{- end }}
{{- with .Content }}<|start|>assistant<|channel|>final<|message|>{{ . }}<|end|>{{ end }}
{{- end }}
{{- end }}<|start|>assistant""",
    "alpaca": """{{ if .System }}{{ .System }}

{{ end }}{{ if .Prompt }}### Instruction:
{{ .Prompt }}

{{ end }}### Response:
{{ .Response }}

""",
    "plain": "{{ .System }} {{ .Prompt }}",
    "fill_in": "{{- if .Suffix }}<PRE> {{ .Prompt }} <SUF>{{ .Suffix }} <MID>{{ else }}{{ .Prompt }}{{ end }}",
}


def _call(name: str, arguments: dict[str, Any], index: int = 0) -> dict[str, Any]:
    return {"ID": f"call_{index}", "Function": {"Index": index, "Name": name, "Arguments": arguments}}


def _tool(name: str, description: str, **properties: Any) -> dict[str, Any]:
    parameters = {"Type": "object", "Required": sorted(properties)[:1], "Properties": properties}
    return {"Type": "function", "Function": {"Name": name, "Description": description, "Parameters": parameters}}


_TOOLS = [
    _tool(
        "get_weather",
        "Weather of a city",
        city={"Type": ["string"], "Description": "which city"},
        unit={"Type": ["string", "null"], "Description": "<unit>", "Enum": ["c", "f"]},
    ),
    _tool("now", "The time"),
]
_SHORT = [{"Role": "user", "Content": "Hello"}]
_LONG = [
    {"Role": "system", "Content": "Be brief."},
    {"Role": "user", "Content": "What's the weather in Köln & Bonn?"},
    {
        "Role": "assistant",
        "Thinking": "Two calls.",
        "ToolCalls": [_call("get_weather", {"city": "Köln", "b": 1, "a": "<x>"}), _call("now", {}, 1)],
    },
    {"Role": "tool", "Content": '21 "degrees"', "ToolName": "get_weather"},
    {"Role": "assistant", "Content": "It is 21."},
    {"Role": "user", "Content": "Thanks.\n"},
]


def conversations() -> dict[str, dict[str, Any]]:
    """Roots as a chat template sees them, by name."""

    def root(messages: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return {"Messages": {"$": "[]*ChatMessage", "value": messages}, **more}

    return {
        "chat_short": root(_SHORT),
        "chat_system": root(_SHORT, System="You are kind.", Prompt="Hi", Response="Well"),
        "chat_long": root(_LONG, System="Be brief."),
        "chat_prefill": root([*_SHORT, {"Role": "assistant", "Content": "Hello! How", "Thinking": "hm"}]),
        "chat_tools": root(
            _LONG, System="Be brief.", Tools={"$": "ChatTools", "value": _TOOLS}, Think=True, IsThinkSet=True
        ),
        "chat_tool_result": root(_LONG[:4], Tools={"$": "ChatTools", "value": _TOOLS}, ThinkLevel="high"),
        "chat_no_thinking": root(_LONG[1:2], Think=False, IsThinkSet=True),
        "chat_prompt": {"System": "S", "Prompt": "P", "Response": "R", "Suffix": ""},
        "chat_suffix": {"Prompt": "def f(", "Suffix": "return x", "Response": ""},
    }


def chats() -> list[tuple[str, str]]:
    """Every style with every conversation's name."""
    return [(text, name) for text in STYLES.values() for name in conversations()]
