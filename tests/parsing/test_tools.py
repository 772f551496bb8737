from __future__ import annotations

import json
import random

import pytest

from corral.parsing import ParsedCall, ToolCallSplitter, ToolPiece

NAMES = ["get_weather", "get", "now", "résumé.lookup"]
CALL = '{"name": "get_weather", "arguments": {"city": "Paris"}}'
OTHER = '{"name": "get", "parameters": {"n": 1}}'
PARIS = ("get_weather", {"city": "Paris"})


def cut(text: str, chooser: random.Random) -> list[str]:
    pieces = []
    while text:
        size = chooser.choice((1, 1, 2, 3, 5, 8, 40))
        pieces.append(text[:size])
        text = text[size:]
    return pieces


def read(tag: str, pieces: list[str], names: list[str] = NAMES) -> list[ToolPiece]:
    splitter = ToolCallSplitter(tag, names)
    return [piece for text in pieces for piece in splitter.feed(text)] + splitter.flush()


def joined(pieces: list[ToolPiece]) -> list[ToolPiece]:
    """Neighbours of one kind as one piece."""
    found: list[ToolPiece] = []
    for piece in pieces:
        last = found[-1] if found else None
        if isinstance(piece, tuple) and isinstance(last, tuple) and piece[0] == last[0]:
            found[-1] = (piece[0], last[1] + piece[1])
        else:
            found.append(piece)
    return found


def source(pieces: list[ToolPiece]) -> str:
    return "".join(piece.source if isinstance(piece, ParsedCall) else piece[1] for piece in pieces)


def text_of(pieces: list[ToolPiece]) -> str:
    return "".join(piece[1] for piece in pieces if isinstance(piece, tuple) and piece[0] == "text")


def calls_of(pieces: list[ToolPiece]) -> list[tuple[str, object]]:
    return [(piece.name, json.loads(piece.arguments)) for piece in pieces if isinstance(piece, ParsedCall)]


DEEPSEEK = (
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n"
    '{"city": "Paris"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>get\n'
    '```json\n{"n": 1}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>'
)
GET = ("get", {"n": 1})


@pytest.mark.parametrize(
    ("tag", "written", "text", "calls"),
    [
        ("<tool_call>", f"<tool_call>\n{CALL}\n</tool_call>", "", [PARIS]),
        ("<tool_call>", f"I look.\n<tool_call>{CALL}</tool_call>\n\nDone.", "I look.\nDone.", [PARIS]),
        ("<tool_call>", f"<tool_call>{CALL}</tool_call>\n<tool_call>\n{OTHER}\n</tool_call>", "", [PARIS, GET]),
        ("<tool_call>", f"<tool_call>{CALL}\n{OTHER}</tool_call>", "", [PARIS, GET]),
        ("<tool_call>", f"<tool_call>I do: {CALL}</tool_call>", "I do: ", [PARIS]),
        ("<tool_call>", f"<tool_call>{CALL}, and more", ", and more", [PARIS]),
        ("<tool_call>", '<tool_call>{"name": "now"}</tool_call>', "", [("now", {})]),
        ("<tool_call>", '<tool_call>{"name": "now", "arguments": null}', "", [("now", {})]),
        ("<tool_call>", '<tool_call>{"get": {"n": 1}}</tool_call>', "", [GET]),
        ("<tool_call>", '<tool_call>{"name": "get", "arguments": "{\\"n\\": 1}"}</tool_call>', "", [GET]),
        ("<tool_call>", '<tool_call>{"arguments": {"n": 1}, "name": "get"}</tool_call>', "", [GET]),
        ("<tool_call>", '<tool_call>{"name": "get", "arguments": {"n": "}</tool_call>"}}', "",
         [("get", {"n": "}</tool_call>"})]),
        ("[TOOL_CALLS] [", f"[TOOL_CALLS] [{CALL}, {OTHER}]", "", [PARIS, GET]),
        ("[TOOL_CALLS] [", f"[TOOL_CALLS][{CALL}] so", "so", [PARIS]),
        ("[TOOL_CALLS] [", '[TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}', "", [PARIS]),
        ("functools[", f"functools[{CALL}]", "", [PARIS]),
        ("<|tool_call|>", f"<|tool_call|>[{CALL}]<|/tool_call|>", "", [PARIS]),
        ("Action: ```json\n[", f"Action: ```json\n[\n  {CALL}\n]\n```", "", [PARIS]),
        ("<｜tool▁calls▁begin｜>", DEEPSEEK, "", [PARIS, GET]),
        ("{", CALL, "", [PARIS]),
        ("{", f"{CALL}; {OTHER}", "", [PARIS, GET]),
        ("{", f"I look:\n\n  {CALL}\nand wait", "I look:\n\n  and wait", [PARIS]),
        ("[", f"[{CALL},\n{OTHER}]\n", "", [PARIS, GET]),
        ("{", '{"type": "function", "function": {"name": "get", "parameters": {"n": 1}}}', "", [GET]),
        ("{", '{"tool_calls": [{"name": "get", "arguments": {"n": 1}}]}', "", [GET]),
    ],
)  # fmt: skip
def test_calls_are_taken_out_and_text_around_them_stays(
    tag: str, written: str, text: str, calls: list[tuple[str, object]]
) -> None:
    whole = read(tag, [written])
    assert (text_of(whole), calls_of(whole)) == (text, calls)
    for seed in range(20):
        assert joined(read(tag, cut(written, random.Random(seed)))) == joined(whole)


