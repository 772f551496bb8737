"""Models whose prompts come from a Go template. What Ollama answered in the same place is in ``tests/wire``."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corral.store import Store
from corral.tiny import TINY_FILE
from tests.conftest import RunningServer, StartServer, start_server
from tests.wire.tinygo import TEMPLATE, put_tinygo

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
GREEDY = {"temperature": 0, "num_predict": 60}
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
PARIS = [{"role": "user", "content": "What is the weather in Paris?"}]
ADA = [{"role": "user", "content": "Give name, age as JSON: Ada is 36 years old and lives in Paris."}]
HELLO = [{"role": "user", "content": "Hello"}]
THOUGHT = "I should use the tool get_weather.\n"
WRITTEN = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
LEGACY = (
    "{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ end }}<|im_start|>user\n{{ .Prompt }}<|im_end|>\n"
    "<|im_start|>assistant\n{{ .Response }}<|im_end|>\n"
)
FILLS = "{{ if .Suffix }}<PRE>{{ .Prompt }}<SUF>{{ .Suffix }}<MID>{{ else }}{{ .Prompt }}{{ end }}"
OPEN = (
    "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ if and .Thinking .Content }}<think>\n{{ .Thinking }}\n</think>\n\n"
    "{{ else if .Thinking }}<think>\n{{ .Thinking }}{{ end }}{{ .Content }}"
    '{{ if eq .Role "user" }}<|im_end|>\n{{ end }}{{ end }}'
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    home = tmp_path_factory.mktemp("home")
    store = Store(home / "models")
    put_tinygo(store)
    put_tinygo(store, "legacy", LEGACY, own_template=True)
    put_tinygo(store, "fills", FILLS, own_template=True)
    put_tinygo(store, "open", OPEN, own_template=True)
    put_tinygo(store, "native", OPEN)  # its own template can do more, and is used
    put_tinygo(store, "claims", capabilities=["vision"])
    put_tinygo(store, "begins", "#{{ .Prompt }}", beginning_weights(home / "begins.gguf"), own_template=True)
    put_tinygo(store, "broken", "{{ range }}", own_template=True)
    put_tinygo(store, "wrong", "{{ .Prompt.Nope }}", own_template=True)
    running = start_server(home, home / "models")
    yield running
    running.stop()


def beginning_weights(path: Path) -> Path:
    """Tiny, whose engine now puts the token ``#`` before every prompt."""
    key = b"tokenizer.ggml.add_bos_token"
    before, found, after = TINY_FILE.read_bytes().partition(key)
    assert found
    assert after[:5] == b"\x07\0\0\0\0"  # a boolean, false
    path.write_bytes(before + key + after[:4] + b"\1" + after[5:])
    return path


def post(server: RunningServer, path: str, body: dict[str, Any]) -> tuple[int, list[dict[str, Any]]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.address.port, timeout=60)
    connection.request("POST", path, json.dumps({"model": "tinygo", "options": GREEDY, "stream": False} | body))
    answer = connection.getresponse()
    lines = [json.loads(line) for line in answer.read().splitlines()]
    connection.close()
    return answer.status, lines


def chat(server: RunningServer, messages: list[dict[str, Any]], **body: Any) -> dict[str, Any]:
    status, lines = post(server, "/api/chat", {"messages": messages} | body)
    assert status == 200, lines
    return {"message": {}} | lines[-1]


def generate(server: RunningServer, prompt: str, **body: Any) -> dict[str, Any]:
    status, lines = post(server, "/api/generate", {"prompt": prompt} | body)
    assert status == 200, lines
    return lines[-1]


def prompt_of(server: RunningServer, path: str, **body: Any) -> str:
    status, lines = post(server, path, {"_debug_render_only": True} | body)
    assert status == 200, lines
    return str(lines[-1]["_debug_info"]["rendered_template"])


def test_a_call_to_a_tool_that_was_not_listed_is_text(server: RunningServer) -> None:
    other = {"type": "function", "function": {"name": "other_tool", "parameters": WEATHER["function"]["parameters"]}}  # type: ignore[index]
    message = chat(server, PARIS, tools=[other])["message"]
    assert message["thinking"] == THOUGHT
    assert message["content"].startswith('<tool_call>\n{"name": ')
    assert message["content"].endswith("}\n</tool_call>")
    assert "tool_calls" not in message


def test_a_call_that_is_cut_off_is_text(server: RunningServer) -> None:
    answer = chat(server, PARIS, tools=[WEATHER], options=GREEDY | {"num_predict": 20})
    assert answer["done_reason"] == "length"
    assert WRITTEN.startswith(answer["message"]["content"])
    assert "get_weather" in answer["message"]["content"]


