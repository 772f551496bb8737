"""How long a text can get that a grammar allows."""

from __future__ import annotations

import random

import pytest

from corral.engine.base import OutputFormat
from corral.grammar import longest
from corral.parsing.forms import USUAL
from corral.runtime.formats import Wanted, answer_grammar


@pytest.mark.parametrize(
    ("grammar", "bound"),
    [
        ('root ::= "yes" | "no"', 3),
        (r'root ::= "a\n\x41é\u20ac\U0001F600"', 12),
        ("root ::= [a-c] [a-é] [^a] .", 11),
        ('root ::= ("ab" | "c" x){2,3} x?\nx ::= "12" "34" | ""', 19),
        ('root ::= "abc"{4}', 12),
        ('root ::= "a"{0} ""* ()+', 0),
        ("root ::= <think> !<[7]>", 2),
        ('root ::= "a"*', None),
        ('root ::= "a"{2,}', None),
        ("root ::= [0-9]+", None),
        ('root ::= "(" root ")" | ""', None),
        ('root ::= a\na ::= "x" b?\nb ::= a', None),
        ("root ::= missing", None),
        ('root ::= ("a"', None),
        ('root ::= "a")', None),
        ("root ::= " + "(" * 20_000 + '"a"' + ")" * 20_000, None),
    ],
)
def test_the_bound_of_a_grammar(grammar: str, bound: int | None) -> None:
    assert longest(grammar) == bound


def test_no_text_of_a_random_grammar_is_longer_than_its_bound() -> None:
    rng = random.Random(1)
    reached = 0
    for _ in range(300):
        grammar, texts = _random(rng, 3)
        bound = longest(f"root ::= {grammar}")
        sizes = [len(text.encode()) for text in texts]
        assert bound is not None
        assert max(sizes) <= bound, grammar
        reached += max(sizes) == bound
    assert reached > 150


def _random(rng: random.Random, depth: int) -> tuple[str, list[str]]:
    """An expression, and some of its texts, the longest often among them."""
    kind = rng.choice(("literal", "set") if not depth else ("literal", "set", "either", "both", "times"))
    if kind == "literal":
        text = "".join(rng.choice("aé€😀") for _ in range(rng.randrange(4)))
        return f'"{text}"', [text]
    if kind == "set":
        return "[a-cé]", ["a", "é"]
    if kind == "times":
        inside, texts = _random(rng, depth - 1)
        least = rng.randrange(3)
        most = least + rng.randrange(3)
        return f"({inside}){{{least},{most}}}", [
            max(texts, key=lambda text: len(text.encode())) * most,
            texts[0] * least,
        ]
    one, other = _random(rng, depth - 1), _random(rng, depth - 1)
    if kind == "either":
        return f"({one[0]} | {other[0]})", [*one[1], *other[1]]
    return f"{one[0]} {other[0]}", [a + b for a in one[1] for b in other[1]][:200]


@pytest.mark.parametrize(
    ("schema", "bounded"),
    [
        ({"type": "object", "properties": {"mood": {"enum": ["good", "bad"]}}, "required": ["mood"]}, True),
        ({"type": "object", "additionalProperties": {"type": "null"}}, False),
        (
            {
                "type": "object",
                "properties": {"mood": {"enum": ["good", "bad"]}, "sure": {"type": "boolean"}, "stars": {"type": "integer"}},
                "required": ["mood", "sure", "stars"],
                "additionalProperties": False,
            },
            True,
        ),
        ({"type": "array", "items": {"type": "string", "maxLength": 9}, "maxItems": 3}, True),
        ({"type": "array", "items": {"type": "null"}}, False),
        ({"type": "string"}, False),
    ],
)  # fmt: skip
def test_a_schema_bounds_an_answer_where_it_bounds_all_its_parts(schema: dict[str, object], bounded: bool) -> None:
    grammar = answer_grammar(Wanted(OutputFormat(schema=schema)), None, USUAL)  # type: ignore[arg-type]
    assert (longest(grammar) is not None) == bounded
