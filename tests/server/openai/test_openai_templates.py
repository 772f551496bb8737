"""Models with the templates of other families: those that refuse conversations, and those that write calls in their own way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from corral.gguf import read_gguf
from corral.store import Store
from corral.tiny import TINY_FILE
from tests.conftest import start_server
from tests.wire.test_replay import put

# In the manner of Mistral's: turns alternate, ids have nine characters and stand behind a call.
ALTERNATES = """{%- set rest = messages[1:] if messages[0].role == 'system' else messages %}
{%- set at = namespace(index=0) %}
{%- for m in rest %}{%- if m.role != 'tool' and not m.tool_calls %}
{%- if (m.role == 'user') != (at.index % 2 == 0) %}{{- raise_exception('roles must alternate') }}{%- endif %}
{%- set at.index = at.index + 1 %}{%- endif %}{%- endfor %}
{%- if messages[0].role == 'system' %}{{- '[SYS]' + messages[0].content + '[/SYS]' }}{%- endif %}
{%- if tools %}{{- '[AVAILABLE_TOOLS]' + tools | tojson + '[/AVAILABLE_TOOLS]' }}{%- endif %}
{%- for m in rest %}{%- if m.role == 'user' %}{{- '[INST] ' + m.content + '[/INST]' }}
{%- elif m.tool_calls %}{{- '[TOOL_CALLS] [' }}{%- for call in m.tool_calls %}
{%- if not call.id is defined or call.id | length != 9 %}{{- raise_exception('ids have length 9') }}{%- endif %}
{{- (call.function | tojson)[:-1] + ', "id": "' + call.id + '"}' }}{{- ', ' if not loop.last else ']' + eos_token }}{%- endfor %}
{%- elif m.role == 'assistant' %}{{- ' ' + m.content + eos_token }}
{%- elif m.role == 'tool' %}{%- if m.tool_call_id | length != 9 %}{{- raise_exception('ids have length 9') }}{%- endif %}
{{- '[TOOL_RESULTS] {"content": "' + m.content + '", "call_id": "' + m.tool_call_id + '"}[/TOOL_RESULTS]' }}
{%- else %}{{- raise_exception('only user and assistant') }}{%- endif %}{%- endfor %}"""

# In the manner of Llama 3's: one call in a turn, without marks.
SINGLE = """{%- if tools %}{{- '<|start|>system<|end|>' + tools | tojson + '<|eot|>' }}{%- endif %}
{%- for m in messages %}{%- if m.tool_calls %}
{%- if m.tool_calls | length != 1 %}{{- raise_exception('only single tool-calls at once') }}{%- endif %}
{%- set call = m.tool_calls[0].function %}
{{- '<|start|>assistant<|end|>\\n\\n{"name": "' + call.name + '", "parameters": ' + call.arguments | tojson + '}<|eot|>' }}
{%- else %}{{- '<|start|>' + m.role + '<|end|>\\n\\n' + m.content + '<|eot|>' }}{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start|>assistant<|end|>\\n\\n' }}{%- endif %}"""

ALTERNATING, SINGLY = "acme/alternates:v3", "acme/single:8b"
CITY = {"type": "string", "enum": ["Oslo", "Rome"]}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": CITY},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
ASKED = {"role": "user", "content": "Weather?"}


def called(*ids: str) -> dict[str, Any]:
    function = {"name": "get_weather", "arguments": '{"city": "Oslo"}'}
    return {"role": "assistant", "tool_calls": [{"id": id_, "type": "function", "function": function} for id_ in ids]}


def result(id_: str, content: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id_, "content": content}


def with_template(path: Path, template: str) -> Path:
    """Tiny with another template, of the same length in the file."""
    own = read_gguf(TINY_FILE).metadata["tokenizer.chat_template"].encode()
    room = len(own) - len(template.encode()) - len("{##}")
    assert room >= 0
    path.write_bytes(TINY_FILE.read_bytes().replace(own, f"{template}{{#{' ' * room}#}}".encode()))
    return path


@pytest.fixture(scope="module")
def other_families(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    home = tmp_path_factory.mktemp("families")
    store = Store(home / "models")
    for name, template in ((ALTERNATING, ALTERNATES), (SINGLY, SINGLE)):
        put(store, name, with_template(home / f"{len(template)}.gguf", template), "llama", "4.46M", "Q8_0")
    running = start_server(home, home / "models")
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as client:
        yield client
    running.stop()


def ask(client: openai.OpenAI, model: str, messages: Any, **more: Any) -> Any:
    return client.chat.completions.create(model=model, messages=messages, **{"max_tokens": 200, **more})


def rendered(client: openai.OpenAI, model: str, messages: Any, **more: Any) -> str:
    answer = ask(client, model, messages, extra_body={"_debug_render_only": True}, **more)
    return str(answer.model_extra["_debug_info"]["rendered_template"])


@pytest.mark.parametrize("model", [ALTERNATING, SINGLY])
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_call_can_be_required_of_a_model_that_calls_in_its_own_way(
    other_families: openai.OpenAI, model: str, choice: Any
) -> None:
    answer = ask(other_families, model, [ASKED], tools=[WEATHER], tool_choice=choice, parallel_tool_calls=False)
    message = answer.choices[0].message
    (call,) = message.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments)["city"] in ("Oslo", "Rome")
    assert not message.content
    told = ask(other_families, model, [ASKED, message, result(call.id, "sunny")], tools=[WEATHER], max_tokens=1)
    assert told.choices[0].finish_reason in ("stop", "length")


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([ASKED, {"role": "user", "content": "Quick!"}], "[INST] Weather?\n\nQuick![/INST]"),
        (
            [{"role": "system", "content": "a"}, {"role": "developer", "content": "b"}, ASKED],
            "[SYS]a\n\nb[/SYS][INST] Weather?[/INST]",
        ),
        ([ASKED, {"role": "system", "content": "Be brief."}], "[INST] Weather?\n\nBe brief.[/INST]"),
        ([{"role": "assistant", "content": "Hi"}, ASKED], "[INST] [/INST] Hi<|im_end|>[INST] Weather?[/INST]"),
    ],
)  # fmt: skip
def test_turns_that_do_not_alternate_are_told_so_that_they_do(
    other_families: openai.OpenAI, messages: Any, expected: str
) -> None:
    assert rendered(other_families, ALTERNATING, messages) == expected
    asked = ask(other_families, ALTERNATING, messages, max_tokens=1)
    assert asked.usage.completion_tokens == 1
    counted = other_families.responses.input_tokens.count(model=ALTERNATING, input=messages)
    assert counted.input_tokens == asked.usage.prompt_tokens


