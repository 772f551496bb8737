"""What a grammar cannot hold an answer to is refused by keyword and place; what says nothing about a value passes."""

from __future__ import annotations

from typing import Any

import pytest

from corral.errors import InvalidRequest
from corral.grammar import Grammar, add_grammar, add_regex, add_schema


def grammar_of(schema: dict[str, Any]) -> str:
    grammar = Grammar()
    return grammar.text(add_schema(grammar, schema))


@pytest.mark.parametrize(
    "keyword",
    ["not", "if", "then", "else", "patternProperties", "propertyNames", "dependentRequired", "dependentSchemas", "dependencies",
     "contains", "minContains", "$dynamicRef", "madeUp"],
)  # fmt: skip
def test_a_keyword_that_no_grammar_enforces_is_refused_where_it_stands(keyword: str) -> None:
    schema = {"type": "object", "properties": {"a/b": {"type": "array", "items": {"type": "string", keyword: {}}}}}
    with pytest.raises(InvalidRequest) as refused:
        grammar_of(schema)
    assert f'"{keyword}" at #/properties/a~1b/items cannot be enforced' in str(refused.value)


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "nonsense"}, "\"type\" at # is 'nonsense'"),
        ({"type": []}, '"type" at # names no type'),
        ({"enum": []}, '"enum" at # must be a list of values'),
        ({"type": "string", "enum": [1, 2]}, "no value of the enum has the type"),
        ({"enum": [1], "const": 2}, "the const is none of the enum"),
        ({"type": "array", "uniqueItems": True}, '"uniqueItems" at # cannot be enforced'),
        ({"multipleOf": 3}, '"multipleOf" at # cannot be enforced'),
        ({"type": "string", "format": "idn-email"}, "\"format\" at # is 'idn-email'"),
        ({"pattern": "^a+$", "maxLength": 3}, '"pattern" at # matches texts that minLength and maxLength do not allow'),
        ({"pattern": "^a$", "format": "date"}, '"pattern" at # stands beside a format'),
        ({"minLength": 3, "maxLength": 2}, "minLength is more than maxLength"),
        ({"minItems": 3, "maxItems": 2}, "minItems is more than maxItems"),
        ({"minLength": -1}, '"minLength" at # must be a whole number from 0 on'),
        ({"type": "integer", "minimum": 1.2, "maximum": 1.8}, "no integer is within the limits"),
        ({"type": "number", "minimum": 2, "maximum": 1}, "no number is within the limits"),
        ({"minimum": "1"}, '"minimum" at # must be a number'),
        ({"$ref": "#/$defs/nope"}, "which is not in this schema"),
        ({"$ref": "https://example.com/s.json"}, "which is not in this schema"),
        ({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, '"$ref" at # refers to itself'),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "it asks for string and for integer"),
        ({"allOf": [{"const": 1}, {"const": 2}]}, "it asks for 1 and for 2"),
        (
            {"oneOf": [{"type": "integer"}, {"type": "number"}]},
            '"oneOf" at # has branches that a value may be of at once',
        ),
        ({"anyOf": []}, '"anyOf" at # must be a list of schemas'),
        ({"properties": {"a": False}, "required": ["a"]}, "nothing is allowed"),
        ({"required": ["a"], "properties": {"b": {}}, "additionalProperties": False}, "'a' is required, and not among"),
        ({"minProperties": 2, "properties": {"a": {}}}, '"minProperties" at # is more than'),
        ({"type": "object", "maxProperties": 2}, '"maxProperties" at # is less than'),
        ({"properties": {"a": 5}}, "at #/properties/a stands 5, which is no schema"),
    ],
)
def test_what_makes_no_sense_or_cannot_be_said_is_refused_with_the_reason(schema: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        grammar_of(schema)
    assert why in str(refused.value)


def test_a_schema_without_an_end_is_refused_and_does_not_take_the_server() -> None:
    schema: dict[str, Any] = {}
    for _ in range(3000):
        schema = {"type": "array", "items": schema}
    with pytest.raises(InvalidRequest, match="nested too deep"):
        grammar_of(schema)
    with pytest.raises(InvalidRequest, match="too large"):
        grammar_of({"enum": ["x" * 1000 + str(n) for n in range(1000)]})
    with pytest.raises(InvalidRequest, match="more than 1000000 times"):
        grammar_of({"type": "string", "minLength": 10**7})


def test_annotations_pass() -> None:
    annotated = {
        "$schema": "x", "$id": "x", "$comment": "x", "title": "T", "description": "D", "default": 1, "examples": [2],
        "deprecated": True, "readOnly": True, "x-order": 3, "type": "integer", "maximum": 5,
    }  # fmt: skip
    assert grammar_of(annotated) == grammar_of({"type": "integer", "maximum": 5})


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(?=a)", "lookarounds"), ("(?<!a)b", "lookarounds"), ("(?i)a", "lookarounds and flags"), (r"(a)\1", "references"),
        (r"\bword", r"\b cannot be expressed"), (r"\p{L}", r"\p cannot be expressed"), ("a++", "possessive"), ("a**", "possessive"),
        ("*a", "nothing to repeat"), ("(a", "closing parenthesis is missing"), ("a)", "parenthesis too many"), ("[a", "bracket"),
        ("a{3,2}", "out of order"), ("[z-a]", "out of order"), ("a\\", "ends with a backslash"), ("a^b", "at the ends only"),
        ("[]", "no character"), (r"\u{110000}", "this is no character"),
    ],
)  # fmt: skip
def test_a_pattern_that_cannot_be_expressed_is_refused(pattern: str, why: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        add_regex(Grammar(), pattern)
    assert why in str(refused.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "has no rules"), ('yes ::= "a"', 'has no rule "root"'), ("root ::= other", '"other", which is not defined'),
        ('root ::= "a', "cannot be read at '\"a' in line 1"), ('"x" root ::= "a"', "belongs to no rule"),
        ('root ::= "a"\n::= "b"', "a name has to stand before each"),
    ],
)  # fmt: skip
def test_a_grammar_with_a_mistake_is_refused_with_its_place(text: str, why: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        add_grammar(Grammar(), text)
    assert why in str(refused.value)
