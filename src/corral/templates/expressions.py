"""Evaluates the pipelines of a template: fields, variables, function calls, constants.

Source: the documentation of text/template (Go 1.26), with the option missingkey=zero. `Expressions.node` is always the part
that is being evaluated, since Go's messages name it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from corral.errors import TemplateError
from corral.templates.errors import FunctionError
from corral.templates.functions import FUNCTIONS, Context, Function
from corral.templates.nodes import (
    Bool,
    Call,
    Chain,
    Command,
    Dot,
    FieldPath,
    Identifier,
    Nil,
    Number,
    Operand,
    Pipe,
    String,
    Variable,
)
from corral.templates.quoting import quote
from corral.templates.values import (
    STRING,
    Interface,
    Kind,
    Map,
    Pointer,
    Struct,
    as_map,
    encoded,
    indirect,
    kind_of,
    plain,
    truth,
    type_of,
    unwrapped,
    whole,
    wrapped,
    zero,
)

MISSING = object()  # there is no value from the pipeline so far
_INT = range(-(1 << 63), 1 << 63)


class Scope:
    """The variables of one template's execution; a name may stand for several, of which the last counts."""

    __slots__ = ("_by_name", "_order")

    def __init__(self, root: object) -> None:
        self._order: list[list[object]] = []
        self._by_name: dict[str, list[list[object]]] = {}
        self.push("$", root)

    def push(self, name: str, value: object) -> None:
        cell = [value, name]
        self._order.append(cell)
        self._by_name.setdefault(name, []).append(cell)

    def mark(self) -> int:
        return len(self._order)

    def pop(self, mark: int) -> None:
        """Forget all variables that came after ``mark``."""
        while len(self._order) > mark:
            self._by_name[str(self._order.pop()[1])].pop()

    def get(self, name: str) -> object:
        """The value of a variable; the parser has seen to it that it is there. KeyError: it was declared elsewhere."""
        cells = self._by_name.get(name)
        if not cells:
            raise KeyError(name)
        return cells[-1][0]

    def set(self, name: str, value: object) -> None:
        """Change a variable. KeyError: there is none."""
        cells = self._by_name.get(name)
        if not cells:
            raise KeyError(name)
        cells[-1][0] = value

    def set_top(self, count: int, value: object) -> None:
        """Change the variable that is ``count``-th from the end."""
        self._order[-count][0] = value