def test_a_streamed_call_has_a_line_of_its_own_and_no_token_is_lost(server: RunningServer) -> None:
    status, lines = post(server, "/api/chat", {"messages": PARIS, "tools": [WEATHER], "stream": True, "logprobs": True})
    assert status == 200
    (with_call,) = (line for line in lines if line["message"].get("tool_calls"))
    (call,) = with_call["message"]["tool_calls"]
    assert call["function"] == {"index": 0, "name": "get_weather", "arguments": {"city": "Paris"}}
    assert len(call["id"]) == len("call_") + 8
    assert not with_call["done"]
    assert not with_call["message"]["content"]
    assert "".join(line["message"]["content"] for line in lines) == ""
    tokens = "".join(entry["token"] for line in lines for entry in line.get("logprobs", ()))
    assert tokens == f"{THOUGHT}</think>\n\n{WRITTEN}"


def test_tools_and_a_format_give_a_call_or_an_answer_in_the_format(server: RunningServer) -> None:
    called = chat(server, PARIS, tools=[WEATHER], format="json")["message"]
    assert called["tool_calls"][0]["function"]["arguments"] == {"city": "Paris"}
    answered = chat(server, ADA, tools=[WEATHER], format="json")
    assert json.loads(answered["message"]["content"]) == {"name": "Ada", "age": 36}
    assert answered["message"]["thinking"].endswith("\n")
    assert "tool_calls" not in answered["message"]


def test_a_thought_is_free_and_the_answer_has_the_format(server: RunningServer) -> None:
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
    free = chat(server, ADA)
    held = chat(server, ADA, format=schema)
    assert held["message"]["thinking"] == free["message"]["thinking"]
    assert json.loads(held["message"]["content"])["age"] == 36
    assert held["prompt_eval_count"] == free["prompt_eval_count"]
    unthinking = chat(server, ADA, format=schema, think=False)["message"]
    assert "thinking" not in unthinking
    assert "age" in json.loads(unthinking["content"])


def test_an_answer_that_was_begun_goes_on_with_what_is_missing(server: RunningServer) -> None:
    begun = [*HELLO, {"role": "assistant", "content": "Hello! How"}]
    assert chat(server, begun)["message"] == {"role": "assistant", "content": " can I help you?"}
    assert chat(server, begun, format="json")["message"]["content"].startswith("{")


@pytest.mark.parametrize("model", ["open", "native"])
@pytest.mark.parametrize("format_", [None, "json"])
def test_a_thought_that_was_begun_goes_on_as_a_thought(server: RunningServer, model: str, format_: str | None) -> None:
    whole = chat(server, ADA, think=True)["message"]["thinking"]
    begun = [*ADA, {"role": "assistant", "content": "", "thinking": whole[:6]}]
    assert prompt_of(server, "/api/chat", model=model, messages=begun).endswith(whole[:6])
    message = chat(server, begun, model=model, format=format_)["message"]
    assert message["thinking"] == whole[6:]
    assert json.loads(message["content"])["name"] == "Ada"


@pytest.mark.parametrize("think", [True, False])
def test_a_schema_that_the_engine_cannot_take_is_refused_before_anything_is_said(
    server: RunningServer, think: bool
) -> None:
    body = {"messages": HELLO, "format": {"type": "nonsense"}, "think": think, "stream": True}
    status, (line,) = post(server, "/api/chat", body)
    assert status == 400
    assert "is 'nonsense', which is none of" in line["error"]


def test_stop_strings_look_at_answers_and_not_at_thoughts(server: RunningServer) -> None:
    count = [{"role": "user", "content": "Count from 3 to 9."}]
    whole = chat(server, count, options=GREEDY | {"stop": ["user says"]})["message"]
    assert whole == {
        "role": "assistant",
        "content": "3, 4, 5, 6, 7, 8, 9",
        "thinking": "I do exactly what the user says.\n",
    }
    cut = chat(server, count, options=GREEDY | {"stop": [", 6, 7"]})
    assert cut["message"]["content"] == "3, 4, 5"
    assert cut["done_reason"] == "stop"


def test_a_thought_that_was_not_asked_for_is_told_apart_all_the_same(server: RunningServer) -> None:
    template = "<|im_start|>user\n{{ .Prompt }}<|im_end|>\n<|im_start|>assistant\n<think>\n{{ .Response }}"
    answer = generate(server, "Hello", template=template, think=False)
    assert (answer["thinking"], answer["response"]) == (
        "The user greets me or asks who I am.\n",
        "Hello! How can I help you?",
    )
    raw = "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n<think>\n"
    assert generate(server, raw, raw=True)["response"] == "Hello! How can I help you?"


def test_models_over_one_file_each_have_their_template(server: RunningServer) -> None:
    prompts = {
        name: prompt_of(server, "/api/chat", model=name, messages=HELLO) for name in ("tinygo", "tiny", "legacy")
    }
    assert prompts["tinygo"].endswith("<|im_start|>assistant\n<think>\n")
    assert prompts["legacy"] == "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    assert chat(server, HELLO, model="legacy")["message"]["content"] == "Hello! How can I help you?"
    assert chat(server, HELLO, model="tiny")["message"]["thinking"]
    assert chat(server, PARIS, model="tiny", tools=[WEATHER])["message"]["tool_calls"]
    status, (line,) = post(server, "/api/chat", {"model": "legacy", "messages": PARIS, "tools": [WEATHER]})
    assert (status, line["error"]) == (400, "registry.ollama.ai/library/legacy:latest does not support tools")


