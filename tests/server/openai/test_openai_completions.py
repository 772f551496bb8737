"""``/v1/completions`` through the genuine ``openai`` client."""

from __future__ import annotations

from typing import Any

import openai
import pytest

ANSWER = "Hello! How can I help you?"
THOUGHT = "The user greets me or asks who I am.\n"
PROMPT = "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
RAW = {"raw": True}


def complete(client: openai.OpenAI, model: str, prompt: Any = "Hello", **more: Any) -> Any:
    return client.completions.create(model=model, prompt=prompt, temperature=0, **more)


def test_a_prompt_is_put_into_the_template_and_the_thought_is_no_text(client: openai.OpenAI, model: str) -> None:
    answer = complete(client, model, max_tokens=64)
    (choice,) = answer.choices
    assert (choice.text, choice.finish_reason, choice.reasoning) == (ANSWER, "stop", THOUGHT)
    assert answer.usage.completion_tokens_details.reasoning_tokens == 13
    chunks = list(complete(client, model, max_tokens=64, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == ANSWER
    assert "".join(getattr(chunk.choices[0], "reasoning", "") for chunk in chunks[:-1]) == THOUGHT
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == answer.usage.model_copy(
        update={"prompt_tokens_details": chunks[-1].usage.prompt_tokens_details}
    )


def test_a_raw_prompt_is_continued_as_it_stands(client: openai.OpenAI, model: str) -> None:
    answer = complete(client, model, PROMPT, extra_body=RAW, max_tokens=64)
    assert answer.choices[0].text == ANSWER
    assert answer.usage.prompt_tokens == 9


def test_several_prompts_have_n_answers_each_in_order(client: openai.OpenAI, model: str) -> None:
    answer = complete(client, model, ["Hello", "Who are you?"], n=2, best_of=2, max_tokens=64)
    texts = [choice.text for choice in answer.choices]
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert texts[0] == texts[1] == ANSWER
    assert texts[2] == texts[3] != ANSWER
    single = [complete(client, model, text, max_tokens=64).usage.prompt_tokens for text in ("Hello", "Who are you?")]
    assert answer.usage.prompt_tokens == sum(single)


def test_several_prompts_stream_by_their_index(client: openai.OpenAI, model: str) -> None:
    texts = {0: "", 1: ""}
    for chunk in complete(client, model, [PROMPT, PROMPT + "Hello!"], extra_body=RAW, stream=True, echo=True):
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == {0: PROMPT + ANSWER, 1: PROMPT + ANSWER}


def test_tokens_are_continued_as_they_stand(client: openai.OpenAI, model: str) -> None:
    text = complete(client, model, PROMPT, extra_body=RAW, max_tokens=3).choices[0].text
    answer = complete(client, model, [[682, 9, 728], [682]], max_tokens=1)
    assert text == "Hello! How"  # the tokens 682, 9, 728
    assert answer.choices[0].text == " can"
    assert answer.usage.prompt_tokens == 4
    assert complete(client, model, [682, 9, 728], max_tokens=1).choices[0].text == " can"


def test_echo_puts_the_prompt_before_the_answer(client: openai.OpenAI, model: str) -> None:
    assert complete(client, model, echo=True, max_tokens=64).choices[0].text == "Hello" + ANSWER


def test_logprobs_have_the_old_shape(client: openai.OpenAI, model: str) -> None:
    found = complete(client, model, logprobs=2, max_tokens=16)
    logprobs, text = found.choices[0].logprobs, found.choices[0].text
    assert "".join(logprobs.tokens) == text
    assert all(text[at:].startswith(t) for at, t in zip(logprobs.text_offset, logprobs.tokens, strict=True))
    assert logprobs.text_offset[0] == 0
    assert all(token in top for token, top in zip(logprobs.tokens, logprobs.top_logprobs, strict=True))
    assert all(number <= 0 for number in logprobs.token_logprobs)
    streamed = [
        token
        for chunk in complete(client, model, logprobs=2, max_tokens=16, stream=True)
        if chunk.choices[0].logprobs
        for token in chunk.choices[0].logprobs.tokens
    ]
    assert streamed == logprobs.tokens


def test_an_empty_prompt_loads_the_model(client: openai.OpenAI, model: str) -> None:
    answer = complete(client, model, "")
    assert (answer.choices[0].text, answer.choices[0].finish_reason, answer.usage.total_tokens) == ("", "stop", 0)
    assert [chunk.choices[0].finish_reason for chunk in complete(client, model, "", stream=True)] == ["stop"]


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt[0]"),
        ({"prompt": ["a", 1]}, "prompt[1]"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": ["a"] * 2000, "n": 2}, "prompt"),
        ({"prompt": "a", "best_of": 3}, "best_of"),
        ({"prompt": "a", "logprobs": True}, "logprobs"),
        ({"prompt": "a", "logprobs": 21}, "logprobs"),
        ({"prompt": "a", "echo": True, "logprobs": 1}, "echo"),
        ({"prompt": [1], "echo": True}, "echo"),
        ({"prompt": "a", "stop": ["x", 5]}, "stop"),
        ({"prompt": "a", "suffix": "x", "extra_body": RAW}, "suffix"),
    ],
)
def test_what_cannot_be_is_refused_by_name(client: openai.OpenAI, sent: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="tiny", **sent)
    assert caught.value.param == param


def test_a_token_that_the_model_does_not_have_is_refused(client: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.BadRequestError, match="the token 2000000000 is not in the vocabulary") as caught:
        complete(client, model, [2_000_000_000], max_tokens=1)
    assert caught.value.param == "prompt"
    with pytest.raises(openai.BadRequestError, match="the token 99999 is not in the vocabulary") as caught:
        complete(client, model, "Hello", max_tokens=1, logit_bias={"99999": 5})
    assert caught.value.param == "logit_bias"


def test_a_suffix_needs_a_model_that_inserts(client: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.BadRequestError, match="does not support insert"):
        complete(client, model, suffix="x")
