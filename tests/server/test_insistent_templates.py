"""Templates that refuse what others print, with real engines behind a real server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from corral.store import Store
from tests.conftest import RunningServer, start_server
from tests.scripted import scripted
from tests.wire.test_replay import put

# In the manner of Mistral's: strict about turns and about ids, which stand behind the arguments.
STRICT = """{%- if messages[0].role == 'system' %}{% set system = messages[0].content %}{% set messages = messages[1:] %}{% endif %}
{%- set ns = namespace(index=0) %}
{%- for m in messages %}{% if m.role != 'tool' and not m.tool_calls %}
{%- if (m.role == 'user') != (ns.index % 2 == 0) %}{{ raise_exception('roles must alternate user/assistant') }}{% endif %}
{%- set ns.index = ns.index + 1 %}{% endif %}{% endfor %}
{%- if tools %}[AVAILABLE_TOOLS]{{ tools|tojson }}[/AVAILABLE_TOOLS]{% endif %}
{%- for m in messages %}{% if m.role == 'user' %}[INST]{{ system }} {{ m.content }}[/INST]
{%- elif m.tool_calls %}[TOOL_CALLS][{% for call in m.tool_calls %}{% set out = call.function|tojson %}{{ out[:-1] }}
{%- if call.id|length != 9 %}{{ raise_exception('ids must be alphanumeric strings with length 9') }}{% endif %}
{{- ', "id": "' + call.id + '"}' }}{% if not loop.last %}, {% endif %}{% endfor %}]</s>
{%- elif m.role == 'assistant' %}{{ m.content }}</s>
{%- else %}{% if m.tool_call_id|length != 9 %}{{ raise_exception('ids must be alphanumeric strings with length 9') }}{% endif %}
[TOOL_RESULTS]{"content": {{ m.content }}, "call_id": "{{ m.tool_call_id }}"}[/TOOL_RESULTS]{% endif %}{% endfor %}"""
# In the manner of Llama's: one call in a turn.
SINGLE = """{% for m in messages %}<|start|>{{ m.role }}

{% if m.tool_calls %}{% if not m.tool_calls|length == 1 %}{{ raise_exception('only single tool-calls at once') }}{% endif %}
{%- set call = m.tool_calls[0].function %}{"name": "{{ call.name }}", "parameters": {{ call.arguments|tojson }}}
{%- else %}{{ m.content }}{% endif %}<|end|>{% if m.role == 'user' and loop.last and tools %}{{ tools|tojson }}{% endif %}
{%- endfor %}{% if add_generation_prompt %}<|start|>assistant

{% endif %}"""
# In the manner of Gemma's: nothing but two roles in turn.
BARE = """{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('Conversation roles must alternate user/assistant/...') }}{% endif %}<turn>{{ m.role }}
{{ m.content }}</turn>
{% endfor %}{% if add_generation_prompt %}<turn>model
{% endif %}"""
TEMPLATES = {"strict": STRICT, "single": SINGLE, "bare": BARE}

HELLO: Any = {"role": "user", "content": "Hello"}
PICK: Any = {
    "name": "pick",
    "input_schema": {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "blue"]}},
        "required": ["colour"],
        "additionalProperties": False,
    },
}
CALLS: Any = [{"type": "tool_use", "id": f"toolu_{n}", "name": "pick", "input": {"colour": "red"}} for n in range(2)]
RESULTS: Any = [{"type": "tool_result", "tool_use_id": call["id"], "content": "done"} for call in CALLS]
CALLED: Any = [HELLO, {"role": "assistant", "content": CALLS}, {"role": "user", "content": RESULTS}]
SO: Any = {"type": "text", "text": "So?"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    home = tmp_path_factory.mktemp("insistent")
    store = Store(home / "models")
    for name, template in TEMPLATES.items():
        put(store, name, scripted(home / f"{name}.gguf", template, ["All is", " well."]), "qwen3", "1M", "F32")
    running = start_server(home, home / "models")
    yield running
    running.stop()


@pytest.fixture
def client(server: RunningServer) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0) as client:
        yield client


@pytest.mark.parametrize("model", TEMPLATES)
@pytest.mark.parametrize(
    "messages",
    [
        [HELLO, HELLO],
        [{"role": "assistant", "content": "Hi!"}, HELLO],
        [HELLO, {"role": "assistant", "content": "Hi!"}, {"role": "system", "content": "Be brief."}, HELLO],
        CALLED,
        [*CALLED[:2], {"role": "user", "content": [*RESULTS, SO]}],
        [*CALLED, {"role": "assistant", "content": "I see."}, HELLO],
    ],
    ids=["twice", "assistant first", "system later", "results", "results and text", "after results"],
)
def test_what_clients_send_is_answered_whatever_the_template_insists_on(
    client: anthropic.Anthropic, model: str, messages: Any
) -> None:
    asked: Any = {"model": model, "messages": messages}
    if model != "bare":
        asked["tools"] = [PICK]
    answer = client.messages.create(**asked, max_tokens=9, extra_body={"temperature": 0})
    (block,) = answer.content
    assert block.type == "text"
    assert (block.text, answer.stop_reason) == ("All is well.", "end_turn")
    usage = answer.usage
    counted = client.messages.count_tokens(**asked).input_tokens
    assert counted == usage.input_tokens + (usage.cache_read_input_tokens or 0)


@pytest.mark.parametrize("model", ["strict", "single"])
def test_a_call_is_made_where_one_must_be(client: anthropic.Anthropic, model: str) -> None:
    choice: Any = {"type": "any", "disable_parallel_tool_use": True}
    answer = client.messages.create(model=model, messages=[HELLO], tools=[PICK], tool_choice=choice, max_tokens=99)
    (call,) = answer.content
    assert call.type == "tool_use"
    assert (call.name, answer.stop_reason) == ("pick", "tool_use")
    assert call.input in ({"colour": "red"}, {"colour": "blue"})


SCHEMAS: Any = {
    "null for nothing": {"type": "object", "properties": None, "required": None, "additionalProperties": None},
    "a boolean": {"type": "object", "properties": {"a": True, "b": {"type": "array", "items": True}}},
    "itself": {"type": "object", "properties": {"child": {"$ref": "#"}}},
    "elsewhere": {"type": "object", "properties": {"a": {"$ref": "https://example.org/a.json"}, "b": {"$ref": "#/nowhere"}}},
    "unknown types": {"type": "object", "properties": {"a": {"type": "any"}, "b": {"type": ["string", "file"]}}},
    "empty lists": {"type": "object", "properties": {"a": {"enum": []}, "b": {"anyOf": []}}},
}  # fmt: skip


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=list(SCHEMAS))
def test_a_tool_whose_schema_the_engine_cannot_read_is_no_reason_to_refuse(
    client: anthropic.Anthropic, schema: Any
) -> None:
    tool: Any = {"name": "tool", "input_schema": schema}
    answer = client.messages.create(model="single", messages=[HELLO], tools=[tool], max_tokens=9)
    assert answer.stop_reason == "end_turn"
