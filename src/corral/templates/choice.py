"""Which of a model's templates is used: the Go template, or the Jinja template in its weights.

The choice is a table: the first row that applies decides. A user's own template goes before the rows that are Ollama's
heuristics.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from corral.templates.facts import TemplateFacts

Which = Literal["go", "jinja"]

_CALLS = re.compile(r"tool_calls|assistant_tool_call")
_RESULTS = re.compile(
    r"tool_response|tool_results|ipython|role['\"]?\]?\s*==\s*['\"]tool['\"]|['\"]tool['\"]\s*==", re.IGNORECASE
)
_STRIPS_THOUGHTS = re.compile(r"content\.split\((['\"])</think>\1\)")


@dataclass(frozen=True, slots=True)
class JinjaFacts:
    """What the text of a Jinja template tells of its model."""

    tools: bool
    thinking: bool
    round_trip: bool


def jinja_facts(text: str) -> JinjaFacts:
    """What can be read from a Jinja template.

    >>> jinja_facts("{% if tools %}{{ tools | tojson }}{% endif %}<think>\\n</think>")
    JinjaFacts(tools=True, thinking=True, round_trip=False)
    """
    strips = _STRIPS_THOUGHTS.search(text) and "reasoning_content" not in text and "<SPECIAL_12>" not in text
    return JinjaFacts(
        tools="tools" in text or "tool_call" in text,
        thinking=("<think>" in text and "</think>" in text) or bool(strips),
        round_trip=bool(_CALLS.search(text)) and bool(_RESULTS.search(text)),
    )


@dataclass(frozen=True, slots=True)
class Templates:
    """What a model has. ``own`` says that its user wrote the Go template; ``wanted`` is a setting: Go templates always or never."""

    go: TemplateFacts | None
    jinja: JinjaFacts | None
    own: bool = False
    wanted: bool | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """``use`` is taken when ``applies``; ``reason`` is for a log or a person who asks."""

    reason: str
    applies: Callable[[Templates], bool]
    use: Which


@dataclass(frozen=True, slots=True)
class Choice:
    """Which template, and why."""

    use: Which
    reason: str


def _go_count(has: Templates) -> int:
    return sum((has.go.tools, has.go.insert, has.go.thinking)) if has.go else 0


def _jinja_count(has: Templates) -> int:
    return sum((has.jinja.tools, has.jinja.thinking)) if has.jinja else 0


def _only_go_returns_results(has: Templates) -> bool:
    return bool(has.go and has.jinja and has.go.round_trip and not has.jinja.round_trip)


def _only_jinja_returns_results(has: Templates) -> bool:
    """Both offer the same, tools among it, and only Jinja shows calls and their results."""
    if not has.go or not has.jinja:
        return False
    same = (has.go.tools, has.go.insert, has.go.thinking) == (has.jinja.tools, False, has.jinja.thinking)
    return same and has.go.tools and has.jinja.round_trip and not has.go.round_trip


RULES: tuple[Rule, ...] = (
    Rule("it has no Go template", lambda has: has.go is None, "jinja"),
    Rule("Go templates are switched off", lambda has: has.wanted is False, "jinja"),
    Rule("it has no Jinja template", lambda has: has.jinja is None, "go"),
    Rule("its user wrote the template", lambda has: has.own, "go"),
    Rule("Go templates are asked for", lambda has: has.wanted is True, "go"),
    Rule(
        "Jinja offers more, but only the Go template shows calls and their results",
        lambda has: _jinja_count(has) > _go_count(has) and _only_go_returns_results(has),
        "go",
    ),
    Rule("Jinja offers more of tools and thinking", lambda has: _jinja_count(has) > _go_count(has), "jinja"),
    Rule("both offer tools, but only Jinja shows calls and their results", _only_jinja_returns_results, "jinja"),
    Rule("the Go template offers as much", lambda has: True, "go"),
)


def choose(has: Templates) -> Choice:
    """The template to use; a model without any is left to Jinja, for which the engine has a default."""
    rule = next(rule for rule in RULES if rule.applies(has))
    return Choice(rule.use, rule.reason)


def prefers(
    go: TemplateFacts | None, jinja: JinjaFacts | None, *, own: bool = False, wanted: bool | None = None
) -> Which:
    """`choose`, without the reason."""
    return choose(Templates(go, jinja, own, wanted)).use
