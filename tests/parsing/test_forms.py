"""What templates tell about calls, and answers in the forms that were found, cut into pieces in all ways."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from corral.parsing import CallForm, FormSplitter, ParsedCall
from corral.parsing.forms import Shown, Tagged, call_form
from tests.parsing.test_tools import cut

XML = CallForm(
    "<tool_call>\n<function=", "", ">\n</function>\n</tool_call>\n<tool_call>\n<function=", ">\n</function>\n</tool_call>",
    Tagged(">\n<parameter=", ">\n", "", "", "\n</parameter"),
)  # fmt: skip
BARE = CallForm(
    "<start_function_call>call:", "{", "}<end_function_call><start_function_call>call:", "}<end_function_call>",
    Tagged("", ":", "<escape>", "<escape>", "", ","),
)  # fmt: skip
CHANNELS = CallForm(
    "to=functions.", "<|channel|>commentary json<|message|>", None, "", None, "<|channel|>final<|message|>", "<|end|>"
)
WITH_IDS = CallForm('[TOOL_CALLS][{"name": "', '", "arguments": ', ', "id": "\0"}, {"name": "', ', "id": "\0"}]')
TEXTS = {"get": ["city"], "get_all": []}


def read(form: CallForm, written: str, chooser: random.Random) -> tuple[list[tuple[str, Any]], str]:
    splitter = FormSplitter(form, TEXTS)
    pieces = [piece for text in cut(written, chooser) for piece in splitter.feed(text)] + splitter.flush()
    calls = [(piece.name, json.loads(piece.arguments)) for piece in pieces if isinstance(piece, ParsedCall)]
    return calls, "".join(piece[1] for piece in pieces if not isinstance(piece, ParsedCall) and piece[0] == "text")


@pytest.mark.parametrize(
    ("form", "written", "calls", "text"),
    [
        (XML, XML.begin + "get>\n<parameter=city>\n12\n</parameter>\n<parameter=days>\n12\n</parameter" + XML.end,
         [("get", {"city": "12", "days": 12})], ""),
        (XML, "<tool_call>\n<function=get_all>\n</function>\n</tool_call>\n<tool_call>\n<function=get>\n</function>\n</tool_call>",
         [("get_all", {}), ("get", {})], ""),
        (XML, "so <tool_call>\n<function=nope>\n</function>", [], "so <tool_call>\n<function=nope>\n</function>"),
        (BARE, "<start_function_call>call:get{city:<escape>a, b}<escape>,n:[1,2],ok:true}<end_function_call>",
         [("get", {"city": "a, b}", "n": [1, 2], "ok": True})], ""),
        (BARE, "<start_function_call>call:get_all{}<end_function_call>", [("get_all", {})], ""),
        (CHANNELS, ' to=functions.get<|channel|>commentary json<|message|>{"city": "Rome"}', [("get", {"city": "Rome"})], ""),
        (CHANNELS, "<|channel|>final<|message|>It is <b>.<|end|>", [], "It is <b>."),
        (WITH_IDS, '[TOOL_CALLS][{"name": "get", "arguments": {}, "id": "a1"}, {"name": "get_all", "arguments": {}, "id": "b2"}]',
         [("get", {}), ("get_all", {})], ""),
    ],
)  # fmt: skip
def test_an_answer_in_a_form_is_read_the_same_in_any_pieces(
    form: CallForm, written: str, calls: list[tuple[str, Any]], text: str
) -> None:
    chooser = random.Random(1)
    for _ in range(60):
        assert read(form, written, chooser) == (calls, text)


def test_a_call_that_is_cut_off_is_text() -> None:
    written = "<tool_call>\n<function=get>\n<parameter=city>\nRo"
    assert read(XML, written, random.Random(1)) == ([], written)


def _xml(name: str, **arguments: object) -> str:
    inside = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in arguments.items())
    return f"<tool_call>\n<function={name}>\n{inside}</function>\n</tool_call>"


def test_a_form_is_found_by_what_stands_around_names_and_values() -> None:
    user, model, end = "<|im_start|>user\n", "<|im_start|>assistant\n", "<|im_end|>\n"
    asked = f"{user}corral_question{end}"
    first = _xml("corral_first_tool", corral_key="corral_value", corral_number=74119, corral_third="corral_fourth")
    second = _xml("corral_second_tool", corral_other="corral_more")
    result = f"<|im_start|>tool\ncorral_result{end}"
    said = f"{asked}{model}corral_said_this{end}"
    called = f"{asked}{model}{first}\n{second}{end}{result}{asked}{model}"
    shown = Shown(asked + model, said + asked + model, said + result + asked + model, ["", called])
    assert call_form(shown) == XML
    one = f"{asked}{model}{first}{end}{result}{asked}{model}"
    found = call_form(Shown(asked + model, said + asked + model, "", [one]))
    assert found is not None
    assert (found.joint, found.end, found.arguments) == (None, XML.end, XML.arguments)
