"""Arguments between marks of their own: what no grammar can enforce leaves its argument free, and the call stands."""

from __future__ import annotations

from corral.grammar import Grammar
from corral.grammar.tagged import add_tagged
from corral.parsing.forms import Tagged

XML = Tagged("<", ">", "", "", "</>")


def test_one_argument_that_cannot_be_enforced_leaves_the_others_as_they_are() -> None:
    grammar = Grammar()
    odd = {"type": "integer", "multipleOf": 3}
    schema = {"properties": {"odd": odd, "unit": {"enum": ["C", "F"]}}, "required": ["odd", "unit"]}
    text = grammar.text(add_tagged(grammar, schema, XML))
    assert '"<odd>"' in text
    assert '("C" | "F")' in text


def test_arguments_may_be_left_out_where_none_is_required() -> None:
    grammar = Grammar()
    with_commas = Tagged("", ":", "'", "'", "", ",")
    text = grammar.text(add_tagged(grammar, {"properties": {"a": {"type": "string"}, "b": {}}}, with_commas))
    assert text.startswith("root ::= arguments-")
    rule = next(line for line in text.splitlines() if line.startswith("arguments-"))
    assert rule.count("|") == 1
