"""Grammars that clients write themselves, checked, and with names that clash with none of ours."""

from __future__ import annotations

import re

from corral.errors import InvalidRequest
from corral.grammar.gbnf import Grammar

_TOKEN = re.compile(
    r"""(?P<comment>\#[^\n]*)|(?P<quoted>"(?:[^"\\\n]|\\.)*")|(?P<set>\[(?:[^\]\\\n]|\\.)*\])|(?P<name>[A-Za-z0-9_-]+)"""
    r"""|(?P<count>\{[0-9]+(?:,[0-9]*)?\})|(?P<token><\[[0-9]+\]>|!?<[^<>\s]+>)|(?P<is>::=)|(?P<sign>[|()*+?.!])|(?P<space>\s+)""",
    re.VERBOSE,
)


Token = tuple[str, str]  # its kind, and its text


def add_grammar(grammar: Grammar, text: str) -> str:
    """An expression for what the GBNF ``text`` describes. Raises `InvalidRequest` that says what is wrong with it."""
    grammar.add_rules(
        (_own(name), " ".join(_own(w) if k == "name" else w for k, w in rule)) for name, rule in rules_in(text).items()
    )
    return _own("root")


def rules_in(text: str) -> dict[str, list[Token]]:
    """The rules of the GBNF ``text`` by name. Raises `InvalidRequest` that says what is wrong with it."""
    tokens = _tokens(text)
    starts = [at for at, (kind, _) in enumerate(tokens) if kind == "is"]
    if not starts:
        raise InvalidRequest('"grammar" has no rules; a rule is written: root ::= "yes" | "no"')
    rules: dict[str, list[Token]] = {}
    for at, following in zip(starts, [*starts[1:], len(tokens) + 1], strict=True):
        if not at or tokens[at - 1][0] != "name":
            raise InvalidRequest('"grammar": a name has to stand before each ::=')
        rules[tokens[at - 1][1]] = tokens[at + 1 : following - 1]
    if starts[0] != 1:
        raise InvalidRequest(f'"grammar" begins with {tokens[0][1]!r}, which belongs to no rule')
    if "root" not in rules:
        raise InvalidRequest('"grammar" has no rule "root", with which every grammar begins')
    for name, rule in rules.items():
        missing = next((word for kind, word in rule if kind == "name" and word not in rules), None)
        if missing is not None:
            raise InvalidRequest(f'"grammar": the rule "{name}" uses "{missing}", which is not defined')
    return rules


def _own(name: str) -> str:
    return f"own-{name.replace('_', '--')}"  # the engine knows no underscore


def _tokens(text: str) -> list[Token]:
    found: list[Token] = []
    at = 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            line = text.count("\n", 0, at) + 1
            raise InvalidRequest(f'"grammar" cannot be read at {text[at : at + 20]!r} in line {line}')
        kind = str(token.lastgroup)
        if kind not in ("space", "comment"):
            found.append((kind, token[0]))
        at = token.end()
    return found
