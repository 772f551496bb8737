"""What a template tells about its model without being run: what it can be given, and how thoughts and calls look in an answer.

Source: Ollama's heuristics, and what they miss: calls that are printed by a ``range`` alone, thoughts that stand between
other text, messages that have a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from corral.templates.nodes import (
    Action,
    Call,
    Chain,
    FieldPath,
    Identifier,
    If,
    Node,
    Nodes,
    Operand,
    Pipe,
    Range,
    Text,
    Variable,
    With,
)
from corral.templates.template import Template

_TAG_AT_END = re.compile(r"(<[^<>\s]+>|\[[^\[\]\s]+\])\s*$")
_TAG_AT_START = re.compile(r"\s*(<[^<>\s]+>|\[[^\[\]\s]+\])")
_RESULTS = re.compile(r"tool_response|TOOL_RESULTS|eq\s+\S*\.Role\s+[\"`]tool[\"`]")


@dataclass(frozen=True, slots=True)
class TemplateFacts:
    """What a template uses, and what follows for its model.

    ``tools``, ``thinking`` and ``insert`` are capabilities. ``thinking_tags`` stand around a thought, ``None`` where none can be
    told. ``tool_tag`` begins a call; it is ``{`` where there is nothing but JSON. ``round_trip`` is set when tools, calls
    and their results are all shown to the model.
    """

    messages: bool
    system: bool
    response: bool
    tools: bool
    insert: bool
    thinking: bool
    round_trip: bool
    thinking_tags: tuple[str, str] | None
    tool_tag: str


def facts(template: Template) -> TemplateFacts:
    """What can be read from a template."""
    used = variables(template)
    tags = thinking_tags(template)
    return TemplateFacts(
        messages="messages" in used,
        system="system" in used,
        response="response" in used,
        tools="tools" in used,
        insert="suffix" in used,
        thinking=tags is not None,
        round_trip={"tools", "toolcalls"} <= used and bool(_RESULTS.search(template.text)),
        thinking_tags=tags,
        tool_tag=tool_tag(template),
    )


def variables(template: Template) -> frozenset[str]:
    """The names of fields and variables that a template uses anywhere, in lower case."""
    found: set[str] = set()
    for tree in template.trees.values():
        for node, _ in walk(tree):
            for operand in operands(pipe_of(node)):
                if isinstance(operand, FieldPath | Variable | Chain):
                    found.update(name.lower() for name in operand.names)
    return frozenset(found)


def walk(nodes: Nodes) -> Iterator[tuple[Node, tuple[Node, ...]]]:
    """Every node in the order of the text, with the blocks it stands in, the outermost first."""
    waiting: list[tuple[Node, tuple[Node, ...]]] = [(node, ()) for node in reversed(nodes)]
    while waiting:
        node, around = waiting.pop()
        yield node, around
        if isinstance(node, If | With | Range):
            inside = (*around, node) if len(around) < _DEEPEST else around
            children = (*node.body, *(node.otherwise or ()))
            waiting.extend((child, inside) for child in reversed(children))


_DEEPEST = 100  # blocks that are remembered around a node


def pipe_of(node: Node) -> Pipe | None:
    """The pipeline of a node, if it has one."""
    return node.pipe if isinstance(node, Action | If | With | Range | Call) else None


def operands(pipe: Pipe | None) -> Iterator[Operand]:
    """All operands of a pipeline, those in parentheses too."""
    waiting: list[Pipe] = [pipe] if pipe else []
    while waiting:
        for command in waiting.pop().commands:
            for operand in command.operands:
                yield operand
                inner = operand.operand if isinstance(operand, Chain) else operand
                if isinstance(inner, Pipe):
                    waiting.append(inner)


def _mentions(pipe: Pipe | None, name: str) -> bool:
    return any(isinstance(each, FieldPath | Variable) and name in each.names for each in operands(pipe))


# Thoughts.


def thinking_tags(template: Template) -> tuple[str, str] | None:
    """What stands before and after a thought where a template prints that of a message, the last such place."""
    found = None
    for node, around in walk(template.root):
        if not isinstance(node, Action) or not _mentions(node.pipe, "Thinking"):
            continue
        loops = [block for block in around if isinstance(block, Range)]
        if loops and _mentions(loops[-1].pipe, "Messages"):
            found = _tags_around(node, around[-1]) or found
    return found


def _tags_around(thought: Action, block: Node) -> tuple[str, str] | None:
    siblings = _list_with(thought, block)
    first, last = siblings[0], siblings[-1]
    ends = None
    if isinstance(first, Text) and isinstance(last, Text):
        ends = (first.text.strip(), last.text.strip())
        if all(ends) and (len(siblings) == 3 or not any(re.search(r"\s", tag) for tag in ends)):
            return ends
    at = next(number for number, node in enumerate(siblings) if node is thought)
    before = _TAG_AT_END.search(_text(siblings[at - 1])) if at else None
    after = _TAG_AT_START.match(_text(siblings[at + 1])) if at + 1 < len(siblings) else None
    if before and after:
        return before[1], after[1]
    return ends if ends and all(ends) else None


def _list_with(node: Node, block: Node) -> Nodes:
    """The branch of a block that a node is directly in."""
    assert isinstance(block, If | With | Range)
    return block.body if any(each is node for each in block.body) else block.otherwise or (node,)


def _text(node: Node) -> str:
    return node.text if isinstance(node, Text) else ""


# Calls.


def tool_tag(template: Template) -> str:
    """What a model writes before its calls: the first text where a template prints those of a message, up to its JSON.

    >>> tool_tag(Template.parse('{{ range .ToolCalls }}<tool_call>{"name": "{{ .Function.Name }}"}{{ end }}'))
    '<tool_call>'
    """
    for printing in (_tests_calls, _loops_over_calls):
        for node, _ in walk(template.root):
            if printing(node):
                assert isinstance(node, If | Range | With)
                text = _first_text(node.body).replace("\r\n", "\n")
                if tag := text.partition("{")[0].strip():
                    return tag
                if text:
                    return "{"
    return "{"


def _tests_calls(node: Node) -> bool:
    """Whether a node is an ``if`` or ``with`` of the calls, and not of one thing or another."""
    if not isinstance(node, If | With):
        return False
    directly = [each for command in node.pipe.commands for each in command.operands]
    if any(isinstance(each, Identifier) and each.name in ("or", "not") for each in directly):
        return False
    return any(isinstance(each, FieldPath | Variable) and "ToolCalls" in each.names for each in directly)


def _loops_over_calls(node: Node) -> bool:
    return isinstance(node, Range) and _mentions(node.pipe, "ToolCalls")


def _first_text(nodes: Nodes) -> str:
    """The first text that is not blank: what is printed for every call, or else for some."""
    always = [node for node in _reached(nodes, always=True) if _text(node).strip()]
    found = always or [node for node in _reached(nodes, always=False) if _text(node).strip()]
    return _text(found[0]) if found else ""


def _reached(nodes: Iterable[Node], *, always: bool) -> list[Node]:
    """The nodes in blocks, in their order; with ``always`` those in loops alone, and not what depends on something else."""
    found: list[Node] = []
    waiting = list(nodes)[::-1]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Range | With) or (
            isinstance(node, If) and (not always or _mentions(node.pipe, "ToolCalls"))
        ):
            waiting.extend(reversed(node.body))
        else:
            found.append(node)
    return found
