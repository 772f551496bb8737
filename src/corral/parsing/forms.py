"""The form in which a model's template writes calls, found by looking at some that it wrote; and what stands around its answers.

The arguments are an object of JSON, or each has marks of its own (`Tagged`), as in XML. Answers in the form are read by
`corral.parsing.formed`, those that are free by `corral.parsing.tools`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from corral.parsing.marks import without_thoughts

# What a template is given to write, and looked for in what it wrote.
TEXT = "corral_said_this"
NAMES = ("corral_first_tool", "corral_second_tool")
RESULT = "corral_result"
QUESTION = "corral_question"
KEYS, VALUES = ("corral_key", "corral_number", "corral_third"), ("corral_value", "74119", "corral_fourth")
ARGUMENTS = (
    '{"corral_key": "corral_value", "corral_number": 74119, "corral_third": "corral_fourth"}',
    '{"corral_other": "corral_more"}',
)
IDS = (("corral001", "corral002"), tuple(f"functions.{name}:{n}" for n, name in enumerate(NAMES)))

ID = "\0"  # stands for whatever number or name a call is given
_ID_IN_TEXT = re.compile(r"corral00[12]")
# Tokens that end an answer: no grammar has them, and no answer shows them.
_ENDS = (
    "<|call|>",
    "<|return|>",
    "<|end|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "</s>",
    "<end_of_turn>",
)
_MARK = re.compile(r"<[^<>\s]+>|\[/?[A-Z_]+\]")
_BOUNDARY = re.compile(r"<[^<>\s]+>|\[|\s|$")


@dataclass(frozen=True, slots=True)
class Tagged:
    """Arguments one by one: ``key`` stands before a name, ``value`` behind it, ``after`` behind the value.

    Texts are as they are, between ``quote`` and ``unquote``; what is no text is JSON. ``separator`` stands before each
    but the first.
    """

    key: str
    value: str
    quote: str
    unquote: str
    after: str
    separator: str = ""


@dataclass(frozen=True, slots=True)
class CallForm:
    """A call is ``begin``, a name, ``middle``, its arguments; ``joint`` stands before a further one's name, ``end`` last.

    Without ``joint`` there is one call at most. `ID` in them stands for whatever the call is numbered with. An answer
    that is no call has ``lead`` before it and ``trail`` behind.
    """

    begin: str
    middle: str
    joint: str | None
    end: str
    arguments: Tagged | None = None
    lead: str = ""
    trail: str = ""

    @property
    def marks(self) -> tuple[str, ...]:
        """What in it may be tokens of their own."""
        tags = self.arguments
        each = (tags.key, tags.value, tags.quote, tags.unquote, tags.after + ">") if tags else ()
        texts = (self.begin, self.middle, self.joint or "", self.end, self.lead, self.trail, *each)
        return marks_in(*texts)


def marks_in(*texts: str) -> tuple[str, ...]:
    """What in ``texts`` may be tokens of their own.

    >>> marks_in("<|channel|>analysis<|message|>", "</think>")
    ('<|channel|>', '<|message|>', '</think>')
    """
    return tuple(dict.fromkeys(mark for text in texts for mark in _MARK.findall(text)))


USUAL = CallForm('{"name": "', '", "arguments": ', '}\n{"name": "', "}")


@dataclass(frozen=True, slots=True)
class Shown:
    """What a template made of conversations: a question, an answer to it and a further question; the same with a result instead of
    the further question; and ones with calls and their results, the best first. What it refused is empty."""

    opened: str
    said: str
    told: str
    called: Sequence[str]


def call_form(shown: Shown) -> CallForm | None:
    """The form of calls, ``None`` where none can be told."""
    text = shown.said.find(TEXT)
    if text < 0:
        return None
    begins = next((at for at, c in enumerate(shown.opened) if shown.said[at : at + 1] != c), len(shown.opened))
    begins = min(begins, text)
    lead = without_thoughts(shown.said[begins:text]).strip()
    for called in shown.called:
        form = _form(shown, called, begins, text, lead)
        if form is not None:
            return form
    return None


def _form(shown: Shown, called: str, begins: int, text: int, lead: str) -> CallForm | None:
    said = shown.said
    differ = next((at for at in range(text) if called[at : at + 1] != said[at]), text)
    start, names = min(begins, differ), [called.find(name, differ) for name in NAMES]
    if names[0] < 0:
        return None
    spans: list[tuple[int, int]] = []  # of the arguments of each call
    tagged: Tagged | None = None
    middle = ""
    for number, (at, arguments) in enumerate(zip(names, ARGUMENTS, strict=True)):
        if at < 0:
            continue
        behind = at + len(NAMES[number])
        begin = called.find("{", behind)
        closed = _object_end(called, begin, json.loads(arguments))
        if closed is None:
            break
        spans.append((begin, closed))
        found = called[behind:begin]
        if number and found != middle:
            if _numbered(found) != _numbered(middle):
                return None
            found = _numbered(found)
        middle = found
    else:
        if not middle.strip('" '):
            return None
    if not spans:
        found_tags = _tags(called, names)
        if found_tags is None:
            return None
        tagged, middle, spans = found_tags
    rest = called[spans[-1][1] : called.find(RESULT, spans[-1][1])]
    end, trail = _ending(rest, shown, text)
    joint = called[spans[0][1] : names[1]] if len(spans) > 1 else None
    begin_text = without_thoughts(called[start : names[0]]).lstrip()
    if not (begin_text or middle.strip('" ')) or end is None:
        return None
    return CallForm(
        _ID_IN_TEXT.sub(ID, begin_text),
        _ID_IN_TEXT.sub(ID, middle),
        None if joint is None else _ID_IN_TEXT.sub(ID, joint),
        _ID_IN_TEXT.sub(ID, end),
        tagged,
        _ended(lead),
        trail,
    )


def _numbered(text: str) -> str:
    """``text`` without the number of a call."""
    return re.sub(r"(?<=:)\d+", ID, text)


def _ending(rest: str, shown: Shown, text: int) -> tuple[str | None, str]:
    """How calls end, and how an answer does, where ``rest`` stands between a call and its result."""
    said = text + len(TEXT)
    told = shown.told[shown.told.find(TEXT) + len(TEXT) : shown.told.find(RESULT)] if RESULT in shown.told else ""
    if told:
        same = 0
        while same < min(len(rest), len(told)) and rest[-1 - same] == told[-1 - same]:
            same += 1
        boundary = _BOUNDARY.search(told, len(told) - same)
        same = len(told) - (boundary.start() if boundary else len(told))
        if same:
            return _ended(rest[: len(rest) - same]), _ended(told[: len(told) - same])
    for mark in _MARK.findall(shown.said[said : shown.said.find(QUESTION, said)]):
        if (at := rest.find(mark)) >= 0:
            return _ended(rest[:at]), ""
    return None, ""


def _ended(text: str) -> str:
    """``text`` up to a token that ends an answer."""
    first = min((at for end in _ENDS if (at := text.find(end)) >= 0), default=len(text))
    return text[:first].rstrip()


def _tags(called: str, names: Sequence[int]) -> tuple[Tagged, str, list[tuple[int, int]]] | None:
    """The marks around arguments, what stands behind the name, and where the arguments of each call are."""
    at, places = names[0] + len(NAMES[0]), []
    for key, value in zip(KEYS, VALUES, strict=True):
        key_at = called.find(key, at)
        value_at = called.find(value, key_at)
        if key_at < 0 or value_at < 0:
            return None
        places.append((key_at, key_at + len(key), value_at, value_at + len(value)))
        at = places[-1][3]
    first, number, third = places
    value = called[number[1] : number[2]]
    opening = called[first[1] : first[2]]
    between, after_text = called[number[3] : third[0]], called[first[3] : number[0]]
    if not value or not opening.startswith(value) or not after_text.endswith(between):
        return None
    quote, unquote = opening[len(value) :], after_text[: len(after_text) - len(between)]
    before = called[names[0] + len(NAMES[0]) : first[0]]
    size = 0
    while size < min(len(before), len(between)) and before[-1 - size] == between[-1 - size]:
        size += 1
    key = between[len(between) - size :]
    rest, tail = between[: len(between) - size], called[third[3] :]
    if not tail.startswith(unquote):
        return None
    tail = tail[len(unquote) :]
    same = next((n for n, c in enumerate(rest) if tail[n : n + 1] != c), len(rest))
    tags = Tagged(key, value, quote, unquote, rest[:same], rest[same:])
    middle = before[: len(before) - size]
    if not (tags.after or tags.separator) or not (tags.unquote or tags.after):
        return None
    spans = [(first[0], third[3] + len(unquote) + len(tags.after))]
    if len(names) > 1 and names[1] >= 0:
        more = called.find("corral_more", names[1])
        if more < 0:
            return None
        spans.append((names[1], more + len("corral_more") + len(unquote) + len(tags.after)))
    return tags, middle, spans


def _object_end(text: str, begin: int, value: object) -> int | None:
    if begin < 0:
        return None
    try:
        found, end = json.JSONDecoder().raw_decode(text, begin)
    except json.JSONDecodeError:
        return None
    return end if found == value else None
