"""What a request for a response cannot be: each is refused with the field and what to try."""

from __future__ import annotations

import base64
from typing import Any

import openai
import pytest


def refused(client: openai.OpenAI, **asked: Any) -> tuple[str, str | None]:
    """The text of a refusal with status 400, and the field that it names."""
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(**{"model": "tiny", "input": "Hello", **asked})
    assert caught.value.type == "invalid_request_error"
    return caught.value.body["message"], caught.value.param  # type: ignore[index]


def message(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


@pytest.mark.parametrize(
    ("asked", "says", "param"),
    [
        ({"conversation": "conv_1"}, "use previous_response_id", "conversation"),
        ({"prompt": {"id": "p"}}, "send the text as input", "prompt"),
        ({"tools": [{"type": "web_search"}]}, '"web_search" are not supported', "tools[0].type"),
        ({"tools": [{"type": "file_search", "vector_store_ids": []}]}, '"file_search" are not', "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "needs a name", "tools[0].name"),
        ({"tool_choice": "required"}, "there are no tools", "tool_choice"),
        ({"tool_choice": {"type": "function", "name": "f"}}, "not among the tools", "tool_choice"),
        ({"truncation": "sometimes"}, 'expected "disabled" or "auto"', "truncation"),
        ({"include": ["wild"]}, '"wild" is not known', "include"),
        ({"top_logprobs": 21}, "between 0 and 20", "top_logprobs"),
        ({"temperature": "hot"}, "cannot unmarshal string", "temperature"),
        ({"top_p": 2}, "at most 1", "top_p"),
        ({"metadata": {"a": 1}}, "must be a string", "metadata.a"),
        ({"metadata": {"a": "x" * 513}}, "too long", "metadata"),
        ({"text": {"format": {"type": "xml"}}}, "expected text, json_object or json_schema", "text.format.type"),
        ({"reasoning": {"effort": "wild"}}, "invalid reasoning value", "reasoning.effort"),
        ({"input": [{"type": "wild"}]}, 'unknown input item type: "wild"', "input[0].type"),
        ({"input": [{"role": "robot", "content": "x"}]}, 'unknown role "robot"', "input[0].role"),
        ({"input": message({"type": "wild"})}, "unknown content type: wild", "input[0].content[0].type"),
        ({"input": message({"type": "input_image", "file_id": "x"})}, "as a data URL", "input[0].content[0]"),
        ({"input": message({"type": "input_image", "image_url": "data:,x"})}, "invalid image input", "input[0].content[0]"),
        ({"background": True, "store": False}, 'needs "store"', "background"),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused_by_name(
    client: openai.OpenAI, asked: dict[str, Any], says: str, param: str | None
) -> None:
    text, named = refused(client, **asked)
    assert says in text
    assert named == param


def test_a_file_that_is_no_text_is_refused_by_its_name(client: openai.OpenAI) -> None:
    data = base64.b64encode(b"%PDF\0").decode()
    text, _ = refused(client, input=message({"type": "input_file", "filename": "a.pdf", "file_data": data}))
    assert '"a.pdf" is not a text' in text


def test_a_model_that_cannot_see_says_so(client: openai.OpenAI) -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
    assert refused(client, input=message(image))[0] == '"tiny" does not support images'


def test_a_prompt_that_does_not_fit_is_refused_with_the_numbers_unless_it_may_be_cut(client: openai.OpenAI) -> None:
    turns: Any = [{"role": "user", "content": "word " * 1500}, {"role": "assistant", "content": "Yes."}] * 2
    turns.append({"role": "user", "content": "Hello"})
    with pytest.raises(openai.BadRequestError, match=r"the prompt has \d+ tokens") as caught:
        client.responses.create(model="tiny", input=turns)
    assert caught.value.code == "context_length_exceeded"
    response = client.responses.create(model="tiny", input=turns, truncation="auto", temperature=0)
    assert response.model_dump()["dropped_messages"] == 2
    assert response.usage is not None
    assert response.usage.input_tokens < 2048


def test_what_means_nothing_here_is_named_in_a_header(client: openai.OpenAI) -> None:
    raw = client.responses.with_raw_response.create(
        model="tiny", input="Hello", max_output_tokens=1, text={"verbosity": "low"}, extra_body={"wild": 1}
    )
    assert raw.headers["x-corral-ignored-options"] == "wild, text.verbosity"


def test_an_unknown_model_and_compaction_are_told_apart(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="model 'nope' not found"):
        client.responses.create(model="nope", input="Hello")
    with pytest.raises(openai.BadRequestError, match="not compacted here"):
        client.responses.compact(model="tiny", input="Hello")
