"""``/v1/chat/completions`` through the genuine ``openai`` client: answers, streams, choices, formats, what is counted."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import ollama
import openai
import pytest
from openai.types.chat import ChatCompletionChunk
from pydantic import BaseModel

from tests.conftest import RunningServer

HELLO = [{"role": "user", "content": "Hello"}]
ANSWER = "Hello! How can I help you?"
THOUGHT = "The user greets me or asks who I am.\n"
ADA = [{"role": "user", "content": "Give name, age as JSON: Ada is 36 years old and lives in Paris."}]


class Person(BaseModel):
    name: str
    age: int


def ask(client: openai.OpenAI, model: str, messages: Any = HELLO, **more: Any) -> Any:
    return client.chat.completions.create(model=model, messages=messages, temperature=0, **more)


def said(chunks: Iterable[ChatCompletionChunk], name: str = "content") -> dict[int, str]:
    """What the deltas of each choice say together."""
    texts: dict[int, str] = {}
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + (getattr(choice.delta, name, None) or "")
    return texts


def test_an_answer_has_its_thought_under_both_names_and_counts_it(client: openai.OpenAI, model: str) -> None:
    answer = ask(client, model)
    (choice,) = answer.choices
    assert choice.message.content == ANSWER
    assert choice.message.reasoning == choice.message.reasoning_content == THOUGHT
    assert choice.finish_reason == "stop"
    usage = answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (11, 22, 33)
    assert usage.completion_tokens_details.reasoning_tokens == 13
    assert 0 <= usage.prompt_tokens_details.cached_tokens <= 11
    assert answer.id.startswith("chatcmpl-")
    assert answer._request_id
    assert answer.id != ask(client, model).id


def test_a_prompt_that_was_in_memory_is_counted_as_cached(client: openai.OpenAI, model: str) -> None:
    messages = [{"role": "user", "content": f"Hello {'a b c d ' * 20}"}]
    ask(client, model, messages, max_tokens=1)
    usage = ask(client, model, messages, max_tokens=1).usage
    assert 0 < usage.prompt_tokens_details.cached_tokens < usage.prompt_tokens


def test_an_answer_without_a_thought_counts_none(client: openai.OpenAI, model: str) -> None:
    answer = ask(client, model, reasoning_effort="none")
    assert answer.choices[0].message.content == ANSWER
    assert not hasattr(answer.choices[0].message, "reasoning")
    assert answer.usage.completion_tokens_details.reasoning_tokens == 0


def test_a_stream_says_the_same_and_ends_with_reason_and_usage(client: openai.OpenAI, model: str) -> None:
    chunks = list(ask(client, model, stream=True, stream_options={"include_usage": True, "include_obfuscation": False}))
    assert said(chunks) == {0: ANSWER}
    assert said(chunks, "reasoning") == said(chunks, "reasoning_content") == {0: THOUGHT}
    assert [chunk.choices[0].delta.role for chunk in chunks[:3]] == ["assistant", None, None]
    assert [chunk.choices[0].finish_reason for chunk in chunks[-3:-1]] == [None, "stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == 33
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == len({chunk.created for chunk in chunks}) == 1


def test_a_stream_without_usage_has_none(client: openai.OpenAI) -> None:
    assert all(chunk.usage is None and chunk.choices for chunk in ask(client, "tiny", stream=True))


def test_choices_have_their_own_seeds_and_their_prompt_counts_once(client: openai.OpenAI, model: str) -> None:
    hot = {"model": model, "messages": HELLO, "temperature": 9, "top_p": 1, "max_tokens": 12, "reasoning_effort": "none",
           "extra_body": {"top_k": 0}}  # fmt: skip
    answer = client.chat.completions.create(**hot, n=3, seed=7)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    texts = [choice.message.content for choice in answer.choices]
    alone = [client.chat.completions.create(**hot, seed=7 + i).choices[0].message.content for i in range(3)]
    assert texts == alone
    assert len(set(texts)) == 3
    one = client.chat.completions.create(**hot, seed=7)
    assert answer.usage.prompt_tokens == one.usage.prompt_tokens


def test_choices_are_told_in_one_stream_by_their_index(client: openai.OpenAI, model: str) -> None:
    chunks = list(ask(client, model, n=4, stream=True, stream_options={"include_usage": True}))
    assert said(chunks) == dict.fromkeys(range(4), ANSWER)
    ends = [choice.index for chunk in chunks for choice in chunk.choices if choice.finish_reason == "stop"]
    assert sorted(ends) == [0, 1, 2, 3]
    roles = [choice.index for chunk in chunks for choice in chunk.choices if choice.delta.role]
    assert sorted(roles) == [0, 1, 2, 3]
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (11, 88)


def test_more_choices_than_an_engine_has_slots_all_come(client: openai.OpenAI) -> None:
    answer = ask(client, "tiny", n=20, max_completion_tokens=2)
    assert [choice.finish_reason for choice in answer.choices] == ["length"] * 20


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_limits_are_honoured_by_both_names(client: openai.OpenAI, model: str, name: str) -> None:
    answer = ask(client, model, **{name: 2})
    assert answer.usage.completion_tokens == 2
    assert answer.choices[0].finish_reason == "length"


def test_of_two_limits_the_newer_counts(client: openai.OpenAI) -> None:
    assert ask(client, "tiny", max_tokens=9, max_completion_tokens=3).usage.completion_tokens == 3


@pytest.mark.parametrize("stop", [" can", [" can"], ["1", "2", "3", "4", "5", "6", " can"]])
def test_stop_strings_end_the_answer(client: openai.OpenAI, model: str, stop: Any) -> None:
    assert ask(client, model, stop=stop).choices[0].message.content == "Hello! How"


@pytest.mark.parametrize("stop", ["", [""], [], None])
def test_an_empty_stop_string_is_none(client: openai.OpenAI, model: str, stop: Any) -> None:
    assert ask(client, model, stop=stop).choices[0].message.content == ANSWER


def test_a_token_that_is_biased_away_does_not_come(client: openai.OpenAI, model: str) -> None:
    assert ask(client, model, reasoning_effort="none", max_tokens=1).choices[0].message.content == "Hello"  # token 682
    biased = ask(client, model, reasoning_effort="none", logit_bias={"682": -100}, max_tokens=1)
    assert biased.choices[0].message.content != "Hello"


def test_logprobs_have_every_key_that_the_client_knows(client: openai.OpenAI, model: str) -> None:
    answer = ask(client, model, reasoning_effort="none", logprobs=True, top_logprobs=3, max_tokens=3)
    entries = answer.choices[0].logprobs.content
    assert "".join(entry.token for entry in entries) == answer.choices[0].message.content == "Hello! How"
    for entry in entries:
        assert bytes(entry.bytes).decode() == entry.token
        assert entry.logprob <= 0
        assert entry.top_logprobs[0].token == entry.token
        assert 1 <= len(entry.top_logprobs) <= 3
    plain = ask(client, model, reasoning_effort="none", logprobs=True, max_tokens=1).choices[0].logprobs.content
    assert plain[0].top_logprobs == []


def test_streamed_logprobs_are_those_of_the_whole_answer(client: openai.OpenAI, model: str) -> None:
    asked = {"logprobs": True, "top_logprobs": 1, "max_tokens": 16}
    whole = [entry.token for entry in ask(client, model, **asked).choices[0].logprobs.content]
    pieces = [
        entry.token
        for chunk in ask(client, model, stream=True, **asked)
        for choice in chunk.choices
        if choice.logprobs
        for entry in choice.logprobs.content
    ]
    assert pieces == whole


def test_json_is_json_and_a_schema_is_kept(client: openai.OpenAI, model: str) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "p", "strict": True, "schema": Person.model_json_schema()}}
    for wanted in ({"type": "json_object"}, schema, {"type": "JSON_OBJECT "}):
        answer = ask(client, model, ADA, response_format=wanted)
        assert json.loads(answer.choices[0].message.content) == {"name": "Ada", "age": 36}
        assert answer.choices[0].message.reasoning


def test_thought_and_answer_in_a_format_have_one_limit_together(client: openai.OpenAI, model: str) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "p", "schema": Person.model_json_schema()}}
    for stream in (False, True):
        told = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        answer = ask(client, model, ADA, response_format=schema, max_completion_tokens=18, **told)
        usage = list(answer)[-1].usage if stream else answer.usage
        assert usage.completion_tokens == 18
        assert 0 < usage.completion_tokens_details.reasoning_tokens < 18


def test_parse_gives_an_object_of_the_users_class(client: openai.OpenAI, model: str) -> None:
    found = client.chat.completions.parse(model=model, messages=ADA, temperature=0, response_format=Person)
    assert found.choices[0].message.parsed == Person(name="Ada", age=36)


def test_the_clients_stream_helper_parses_what_it_streams(client: openai.OpenAI, model: str) -> None:
    with client.chat.completions.stream(model=model, messages=ADA, temperature=0, response_format=Person) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= set(kinds)
    assert final.choices[0].message.parsed == Person(name="Ada", age=36)


def test_a_grammar_is_kept(client: openai.OpenAI, model: str) -> None:
    answer = ask(client, model, reasoning_effort="none", extra_body={"grammar": 'root ::= "yes" | "no"'})
    assert answer.choices[0].message.content in ("yes", "no")


def test_a_developers_message_is_a_system_message(client: openai.OpenAI, model: str) -> None:
    def prompt(role: str) -> str:
        messages = [{"role": role, "content": "Be brief."}, *HELLO]
        answer = ask(client, model, messages, extra_body={"_debug_render_only": True})
        return str(answer.model_extra["_debug_info"]["rendered_template"])

    assert prompt("developer") == prompt("system")
    assert "<|im_start|>system\nBe brief." in prompt("system")


def test_parts_and_refusals_are_text(client: openai.OpenAI, model: str) -> None:
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "never"}]},
        {"role": "assistant", "content": None, "refusal": "not at all"},
        *HELLO,
    ]
    rendered = ask(client, model, messages, extra_body={"_debug_render_only": True})
    prompt = rendered.model_extra["_debug_info"]["rendered_template"]
    assert "one\ntwo" in prompt
    assert "never" in prompt
    assert "not at all" in prompt


def test_the_extras_of_llama_cpp_and_ollama_are_honoured(client: openai.OpenAI, model: str) -> None:
    extras = {"top_k": 1, "repeat_penalty": 1.0, "n_predict": 4, "cache_prompt": True, "think": False, "keep_alive": "1h",
              "options": {"num_ctx": 512, "min_p": 0.1}}  # fmt: skip
    raw = client.chat.completions.with_raw_response.create(
        model=model, messages=HELLO, temperature=2.0, extra_body=extras
    )
    assert "x-corral-ignored-options" not in raw.headers
    answer = raw.parse()
    assert answer.choices[0].message.content == "Hello! How can"  # four tokens, of which the likeliest alone may come
    assert answer.usage.completion_tokens == 4


def test_what_changes_nothing_here_is_accepted_and_what_is_unknown_is_named(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="tiny",
        messages=HELLO,
        max_tokens=1,
        metadata={"a": "b"},
        user="someone",
        safety_identifier="x",
        prompt_cache_key="y",
        prediction={"type": "content", "content": "Hello"},
        service_tier="auto",
        store=True,
        verbosity="low",
        modalities=["text"],
        extra_body={"wild": 1, "absent": None, "chat_template_kwargs": {"enable_thinking": False, "other": 1}},
    )
    ignored = raw.headers["x-corral-ignored-options"].split(", ")
    assert sorted(ignored) == ["chat_template_kwargs.other", "store", "verbosity", "wild"]


def test_the_models_own_parameters_are_the_defaults(openai_server: RunningServer, client: openai.OpenAI) -> None:
    with ollama.Client(openai_server.url) as native:
        assert native.create("short", from_="tinygo", parameters={"num_predict": 3}).status == "success"
    assert client.chat.completions.create(model="short", messages=HELLO).usage.completion_tokens == 3
    assert client.chat.completions.create(model="short", messages=HELLO, max_tokens=5).usage.completion_tokens == 5


@pytest.mark.anyio
async def test_the_asynchronous_client_gets_the_same(openai_server: RunningServer, model: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{openai_server.url}/v1", api_key="none", max_retries=0) as client:
        whole = await client.chat.completions.create(model=model, messages=HELLO, temperature=0)
        stream = await client.chat.completions.create(model=model, messages=HELLO, temperature=0, stream=True)
        chunks = [chunk async for chunk in stream]
    assert whole.choices[0].message.content == ANSWER
    assert said(chunks) == {0: ANSWER}


def test_models_are_listed_and_found(client: openai.OpenAI) -> None:
    assert "tinygo:latest" in [found.id for found in client.models.list()]
    assert client.models.retrieve("tinygo").owned_by == "library"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("hf.co/no/such")
    assert caught.value.code == "model_not_found"
