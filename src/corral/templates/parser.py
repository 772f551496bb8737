"""Makes trees of a template's text, with the same complaints as Go's text/template.

Source: the documentation of text/template and of its parse package (Go 1.26). Blocks are kept on a list of our own and not on
Python's stack, so a template may nest them deeply; parentheses nest at most `MAX_PARENS` deep.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NoReturn

from corral.errors import TemplateError
from corral.templates.lexer import Lexer, Sort, Token
from corral.templates.literals import LiteralError, character, number, unquote
from corral.templates.nodes import (
    Action,
    Bool,
    Break,
    Call,
    Chain,
    Command,
    Continue,
    Dot,
    FieldPath,
    Identifier,
    If,
    Nil,
    Node,
    Nodes,
    Number,
    Operand,
    Pipe,
    Range,
    String,
    Text,
    Variable,
    With,
)
from corral.templates.quoting import quote
from corral.templates.values import whole

MAX_PARENS = 100
MAX_BLOCKS = 10_000
MAX_CHARACTERS = 1 << 18  # the largest in use are a tenth of that; this many take a second or two to parse

_OPERANDS = frozenset(
    (
        Sort.BOOL,
        Sort.CHARACTER,
        Sort.COMPLEX,
        Sort.DOT,
        Sort.FIELD,
        Sort.IDENTIFIER,
        Sort.NUMBER,
        Sort.NIL,
        Sort.RAW_STRING,
        Sort.STRING,
        Sort.VARIABLE,
        Sort.LEFT_PAREN,
    )
)
_NODES: dict[str, type[If | With | Range]] = {"if": If, "with": With, "range": Range}
_BRANCHES = {Sort.IF: "if", Sort.RANGE: "range", Sort.WITH: "with"}


def parse(text: str, functions: Collection[str], name: str = "") -> dict[str, Nodes]:
    """The trees that ``text`` defines, by name; its own is ``name``.

    ``functions`` are the names that may be called. TemplateError: with Go's message, or a limit was passed.
    """
    if len(text) > MAX_CHARACTERS:
        raise TemplateError(f"template: {name}: the text has {len(text)} characters; at most {MAX_CHARACTERS} are read")
    return _Parser(text, functions, name).parse()


def is_blank(nodes: Nodes) -> bool:
    """Whether there is nothing but white space."""
    return all(isinstance(node, Text) and not node.text.strip() for node in nodes)


@dataclass(slots=True)
class _Tree:
    """What is known while one template is parsed: its own tokens, variables and depths, as nested ones have theirs."""

    name: str
    tokens: list[Token] = field(default_factory=list)  # looked at and put back, the next one last
    line: int = 1  # of the token read last
    action_line: int = 0
    variables: list[str] = field(default_factory=lambda: ["$"])
    known: Counter[str] = field(default_factory=lambda: Counter(["$"]))
    ranges: int = 0
    parens: int = 0


@dataclass(slots=True)
class _Open:
    """A construct whose end has not come. ``marked`` is how many variables there were before it."""

    kind: str
    tree: _Tree
    marked: int = 0
    pipe: Pipe | None = None
    nodes: list[Node] = field(default_factory=list)
    body: Nodes | None = None  # set when its else came: nodes are then the else's
    ends_parent: bool = False  # it is an "else if": one end for both
    position: int = 0


class _Parser:
    def __init__(self, text: str, functions: Collection[str], name: str) -> None:
        self._lexer = Lexer(text)
        self._functions = functions
        self._name = name
        self._tree = _Tree(name)
        self._open: list[_Open] = []
        self._trees: dict[str, Nodes] = {}

    def parse(self) -> dict[str, Nodes]:
        root = _Open("", self._tree)
        self._open.append(root)
        while True:
            top = self._open[-1]
            self._tree = top.tree
            token = self._peek() if top is root else self._peek_word()
            if token.sort is Sort.EOF:
                if top is not root:
                    self._fail("unexpected EOF")
                self._add(root.nodes)
                return self._trees
            if top is root and token.sort is Sort.LEFT and self._define():
                continue
            self._text_or_action(top)

    # Tokens.

    def _next(self) -> Token:
        tree = self._tree
        if tree.tokens:
            return tree.tokens.pop()
        token = self._lexer.next()
        tree.line = token.line
        return token

    def _back(self, *tokens: Token) -> None:
        """Put tokens back, the one to be read first last."""
        self._tree.tokens.extend(tokens)

    def _peek(self) -> Token:
        token = self._next()
        self._back(token)
        return token

    def _next_word(self) -> Token:
        """The next token that is not white space."""
        while (token := self._next()).sort is Sort.SPACE:
            pass
        return token

    def _peek_word(self) -> Token:
        token = self._next_word()
        self._back(token)
        return token

    def _expect(self, context: str, *sorts: Sort) -> Token:
        token = self._next_word()
        if token.sort not in sorts:
            self._unexpected(token, context)
        return token

    def _fail(self, message: str) -> NoReturn:
        raise TemplateError(whole(f"template: {self._name}:{self._tree.line}: {message}"))

    def _unexpected(self, token: Token, context: str) -> NoReturn:
        if token.sort is not Sort.ERROR:
            self._fail(f"unexpected {token} in {context}")
        started = self._tree.action_line
        where = ""
        if started and started != token.line:
            where = f" in action started at {self._name}:{started}"
            if token.text.endswith(" action"):
                where = where.removeprefix(" in action")
        self._fail(f"{token}{where}")

    # Templates and blocks.

    def _add(self, nodes: list[Node]) -> None:
        name = self._tree.name
        new = tuple(nodes)
        if is_blank(self._trees.get(name, ())):
            self._trees[name] = new
        elif not is_blank(new):
            self._fail(f"template: multiple definition of template {quote(name)}")

    def _define(self) -> bool:
        """Begin a definition if one stands here, at a left delimiter."""
        left = self._next()
        word = self._next_word()
        if word.sort is not Sort.DEFINE:
            self._back(word, left)
            return False
        self._tree = _Tree("")
        name = self._expect("define clause", Sort.STRING, Sort.RAW_STRING)
        self._tree.name = self._unquoted(name)
        self._expect("define clause", Sort.RIGHT)
        self._push(_Open("define", self._tree))
        return True

    def _push(self, construct: _Open) -> None:
        if len(self._open) > MAX_BLOCKS:
            self._fail(f"more than {MAX_BLOCKS} blocks inside each other")
        self._open.append(construct)

    def _text_or_action(self, top: _Open) -> None:
        token = self._next_word()
        if token.sort is Sort.TEXT:
            top.nodes.append(Text(token.text))
        elif token.sort is Sort.LEFT:
            self._tree.action_line = token.line
            self._action(top)
        else:
            self._unexpected(token, "input")

    def _action(self, top: _Open) -> None:
        token = self._next_word()
        match token.sort:
            case Sort.IF | Sort.RANGE | Sort.WITH:
                self._branch(_BRANCHES[token.sort])
                return
            case Sort.BLOCK:
                self._block()
                return
            case Sort.BREAK:
                top.nodes.append(self._leave(Break(), "{{break}}"))
            case Sort.CONTINUE:
                top.nodes.append(self._leave(Continue(), "{{continue}}"))
            case Sort.TEMPLATE:
                top.nodes.append(self._call())
            case Sort.ELSE:
                self._else(top)
            case Sort.END:
                self._expect("end", Sort.RIGHT)
                self._tree.action_line = 0
                self._end(top)
                return
            case _:
                self._back(token)
                top.nodes.append(Action(self._pipeline("command", Sort.RIGHT)))
        self._tree.action_line = 0

    def _leave(self, node: Break | Continue, written: str) -> Node:
        token = self._next_word()
        if token.sort is not Sort.RIGHT:
            self._unexpected(token, written)
        if not self._tree.ranges:
            self._fail(f"{written} outside {{{{range}}}}")
        return node

    def _branch(self, kind: str, *, ends_parent: bool = False) -> None:
        marked = len(self._tree.variables)
        pipe = self._pipeline(kind, Sort.RIGHT)
        if kind == "range":
            self._tree.ranges += 1
        self._push(_Open(kind, self._tree, marked, pipe, ends_parent=ends_parent))

    def _block(self) -> None:
        token = self._next_word()
        name = self._template_name(token, "block clause")
        pipe = self._pipeline("block clause", Sort.RIGHT)
        self._push(_Open("block", _Tree(name), pipe=pipe, position=token.position))

    def _call(self) -> Call:
        token = self._next_word()
        name = self._template_name(token, "template clause")
        after = self._next_word()
        if after.sort is Sort.RIGHT:
            return Call(token.position, name, None)
        self._back(after)
        return Call(token.position, name, self._pipeline("template clause", Sort.RIGHT))

    def _template_name(self, token: Token, context: str) -> str:
        if token.sort not in (Sort.STRING, Sort.RAW_STRING):
            self._unexpected(token, context)
        return self._unquoted(token)

    def _else(self, top: _Open) -> None:
        after = self._peek_word()
        if after.sort not in (Sort.IF, Sort.WITH):
            self._expect("else", Sort.RIGHT)
        self._tree.action_line = 0
        if top.kind in ("", "define", "block"):
            self._stray("{{else}}", top)
        if top.body is not None:
            self._fail("expected end; found {{else}}")
        if top.kind == "range":
            self._tree.ranges -= 1
        top.body, top.nodes = tuple(top.nodes), []
        following = self._peek()
        if _BRANCHES.get(following.sort) == top.kind and top.kind != "range":
            self._next()
            self._branch(top.kind, ends_parent=True)

    def _stray(self, what: str, top: _Open) -> NoReturn:
        """Complain about an else or end that belongs to nothing, in the name of the template that Go would name."""
        if top.kind == "block":
            self._tree = self._open[-2].tree
        self._fail(f"unexpected {what}" + (f" in {top.kind} clause" if top.kind else ""))

    def _end(self, top: _Open) -> None:
        if not top.kind:
            self._stray("{{end}}", top)
        if top.kind in ("define", "block"):
            self._add(top.nodes)
            self._open.pop()
            if top.kind == "block":
                self._open[-1].nodes.append(Call(top.position, top.tree.name, top.pipe))
                self._open[-1].tree.action_line = 0
            return
        while True:
            self._open.pop()
            self._close(top)
            if not top.ends_parent:
                return
            top = self._open[-1]

    def _close(self, branch: _Open) -> None:
        """Make a node of a branch whose end came, and forget the variables of its scope."""
        tree = branch.tree
        for name in tree.variables[branch.marked :]:
            tree.known[name] -= 1
        del tree.variables[branch.marked :]
        if branch.kind == "range" and branch.body is None:
            tree.ranges -= 1
        assert branch.pipe
        body = tuple(branch.nodes) if branch.body is None else branch.body
        otherwise = None if branch.body is None else tuple(branch.nodes)
        node = _NODES[branch.kind]
        self._open[-1].nodes.append(node(branch.pipe, body, otherwise))

    # Pipelines.

    def _pipeline(self, context: str, end: Sort) -> Pipe:
        start = self._peek_word().position
        variables, assigns = self._declarations(context)
        commands: list[Command] = []
        while True:
            token = self._next_word()
            if token.sort is end:
                self._check(commands, context)
                return Pipe(start, tuple(variables), assigns, tuple(commands))
            if token.sort not in _OPERANDS:
                self._unexpected(token, context)
            self._back(token)
            commands.append(self._command())

    def _declarations(self, context: str) -> tuple[list[Variable], bool]:
        """The variables before ``:=`` or ``=``, and whether it was the latter."""
        found: list[Variable] = []
        while (token := self._peek_word()).sort is Sort.VARIABLE:
            self._next()
            directly_after = self._peek()
            after = self._peek_word()
            if after.sort in (Sort.ASSIGN, Sort.DECLARE):
                self._next_word()
                self._declare(found, token)
                return found, after.sort is Sort.ASSIGN
            if after.sort is not Sort.CHAR or after.text != ",":
                if directly_after.sort is Sort.SPACE:
                    self._back(directly_after)
                self._back(token)
                return found, False
            self._next_word()
            self._declare(found, token)
            if context != "range" or len(found) == 2:
                self._fail(f"too many declarations in {context}")
            if self._peek_word().sort not in (Sort.VARIABLE, Sort.RIGHT, Sort.RIGHT_PAREN):
                self._fail("range can only initialize variables")
        return found, False

    def _declare(self, found: list[Variable], token: Token) -> None:
        found.append(Variable(token.position, tuple(token.text.split("."))))
        self._tree.variables.append(token.text)
        self._tree.known[token.text] += 1

    def _check(self, commands: list[Command], context: str) -> None:
        if not commands:
            self._fail(f"missing value for {context}")
        for stage, command in enumerate(commands[1:], 2):
            if isinstance(command.operands[0], Bool | Dot | Nil | Number | String):
                self._fail(f"non executable command in pipeline stage {stage}")

    def _command(self) -> Command:
        start = self._peek_word().position
        operands: list[Operand] = []
        while True:
            self._peek_word()
            operand = self._operand()
            if operand is not None:
                operands.append(operand)
            token = self._next()
            if token.sort is Sort.SPACE:
                continue
            if token.sort in (Sort.RIGHT, Sort.RIGHT_PAREN):
                self._back(token)
            elif token.sort is not Sort.PIPE:
                self._unexpected(token, "operand")
            break
        if not operands:
            self._fail("empty command")
        return Command(start, tuple(operands))

    def _operand(self) -> Operand | None:
        node = self._term()
        if node is None or self._peek().sort is not Sort.FIELD:
            return node
        start = self._peek().position
        names: list[str] = []
        while self._peek().sort is Sort.FIELD:
            names.append(self._next().text[1:])
        match node:
            case FieldPath():
                return FieldPath(start, (*node.names, *names))
            case Variable():
                return Variable(start, (*node.names, *names))
            case Bool() | String() | Number() | Nil() | Dot():
                self._fail(f"unexpected . after term {quote(str(node))}")
        return Chain(start, node, tuple(names))

    def _term(self) -> Operand | None:
        token = self._next_word()
        at = token.position
        match token.sort:
            case Sort.IDENTIFIER:
                if token.text not in self._functions:
                    self._fail(f"function {quote(token.text)} not defined")
                return Identifier(at, token.text)
            case Sort.DOT:
                return Dot(at)
            case Sort.NIL:
                return Nil(at)
            case Sort.VARIABLE:
                if not self._tree.known[token.text]:
                    self._fail(f"undefined variable {quote(token.text)}")
                return Variable(at, (token.text,))
            case Sort.FIELD:
                return FieldPath(at, (token.text[1:],))
            case Sort.BOOL:
                return Bool(at, token.text == "true")
            case Sort.CHARACTER | Sort.COMPLEX | Sort.NUMBER:
                return self._number(token)
            case Sort.LEFT_PAREN:
                return self._parenthesised()
            case Sort.STRING | Sort.RAW_STRING:
                return String(at, token.text, self._unquoted(token))
        self._back(token)
        return None

    def _parenthesised(self) -> Pipe:
        if self._tree.parens >= MAX_PARENS:
            self._fail("max expression depth exceeded")
        self._tree.parens += 1
        pipe = self._pipeline("parenthesized pipeline", Sort.RIGHT_PAREN)
        self._tree.parens -= 1
        return pipe

    def _number(self, token: Token) -> Number:
        try:
            if token.sort is Sort.CHARACTER:
                return Number(token.position, token.text, character(token.text))
            return Number(token.position, token.text, number(token.text, pair=token.sort is Sort.COMPLEX))
        except LiteralError as error:
            self._fail(str(error))

    def _unquoted(self, token: Token) -> str:
        try:
            return unquote(token.text)
        except LiteralError as error:
            self._fail(str(error))
