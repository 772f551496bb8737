"""How a model is spoken to: through its Go template, which Corral renders, or the Jinja template that its engine knows.

The table of reasons is `corral.templates.choice`; here stands what is known of a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from corral.errors import TemplateError
from corral.templates.choice import Templates, Which, choose, jinja_facts
from corral.templates.facts import TemplateFacts, facts
from corral.templates.template import Template


@dataclass(frozen=True, slots=True)
class Prompting:
    """Which template is used, and why. ``capabilities`` are those that it gives its model."""

    use: Which
    reason: str
    capabilities: tuple[str, ...] = ()


def prompting(
    go: str | None,
    jinja: str | None,
    *,
    own: bool = False,
    wanted: bool | None = None,
    family: str = "",
    config: Mapping[str, object] | None = None,
) -> Prompting:
    """How a model with these templates is spoken to. ``own`` and ``wanted`` are those of `Templates`.

    A model whose ``config`` names one of Ollama's built-in renderers or parsers, or which speaks as gpt-oss does, is left to
    the engine if it has a Jinja template: the engine reads the answers of these families, and Go templates cannot say how.
    """
    config = config or {}
    if go is not None and jinja is not None and not own and wanted is not True:
        if config.get("renderer") or config.get("parser"):
            return Prompting("jinja", "its answers need a parser that the engine has")
        if family in ("gptoss", "gpt-oss") and "<|start|>" in go and "<|end|>" in go:
            return Prompting("jinja", "its answers need a parser that the engine has")
    found = _facts(go) if go is not None else None
    if isinstance(found, TemplateError):
        # It is the model's template all the same, and whoever uses the model is told what is wrong with it.
        use = choose(Templates(None, jinja_facts(jinja), own, wanted)) if jinja and wanted is False else None
        return Prompting(use.use, use.reason) if use else Prompting("go", "its template cannot be read")
    choice = choose(Templates(found, jinja_facts(jinja) if jinja is not None else None, own, wanted))
    if choice.use == "jinja" or found is None:
        return Prompting(choice.use, choice.reason)
    can = {"tools": found.tools, "insert": found.insert, "thinking": found.thinking}
    return Prompting(choice.use, choice.reason, tuple(name for name, has in can.items() if has))


@lru_cache(maxsize=256)
def _facts(text: str) -> TemplateFacts | TemplateError:
    try:
        return facts(Template.parse(text))
    except TemplateError as exc:
        return exc
