"""What an answer is held to, as one grammar: a thought, then calls, or what the request's format says.

    thought? ( calls | answer in the format )

So one generation does it all, and nothing is generated twice. A format that no grammar can hold is refused before that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from corral.engine.base import Json, NamedTool, OutputFormat, Thoughts, ToolChoice, tool_name
from corral.errors import InvalidRequest
from corral.grammar import Grammar, add_grammar, add_json, add_regex, add_schema, literal
from corral.grammar.tagged import add_tagged, is_text
from corral.parsing import CallForm
from corral.parsing.forms import ID

_ID = "[0-9a-zA-Z]{1,9}"
_GAP = "[ \\t\\n\\r]{0,4}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an answer is to be: of ``output``, with calls to ``tools``; ``thinks`` when the model may think first.

    With ``held`` it is held to a grammar also where it may be anything.
    """

    output: OutputFormat | None = None
    tools: Sequence[Mapping[str, Json]] = ()
    choice: ToolChoice = "auto"
    parallel: bool = True
    thinks: bool = False
    held: bool = False

    @property
    def free(self) -> bool:
        """Whether the answer may be anything."""
        if self.held or self.output is not None or self.choice != "auto":
            return False
        return not self.tools or (self.parallel and not any(map(is_strict, self.tools)))

    @property
    def about_calls(self) -> bool:
        """Whether it matters how calls look."""
        return bool(self.tools) or self.choice == "none"


def check_output(output: OutputFormat | None) -> None:
    """Raises `InvalidRequest` for a format to which no answer can be held, with the keyword and its place."""
    if output is not None:
        grammar = Grammar()
        try:
            grammar.text(_output(grammar, output))
        except InvalidRequest as exc:
            raise InvalidRequest(str(exc), param=output.param) from exc


def check_choice(tools: Sequence[Mapping[str, Json]], choice: ToolChoice) -> None:
    """Raises `InvalidRequest` for a choice of tools that the request does not list."""
    names = [tool_name(tool) for tool in tools]
    if isinstance(choice, NamedTool) and choice.name not in names:
        raise InvalidRequest(
            f'"tool_choice" names {choice.name!r}, which is none of the tools: {", ".join(names) or "there are none"}',
            param="tool_choice",
        )
    if choice == "required" and not names:
        raise InvalidRequest('"tool_choice" requires a call, and the request has no tools', param="tool_choice")


def is_strict(tool: Mapping[str, Json]) -> bool:
    """Whether each call of ``tool`` must obey its schema."""
    function = tool.get("function")
    return isinstance(function, Mapping) and function.get("strict") is True


def check_strict(tool: Mapping[str, Json], param: str | None = None) -> None:
    """Raises `InvalidRequest` for a tool that must be strict and cannot be; ``param`` is the field that has its schema."""
    if is_strict(tool):
        try:
            add_schema(Grammar(), _arguments(tool))
        except InvalidRequest as exc:
            raise InvalidRequest(f"calls of the tool {tool_name(tool)!r} cannot be strict: {exc}", param=param) from exc


def answer_grammar(wanted: Wanted, thoughts: Thoughts | None, form: CallForm) -> str:
    """The grammar (GBNF) of an answer that is not free. Raises `InvalidRequest` for what cannot be held to."""
    grammar = Grammar()
    calls = _calls(grammar, wanted, form) if wanted.tools else ""
    lead, trail = (f" {literal(part)} " if part else "" for part in (form.lead, form.trail))
    if wanted.choice not in ("auto", "none"):
        body = calls
    elif wanted.output is not None:
        output = f"{lead}{_output(grammar, wanted.output)}{trail}"
        body = f"({calls} | {output})" if calls else output
    elif lead:
        text = f"{lead}{grammar.without(_mark(form))}"  # and what stands behind it, where the model ends it so
        body = f"({calls} | {text})" if calls else text
    else:
        body = grammar.without(_mark(form)) + (f" ({calls})?" if calls else "")
    return grammar.text(f"{_thought(grammar, wanted, thoughts)} {body}")


def _mark(form: CallForm) -> str:
    """What no text has in it: with this a call begins."""
    begin = form.begin.partition(ID)[0]
    return begin.partition("{")[0].strip() or begin or form.middle


def _part(text: str) -> str:
    """An expression for a part of a form."""
    return f" {_ID} ".join(literal(part) for part in text.split(ID))


def _thought(grammar: Grammar, wanted: Wanted, thoughts: Thoughts | None) -> str:
    if thoughts is None or not (thoughts.inside or wanted.thinks):
        return ""
    # Behind the mark that ends a thought its turn may end, and another begin.
    mark, ends, turn = thoughts.closing.partition("><")
    rest = f"{grammar.until(mark + ends[:1])} {literal(ends[1:] + turn)} {_GAP}"
    return rest if thoughts.inside else f"({_GAP} {literal(thoughts.opening)} {rest})?"


def _output(grammar: Grammar, output: OutputFormat) -> str:
    if output.grammar:
        return add_grammar(grammar, output.grammar)
    if output.regex:
        return add_regex(grammar, output.regex)
    return add_json(grammar) if output.schema is None else add_schema(grammar, output.schema)


def _calls(grammar: Grammar, wanted: Wanted, form: CallForm) -> str:
    choice = wanted.choice
    chosen = [t for t in wanted.tools if not isinstance(choice, NamedTool) or tool_name(t) == choice.name]
    call = grammar.rule(" | ".join(_call(grammar, tool, form) for tool in chosen), "call")
    several = wanted.parallel and not isinstance(choice, NamedTool) and form.joint is not None
    more = f"({_part(form.joint or '')} {call})*" if several else ""
    gap = f"{_GAP} " if form.lead else ""  # where an answer is marked, calls may stand a blank away
    return grammar.rule(f"{gap}{_part(form.begin)} {call} {more} {_part(form.end)}", "calls")


def _call(grammar: Grammar, tool: Mapping[str, Json], form: CallForm) -> str:
    check_strict(tool)
    schema, begin = _arguments(tool), _part(tool_name(tool) + form.middle)
    if form.arguments is not None:
        return f"{begin} {add_tagged(grammar, schema, form.arguments)}"
    try:
        add_schema(Grammar(), schema)
    except InvalidRequest:
        schema = {"type": "object"}  # the call can be enforced, if not all that its schema says
    return f"{begin} {add_schema(grammar, schema)}"


def texts_of(tool: Mapping[str, Json]) -> list[str]:
    """The arguments of a tool that are texts and nothing else."""
    return [key for key, schema in (_arguments(tool).get("properties") or {}).items() if is_text(schema)]


def _arguments(tool: Mapping[str, Json]) -> dict[str, Any]:
    """The schema of a call's arguments. A function that names no parameter takes none, where its schema says no more."""
    function: Any = tool.get("function")
    schema = {"type": "object", **(function.get("parameters") or {})}
    if not schema.get("properties") and not schema.keys() - {"type", "properties", "required"}:
        schema["additionalProperties"] = False
    return schema