@pytest.mark.parametrize(
    ("tag", "written"),
    [
        ("<tool_call>", '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>'),
        ("<tool_call>", '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Pa'),
        ("<tool_call>", '<tool_call>{"name": "get", "arguments": {"n": 1}</tool_call> more'),
        ("<tool_call>", "<tool_call>{'name': 'get'}</tool_call>"),
        ("<tool_call>", '<tool_call>{"name": "get", "arguments": [1]}</tool_call>'),
        ("<tool_call>", '<tool_call>{"name": "get", "arguments": {}, "why": "important"}</tool_call>'),
        ("<tool_call>", '<tool_call>{"name": "get", "arguments": {"a": "one\ntwo"}}</tool_call>'),
        ("<tool_call>", "<tool_call>get_weather in Paris</tool_call>"),
        ("<tool_call>", "The tag is <tool_call> and the end is </tool_call>."),
        ("<tool_call>", "half a tag <tool_c"),
        ("<tool_call>", "<tool_call>" + "x" * 300 + CALL),
        ("<tool_call>", f"a call without its tag: {CALL}"),
        ("<tool_call>", "<tool_call>" * 50 + "{" * 50),
        ("{", 'int main() {\n  return 0;\n}\n{\n  "a": {"name": "get"}\n}\n[1, 2]\n{"city": "Paris"}'),
        ("{", '{"name": "Ada", "age": 36}'),
        ("{", '{"name": "get_weather", "arguments": {"city": "Par'),
        ("{", f"in a line: {CALL}"),
        ("[", "[1, 2]\n[\n]"),
        ("", "{{{{[[[["),
    ],
)
def test_what_is_no_call_comes_back_as_it_was_written(tag: str, written: str) -> None:
    for seed in range(20):
        pieces = read(tag, cut(written, random.Random(seed)))
        assert text_of(pieces) == written
        assert calls_of(pieces) == []


PARTS = (
    "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[TOOL_CALLS] [", "[ARGS]", "Action:", "```json\n", "```", "{", "}", "[", "]",
    '"', "\\", "\n", " ", ",", ";", "get", "get_weather", "unknown", "function", "<", "<|", "<|x|>", "é", "word", CALL, OTHER,
    '{"name": "get', '", "arguments": {', '{"n": 1}', ", ", "\n\n",
)  # fmt: skip


@pytest.mark.parametrize(
    "tag", ["<tool_call>", "[TOOL_CALLS] [", "Action: ```json\n[", "{", "[", "", "<|x|>", '<f n="']
)
def test_any_text_in_any_pieces_gives_the_same_and_loses_nothing(tag: str) -> None:
    for seed in range(400):
        chooser = random.Random(seed)
        written = "".join(chooser.choice((*PARTS, tag)) for _ in range(chooser.randint(1, 30)))
        whole = read(tag, [written])
        assert source(whole) == written
        pieces = read(tag, cut(written, chooser))
        assert source(pieces) == written
        assert joined(pieces) == joined(whole), written
        assert joined(read(tag, list(written))) == joined(whole), written


def test_text_is_shown_as_soon_as_it_cannot_be_a_tag() -> None:
    splitter = ToolCallSplitter("<tool_call>", NAMES)
    assert splitter.feed("Hello <to") == [("text", "Hello ")]
    assert splitter.feed("day>") == [("text", "<today>")]
    assert ToolCallSplitter("{", NAMES).feed('{"answer"') == [("text", "{"), ("text", '"answer"')]


def test_a_call_is_given_when_its_object_is_whole() -> None:
    splitter = ToolCallSplitter("<tool_call>", NAMES)
    assert splitter.feed(f"<tool_call>{CALL}") == [
        ("markup", "<tool_call>"),
        ParsedCall("get_weather", '{"city":"Paris"}', CALL),
    ]


def test_long_answers_are_read_in_linear_time() -> None:
    """Not a measurement: with quadratic steps these would not end."""
    for tag, piece in (
        ("<tool_call>", "<tool_call>{"),
        ("<tool_call>", '<tool_call>{"'),
        ("{", '{"name\n'),
        ("{", "\n"),
        ("{", "\n{"),
        ("<tool_call>", "\n"),
    ):
        written = piece * 5_000
        assert source(read(tag, [written])) == written
        assert source(read(tag, [piece] * 5_000)) == written
    arguments = json.dumps({"text": "word " * 5_000})
    long = f'<tool_call>{{"name": "get", "arguments": {arguments}}}'
    assert calls_of(read("<tool_call>", cut(long, random.Random(1)))) == [("get", json.loads(arguments))]