def test_ids_are_as_short_as_a_template_wants_them_and_always_the_same(other_families: openai.OpenAI) -> None:
    messages = [
        ASKED,
        called("call_abcdefgh", "nine_nine"),
        result("nine_nine", "rain"),
        result("call_abcdefgh", "sun"),
    ]
    prompt = rendered(other_families, ALTERNATING, messages)
    first, second = (prompt.split('"id": "')[n][:9] for n in (1, 2))
    assert first != second
    assert f'"rain", "call_id": "{second}"' in prompt
    assert f'"sun", "call_id": "{first}"' in prompt
    assert prompt == rendered(other_families, ALTERNATING, messages)
    again = [*messages, ASKED]
    assert rendered(other_families, ALTERNATING, again).endswith("[/TOOL_RESULTS] <|im_end|>[INST] Weather?[/INST]")


def test_calls_made_together_come_one_by_one_each_with_its_result(other_families: openai.OpenAI) -> None:
    messages = [ASKED, called("call_1", "call_2"), result("call_2", "rain"), result("call_1", "sun")]
    prompt = rendered(other_families, SINGLY, messages)
    call = '<|start|>assistant<|end|>\n\n{"name": "get_weather", "parameters": {"city": "Oslo"}}<|eot|>'
    sun, rain = (f"<|start|>tool<|end|>\n\n{said}<|eot|>" for said in ("sun", "rain"))
    assert prompt.endswith(f"{call}{sun}{call}{rain}<|start|>assistant<|end|>\n\n")
    assert ask(other_families, SINGLY, messages, max_tokens=1).usage.completion_tokens == 1


def test_what_a_template_refuses_in_any_way_is_told_in_its_own_words(other_families: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(other_families, ALTERNATING, [{"role": "critic", "content": "x"}, ASKED])
    assert caught.value.param == "messages"
    assert caught.value.body["message"] == "the model's template refuses this: roles must alternate"  # type: ignore[index]
