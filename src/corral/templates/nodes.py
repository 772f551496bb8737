"""The tree of a parsed template. ``str()`` of an expression is the text Go's messages show for it.

Positions are in characters from the beginning of the template's text.
"""

from __future__ import annotations

from dataclasses import dataclass

from corral.templates.quoting import quote


@dataclass(frozen=True, slots=True, eq=False)
class Dot:
    """``.``"""

    position: int

    def __str__(self) -> str:
        return "."


@dataclass(frozen=True, slots=True, eq=False)
class Nil:
    """``nil``"""

    position: int

    def __str__(self) -> str:
        return "nil"


@dataclass(frozen=True, slots=True, eq=False)
class Bool:
    """``true`` or ``false``"""

    position: int
    value: bool

    def __str__(self) -> str:
        return "true" if self.value else "false"


@dataclass(frozen=True, slots=True, eq=False)
class Number:
    """A number or character; ``value`` is one of Go's int (an ``int`` past it "overflows int"), float64, complex128."""

    position: int
    text: str
    value: int | float | complex

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, eq=False)
class String:
    """A string: as written, and what it means."""

    position: int
    quoted: str
    value: str

    def __str__(self) -> str:
        return self.quoted


@dataclass(frozen=True, slots=True, eq=False)
class Identifier:
    """The name of a function."""

    position: int
    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, eq=False)
class FieldPath:
    """``.A.B``"""

    position: int
    names: tuple[str, ...]

    def __str__(self) -> str:
        return "".join(f".{name}" for name in self.names)


@dataclass(frozen=True, slots=True, eq=False)
class Variable:
    """``$x.A.B``; the first of ``names`` is the variable with its dollar sign."""

    position: int
    names: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join(self.names)


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """``(pipeline).A.B``, or fields of a function's result."""

    position: int
    operand: Operand
    names: tuple[str, ...]

    def __str__(self) -> str:
        inside = f"({self.operand})" if isinstance(self.operand, Pipe) else str(self.operand)
        return inside + "".join(f".{name}" for name in self.names)


@dataclass(frozen=True, slots=True, eq=False)
class Command:
    """An operand and its arguments."""

    position: int
    operands: tuple[Operand, ...]

    def __str__(self) -> str:
        return " ".join(f"({each})" if isinstance(each, Pipe) else str(each) for each in self.operands)


@dataclass(frozen=True, slots=True, eq=False)
class Pipe:
    """Commands, each given the last one's value; the value goes to ``variables``, declared or (``assigns``) set."""

    position: int
    variables: tuple[Variable, ...]
    assigns: bool
    commands: tuple[Command, ...]

    def __str__(self) -> str:
        start = ""
        if self.variables:
            start = ", ".join(map(str, self.variables)) + (" = " if self.assigns else " := ")
        return start + " | ".join(map(str, self.commands))


Operand = Dot | Nil | Bool | Number | String | Identifier | FieldPath | Variable | Chain | Pipe


@dataclass(frozen=True, slots=True, eq=False)
class Text:
    """What is printed as it stands."""

    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Action:
    """A pipeline whose value is printed, unless it goes to a variable."""

    pipe: Pipe


@dataclass(frozen=True, slots=True, eq=False)
class If:
    """``otherwise`` is ``None`` where there is no ``else``."""

    pipe: Pipe
    body: Nodes
    otherwise: Nodes | None


@dataclass(frozen=True, slots=True, eq=False)
class With:
    """As `If`, and the value is the dot of the body."""

    pipe: Pipe
    body: Nodes
    otherwise: Nodes | None


@dataclass(frozen=True, slots=True, eq=False)
class Range:
    """The body once for each element."""

    pipe: Pipe
    body: Nodes
    otherwise: Nodes | None


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """``{{ template "name" pipe }}``"""

    position: int
    name: str
    pipe: Pipe | None

    def __str__(self) -> str:
        return "{{template " + quote(self.name) + (f" {self.pipe}" if self.pipe else "") + "}}"


@dataclass(frozen=True, slots=True, eq=False)
class Break:
    """``{{ break }}``"""


@dataclass(frozen=True, slots=True, eq=False)
class Continue:
    """``{{ continue }}``"""


Node = Text | Action | If | With | Range | Call | Break | Continue
Nodes = tuple[Node, ...]