class Expressions:
    """Evaluates against a dot and the variables of ``scope``."""

    def __init__(self, text: str, parse_name: str, context: Context, root: object) -> None:
        self._text = text
        self._parse_name = parse_name
        self._context = context
        self.scope = Scope(root)
        self.template = parse_name  # that is executing
        self.node: Operand | Command | Call | None = None

    def fail(self, message: str) -> NoReturn:
        """Stop with Go's message, which names the place and what is being evaluated there."""
        node = self.node
        assert node is not None
        before = self._text[: node.position]
        line_start = before.rfind("\n") + 1
        place = f"{self._parse_name}:{before.count(chr(10)) + 1}:{len(encoded(before[line_start:]))}"
        raise TemplateError(whole(f"template: {place}: executing {quote(self.template)} at <{node}>: {message}"))

    def pipeline(self, dot: object, pipe: Pipe) -> object:
        """The value of a pipeline, taken out of its interface; its variables are declared or set."""
        self.node = pipe
        value: object = MISSING
        for command in pipe.commands:
            self._context.budget.spend()
            value = self._command(dot, command, value)
            if type(value) is Interface:
                value = value.value
        for variable in pipe.variables:
            if pipe.assigns:
                self.assign(variable.names[0], value)
            else:
                self.scope.push(variable.names[0], value)
        return value

    def assign(self, name: str, value: object) -> None:
        """Change a variable."""
        try:
            self.scope.set(name, value)
        except KeyError:
            self.fail(f"undefined variable: {name}")

    def _command(self, dot: object, command: Command, final: object) -> object:
        first = command.operands[0]
        match first:
            case FieldPath():
                self.node = first
                return self._fields(dot, first.names, command.operands, final)
            case Variable():
                return self._variable(first, command.operands, final)
            case Identifier():
                return self._function(dot, first, command, command.operands[1:], final)
            case Chain():
                return self._chain(dot, first, command.operands, final)
            case Pipe():
                self._no_arguments(command.operands, final)
                return self.pipeline(dot, first)
        self.node = first
        self._no_arguments(command.operands, final)
        if isinstance(first, Nil):
            self.fail("nil is not a command")
        return self._constant(dot, first)

    def _no_arguments(self, operands: Sequence[Operand], final: object) -> None:
        if len(operands) > 1 or final is not MISSING:
            self.fail(f"can't give argument to non-function {operands[0]}")

    def _constant(self, dot: object, node: Operand) -> object:
        match node:
            case Dot():
                return dot
            case Bool(value=value) | String(value=value):
                return value
            case Number(value=int() as number) if number not in _INT:
                self.node = node
                self.fail(f"{node.text} overflows int")
        assert isinstance(node, Number)
        return node.value

    def _chain(self, dot: object, chain: Chain, operands: Sequence[Operand], final: object) -> object:
        self.node = chain
        value = self._argument(dot, "value", chain.operand)
        return self._fields(value, chain.names, operands, final)

    def _variable(self, variable: Variable, operands: Sequence[Operand], final: object) -> object:
        self.node = variable
        try:
            value = self.scope.get(variable.names[0])
        except KeyError:
            self.fail(f"undefined variable: {variable.names[0]}")
        if len(variable.names) == 1:
            self._no_arguments(operands, final)
            return value
        return self._fields(value, variable.names[1:], operands, final)

    # Fields.

    def _fields(self, value: object, names: Sequence[str], operands: Sequence[Operand], final: object) -> object:
        """A chain of fields; only the last one is given arguments."""
        for name in names[:-1]:
            value = self._field(name, (), MISSING, value)
        return self._field(names[-1], operands, final, value)

    def _field(self, name: str, operands: Sequence[Operand], final: object, receiver: object) -> object:
        """A method's result, a struct's field or a map's entry; nothing has nothing."""
        if receiver is None:
            return None
        static = receiver
        value, nil = indirect(receiver)
        if type(value) is Interface:
            self.fail(f"nil pointer evaluating {type_of(static).name}.{name}")
        found = type_of(value)
        if name in found.methods:
            return self._method(name, value, operands, final)
        has_arguments = len(operands) > 1 or final is not MISSING
        if found.kind is Kind.MAP:
            if has_arguments:
                self.fail(f"{name} is not a method but has arguments")
            return self._entry(as_map(value), name)
        if nil and (found.element.kind is not Kind.STRUCT or found.element.field(name)):
            self.fail(f"nil pointer evaluating {type_of(static).name}.{name}")
        field = found.field(name)
        if not isinstance(value, Struct) or field is None:
            self.fail(f"can't evaluate field {name} in type {type_of(static).name}")
        if not field.exported:
            self.fail(f"{name} is an unexported field of struct type {type_of(static).name}")
        if has_arguments:
            self.fail(f"{name} has arguments but cannot be invoked as function")
        return value.get(field)

    def _entry(self, entries: Map, name: str) -> object:
        if entries.items is not None and name in entries.items:
            return wrapped(entries.type.element, entries.items[name])
        return zero(entries.type.element)

    def _method(self, name: str, value: object, operands: Sequence[Operand], final: object) -> object:
        """What a method of the value returns; none of them takes an argument."""
        given = max(len(operands) - 1, 0) + (final is not MISSING)
        if given:
            self.fail(f"wrong number of args for {name}: want 0 got {given}")
        if type(value) is Pointer:
            self.fail(f"nil pointer evaluating {type_of(value).name}.{name}")
        return type_of(value).methods[name](value)

    # Functions.

    def _function(
        self, dot: object, name: Identifier, node: Operand | Command, arguments: Sequence[Operand], final: object
    ) -> object:
        """Call a function; ``node`` is what a complaint of its own is about."""
        self.node = name
        function = FUNCTIONS[name.name]
        self._check_count(function, len(arguments), final is not MISSING)
        if function.name in ("and", "or"):
            return self._until(dot, arguments, final, stops_at=function.name == "or")
        kinds = function.fixed
        values = [
            self._argument(dot, kinds[at] if at < len(kinds) else function.rest, argument)
            for at, argument in enumerate(arguments)
        ]
        if final is not MISSING:
            at = len(arguments)
            values.append(self._fitting(final, kinds[at] if at < len(kinds) else function.rest))
        if function.name == "call":
            values.insert(0, str(arguments[0]) if arguments else _reflected(final))
        try:
            return function.run(self._context, values)
        except FunctionError as error:
            self.node = node
            self.fail(f"error calling {name.name}: {error}")

    def _check_count(self, function: Function, count: int, has_final: bool) -> None:
        fixed = len(function.fixed)
        if function.rest:
            if count + has_final < fixed:
                self.fail(f"wrong number of args for {function.name}: want at least {fixed} got {count}")
        elif count + has_final != fixed:
            self.fail(f"wrong number of args for {function.name}: want {fixed} got {count + has_final}")

    def _until(self, dot: object, arguments: Sequence[Operand], final: object, *, stops_at: bool) -> object:
        """and, or: the first argument of this truth, or the last; what comes after it is not evaluated."""
        value: object = None
        for argument in arguments:
            value = self._argument(dot, "value", argument)
            if truth(value) is stops_at:
                return value
        return value if final is MISSING else final

    def _argument(self, dot: object, kind: str, node: Operand) -> object:
        """An argument for a parameter that takes a "value", "any" value, or a "string"."""
        self.node = node
        match node:
            case Dot():
                return self._fitting(dot, kind)
            case Nil():
                if kind == "string":
                    self.fail("cannot assign nil to string")
                return None
            case FieldPath():
                return self._fitting(self._fields(dot, node.names, (), MISSING), kind)
            case Variable():
                return self._fitting(self._variable(node, (), MISSING), kind)
            case Pipe():
                return self._fitting(self.pipeline(dot, node), kind)
            case Identifier():
                return self._fitting(self._function(dot, node, node, (), MISSING), kind)
            case Chain():
                return self._fitting(self._chain(dot, node, (), MISSING), kind)
        if kind == "string" and not isinstance(node, String):
            self.fail(f"expected string; found {node}")
        return self._constant(dot, node)

    def _fitting(self, value: object, kind: str) -> object:
        """``value``, if a parameter can take it."""
        if kind != "string":
            return value
        if value is None:
            self.fail("invalid value; expected string")
        inner = unwrapped(value)
        if inner is None or type_of(inner) is not STRING:
            if type(inner) is Pointer and type_of(inner).elem is STRING:
                if inner.target is None:
                    self.fail("dereference of nil pointer of type string")
                return inner.target
            self.fail(f"wrong type for value; expected string; got {type_of(value if inner is None else inner).name}")
        return inner


def _reflected(value: object) -> str:
    """A value as Go's reflection calls it when it is asked for a text."""
    if value is None:
        return "<invalid Value>"
    return str(plain(value)) if kind_of(value) is Kind.STRING else f"<{type_of(value).name} Value>"
