"""Executes the tree of a template.

Blocks and calls are kept on a list of our own and not on Python's stack, so that a template that calls itself runs into Go's own
limit, or into ours, and not into Python's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from corral.templates.expressions import Expressions, Scope
from corral.templates.formats import sprintf
from corral.templates.functions import Context
from corral.templates.limits import Output
from corral.templates.nodes import Action, Break, Call, Continue, If, Nodes, Range, Text, With
from corral.templates.printing import sprint
from corral.templates.quoting import quote
from corral.templates.values import (
    Kind,
    Pointer,
    Scalar,
    as_map,
    as_slice,
    indirect,
    kind_of,
    plain,
    sorted_items,
    truth,
    type_of,
)


@dataclass(slots=True)
class _Frame:
    """A list of nodes that is being executed, and what to do after it: the next element, or back to where it stood."""

    nodes: Nodes
    dot: object
    mark: int  # variables from here on end with the frame
    at: int = 0
    loop: Range | None = None  # set while there may be another round
    is_range: bool = False  # a break ends it, also from within its else
    elements: Iterator[tuple[object, object]] | None = None
    body_mark: int = 0  # variables from here on end with each round
    caller: tuple[str, Scope, int] | None = None  # the template that called this one, its variables, its depth


def execute(trees: Mapping[str, Nodes], name: str, text: str, data: object, context: Context) -> str:
    """What template ``name`` prints for ``data``. TemplateError: with Go's message, or a limit was passed."""
    return _Execution(trees, name, text, data, context).run()


class _Execution:
    def __init__(self, trees: Mapping[str, Nodes], name: str, text: str, data: object, context: Context) -> None:
        self._trees = trees
        self._context = context
        self._out = Output(context.budget)
        self._expressions = Expressions(text, name, context, data)
        self._frames = [_Frame(trees[name], data, 1)]
        self._depth = 0

    def run(self) -> str:
        frames, spend = self._frames, self._context.budget.spend
        while frames:
            frame = frames[-1]
            if frame.at >= len(frame.nodes):
                self._finish(frame)
                continue
            node = frame.nodes[frame.at]
            frame.at += 1
            spend()
            match node:
                case Text():
                    self._out.write(node.text)
                case Action():
                    value = self._expressions.pipeline(frame.dot, node.pipe)
                    if not node.pipe.variables:
                        self._print(value)
                case If() | With():
                    self._branch(frame, node)
                case Range():
                    self._range(frame, node)
                case Call():
                    self._call(frame, node)
                case Break():
                    self._break()
                case Continue():
                    self._continue()
        return self._out.text()

    def _print(self, value: object) -> None:
        if type(value) is str:
            self._out.write(value)
        elif value is None:
            self._out.write("<no value>")
        else:
            shown = indirect(value)[0] if type(value) is Pointer else value
            self._out.write(sprint([shown], self._context.budget))

    def _branch(self, frame: _Frame, node: If | With) -> None:
        scope = self._expressions.scope
        mark = scope.mark()
        value = self._expressions.pipeline(frame.dot, node.pipe)
        if truth(value):
            self._frames.append(_Frame(node.body, value if isinstance(node, With) else frame.dot, mark))
        else:
            self._frames.append(_Frame(node.otherwise or (), frame.dot, mark))

    def _call(self, frame: _Frame, node: Call) -> None:
        expressions = self._expressions
        expressions.node = node
        tree = self._trees.get(node.name)
        if tree is None:
            expressions.fail(f"template {quote(node.name)} not defined")
        if self._depth >= self._context.budget.limits.calls:
            expressions.fail(f"exceeded maximum template depth ({self._depth})")
        dot = expressions.pipeline(frame.dot, node.pipe) if node.pipe else None
        caller = (expressions.template, expressions.scope, self._depth)
        self._depth += 1
        expressions.template, expressions.scope = node.name, Scope(dot)
        self._frames.append(_Frame(tree, dot, 1, caller=caller))

    def _range(self, frame: _Frame, node: Range) -> None:
        scope = self._expressions.scope
        mark = scope.mark()
        value, _ = indirect(self._expressions.pipeline(frame.dot, node.pipe))
        elements = self._elements(value, node)
        loop = _Frame((), frame.dot, mark, loop=node, is_range=True, elements=elements, body_mark=scope.mark())
        self._frames.append(loop)
        if not self._advance(loop):
            loop.loop = None
            loop.nodes = node.otherwise or ()

    def _elements(self, value: object, node: Range) -> Iterator[tuple[object, object]]:
        """Index and element of each round. What cannot be iterated over is an error."""
        kind = kind_of(value)
        if kind is None:
            return iter(())
        if kind is Kind.SLICE:
            window = as_slice(value)
            return ((at, window.at(at)) for at in range(len(window)))
        if kind is Kind.MAP:
            entries = as_map(value)
            self._context.budget.spend(len(entries.items or ()))
            return iter(sorted_items(entries))
        if kind not in (Kind.INT, Kind.UINT):
            self._expressions.fail(f"range can't iterate over {sprintf('%v', [value], self._context.budget)}")
        if len(node.pipe.variables) > 1:
            self._expressions.fail(f"can't use {plain(value)} to iterate over more than one variable")
        return _counted(value)

    def _advance(self, loop: _Frame) -> bool:
        """Begin the next round; false where there is none."""
        for index, element in loop.elements or ():
            self._context.budget.spend()
            assert loop.loop is not None
            self._set_loop_variables(loop.loop, index, element)
            loop.nodes, loop.at, loop.dot = loop.loop.body, 0, element
            return True
        return False

    def _set_loop_variables(self, node: Range, index: object, element: object) -> None:
        expressions, variables = self._expressions, node.pipe.variables
        if not variables:
            return
        if node.pipe.assigns:
            values = (element,) if len(variables) == 1 else (index, element)
            for variable, value in zip(variables, values, strict=True):
                expressions.assign(variable.names[0], value)
            return
        expressions.scope.set_top(1, element)
        if len(variables) > 1:
            expressions.scope.set_top(2, index)

    def _break(self) -> None:
        while not self._frames[-1].is_range:
            self._leave(self._frames[-1])
        self._leave(self._frames[-1])

    def _continue(self) -> None:
        while self._frames[-1].loop is None:
            self._leave(self._frames[-1])
        self._frames[-1].at = len(self._frames[-1].nodes)

    def _finish(self, frame: _Frame) -> None:
        """The list of a frame came to its end."""
        if frame.loop is not None:
            self._expressions.scope.pop(frame.body_mark)
            if self._advance(frame):
                return
        self._leave(frame)

    def _leave(self, frame: _Frame) -> None:
        self._frames.pop()
        self._expressions.scope.pop(frame.mark)
        if frame.caller:
            self._expressions.template, self._expressions.scope, self._depth = frame.caller


def _counted(value: object) -> Iterator[tuple[object, object]]:
    """The numbers below an integer, of its type."""
    count = plain(value)
    assert isinstance(count, int)
    if isinstance(value, Scalar):
        return ((None, Scalar(type_of(value), at)) for at in range(count))
    return ((None, at) for at in range(count))
