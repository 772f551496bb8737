"""``/v1/embeddings`` through the genuine ``openai`` client, which asks for base64."""

from __future__ import annotations

from typing import Any

import numpy as np
import openai
import pytest

from tests import minilm

pytestmark = pytest.mark.skipif(minilm.published() is None, reason=minilm.MISSING)

CLS, HELLO, WORLD, SEP = 101, 7592, 2088, 102


def embed(client: openai.OpenAI, input: Any, **more: Any) -> Any:  # noqa: A002
    return client.embeddings.create(model="minilm", input=input, **more)


def test_base64_and_numbers_are_the_same_vector(client: openai.OpenAI) -> None:
    packed, plain = embed(client, "hello world"), embed(client, "hello world", encoding_format="float")
    assert len(packed.data[0].embedding) == 384
    assert np.array_equal(np.float32(packed.data[0].embedding), np.float32(plain.data[0].embedding))
    assert (packed.usage.prompt_tokens, packed.usage.total_tokens) == (4, 4)


def test_texts_keep_their_order_and_count_together(client: openai.OpenAI) -> None:
    several = embed(client, ["hello world", "", "cats"])
    assert [row.index for row in several.data] == [0, 1, 2]
    for row, text in zip(several.data, ["hello world", "", "cats"], strict=True):
        assert np.allclose(row.embedding, embed(client, text).data[0].embedding, atol=1e-5)
    assert several.usage.prompt_tokens == 4 + 2 + 3


def test_tokens_are_embedded_as_they_stand(client: openai.OpenAI) -> None:
    text = embed(client, "hello world").data[0].embedding
    tokens = [CLS, HELLO, WORLD, SEP]
    assert np.allclose(embed(client, tokens).data[0].embedding, text, atol=1e-5)
    lists = embed(client, [tokens, [CLS, HELLO, SEP]])
    assert np.allclose(lists.data[0].embedding, text, atol=1e-5)
    assert len(lists.data) == 2


def test_fewer_dimensions_are_of_unit_length(client: openai.OpenAI) -> None:
    vector = embed(client, "hello world", dimensions=64).data[0].embedding
    assert len(vector) == 64
    assert np.isclose(np.linalg.norm(vector), 1, atol=1e-5)


@pytest.mark.parametrize("too_long", ["word " * 2000, [CLS] * 600])
def test_what_is_too_long_is_refused_with_the_numbers(client: openai.OpenAI, too_long: Any) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        embed(client, too_long)
    assert caught.value.code == "context_length_exceeded"
    assert "input 0 has" in caught.value.message


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        ({"input": []}, "input"),
        ({"input": None}, "input"),
        ({"input": {"a": 1}}, "input"),
        ({"input": [[]]}, "input[0]"),
        ({"input": ["a", 1]}, "input[1]"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "dimensions": 385}, "dimensions"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
    ],
)
def test_what_cannot_be_is_refused_by_name(client: openai.OpenAI, sent: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="minilm", **sent)
    assert caught.value.param == param


def test_a_model_that_does_not_embed_says_so(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match='"tiny" does not support embeddings'):
        client.embeddings.create(model="tiny", input="a")