def test_an_old_template_replays_the_conversation(server: RunningServer) -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    assert prompt_of(server, "/api/chat", model="legacy", messages=turns) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
        "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_suffix_is_for_templates_that_have_a_place_for_it(server: RunningServer) -> None:
    body = {"prompt": "def f(", "suffix": "return 1"}
    rendered = prompt_of(server, "/api/generate", model="fills", **body)
    assert rendered == "<PRE>def f(<SUF>return 1<MID>"
    assert generate(server, "def f(", model="fills", suffix="return 1")["done"]
    for model in ("tinygo", "tiny"):
        status, (line,) = post(server, "/api/generate", body | {"model": model})
        assert (status, line["error"]) == (400, f"registry.ollama.ai/library/{model}:latest does not support insert")


def test_a_context_goes_on_where_the_answer_ended(server: RunningServer) -> None:
    first = generate(server, "My name is Ada.")
    again = prompt_of(server, "/api/generate", prompt="What is my name?", context=first["context"])
    assert f"{first['response']}<|im_end|><|im_start|>user\nWhat is my name?" in again
    answer = generate(server, "What is my name?", context=first["context"])
    assert answer["response"] == "Your name is Ada."
    assert answer["context"][: len(first["context"])] == first["context"]


def test_turns_that_do_not_fit_are_left_out_and_counted(server: RunningServer) -> None:
    turns = [*HELLO, {"role": "assistant", "content": "word " * 80}] * 3 + HELLO
    small = GREEDY | {"num_ctx": 128}
    answer = chat(server, turns, options=small)
    assert answer["message"]["content"] == "Hello! How can I help you?"
    assert answer["dropped_messages"] == 4
    status, (line,) = post(server, "/api/chat", {"messages": turns, "options": small, "truncate": False})
    assert status == 400
    assert "longer than the context length of 128 tokens" in line["error"]


def test_a_thought_and_an_answer_in_a_format_stay_within_the_context(server: RunningServer) -> None:
    answer = chat(server, ADA, format="json", options={"temperature": 0, "num_ctx": 48})
    assert answer["prompt_eval_count"] + answer["eval_count"] <= 48
    assert answer["done_reason"] == "length"


def test_a_template_at_fault_is_an_error_that_says_whose(server: RunningServer) -> None:
    status, (line,) = post(server, "/api/generate", {"prompt": "x", "template": "{{ .Prompt"})
    assert (status, line["error"]) == (400, "template: :1: unclosed action")
    status, (line,) = post(server, "/api/chat", {"model": "broken", "messages": HELLO})
    assert status == 500
    assert line["error"].startswith(
        'the template of "broken:latest" cannot be used: template: :1: missing value for range'
    )
    status, (line,) = post(server, "/api/chat", {"model": "wrong", "messages": HELLO})
    assert status == 400
    assert "can't evaluate field Nope" in line["error"]


def test_a_beginning_that_the_engine_writes_is_not_written_twice(server: RunningServer) -> None:
    short = GREEDY | {"num_predict": 1}
    twice = generate(server, "#Hello", model="begins", raw=True, options=short)["prompt_eval_count"]
    once = generate(server, "Hello", model="begins", raw=True, options=short)["prompt_eval_count"]
    assert twice == once + 1
    assert generate(server, "Hello", model="begins", options=short)["prompt_eval_count"] == once


def test_an_image_for_a_model_that_cannot_see_is_refused(server: RunningServer) -> None:
    for path, body in (
        ("/api/chat", {"messages": [{"role": "user", "content": "x", "images": [PIXEL]}]}),
        ("/api/generate", {"prompt": "x", "images": [PIXEL]}),
        ("/api/generate", {"prompt": "x", "images": [PIXEL], "raw": True}),
    ):
        status, (line,) = post(server, path, body)
        assert (status, line["error"]) == (400, '"tinygo" does not support images')


def test_an_image_reaches_the_engine_of_a_model_that_says_it_can_see(server: RunningServer) -> None:
    """This one only says so: that the engine refuses the image shows that it was understood as one."""
    turns = [{"role": "user", "content": "What is this?", "images": [PIXEL]}]
    assert "[img-0]What is this?" in prompt_of(server, "/api/chat", model="claims", messages=turns)
    status, (line,) = post(server, "/api/chat", {"model": "claims", "messages": turns})
    assert status == 400
    assert line["error"].startswith("Multimodal data provided, but model does not support multimodal requests")


def test_a_setting_of_ollamas_switches_go_templates_off(serve: StartServer, server: RunningServer) -> None:
    off = serve(server.models, OLLAMA_GO_TEMPLATE="0")
    assert prompt_of(off, "/api/chat", messages=HELLO) == prompt_of(off, "/api/chat", messages=HELLO, model="tiny")
    assert TEMPLATE.read_text().rstrip("\n") in off.client.show("tinygo")["modelfile"]
