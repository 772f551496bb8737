"""Templates and data composed at random, and mutations of them. The same seed gives the same ones."""

from __future__ import annotations

import random
from typing import Any

from tests.templates.rules import DATA, NUMBERS

_TEXTS = ["", " ", "\n", "text", "<|im_start|>", "é✓", "a b", "  \n\t", "}}", "{ {", "\"'<&>", "%d", "\r\n"]
_STRINGS = [
    '""',
    '"a"',
    '"b"',
    '"user"',
    '"é✓🎈"',
    '"a\\nb"',
    "`raw`",
    '"%v %d"',
    '"x y"',
    '"<b>&"',
    '"\\xff"',
    '"a"',
    '"10"',
]
_CONSTANTS = ["0", "1", "2", "3", "-1", "1.5", "true", "false", "nil", "'a'", "1e3", "0x10", "2i", "10", "100"]
_VERBS = [
    "%v", "%+v", "%#v", "%T", "%d", "%s", "%q", "%x", "%X", "% x", "%5d", "%-5s|", "%05d", "%.2f", "%8.3f", "%g", "%e",
    "%t", "%c", "%U", "%#U", "%o", "%b", "%#x", "%*d", "%.*f", "%[1]v", "%[2]v", "%%", "%z", "%", "%+d", "%6.2v", "%08v",
    "%.1s", "%#q", "%+q", "%E", "%G", "%F", "%O", "%!", "%[3]d", "%-8v|", "% d", "%+.3e", "%#g", "%.3g", "%20s", "%w",
]  # fmt: skip
_NAMES = [*DATA["main"], "Missing", "a", "b", "c", "n", "v", "Role", "Content", "Calls", "Name", "Inner", "Count", "d"]
_FIELDS = [name for name in _NAMES if " " not in name]
_FUNCTIONS = {
    "and": (1, 3), "or": (1, 3), "not": (1, 1), "eq": (2, 3), "ne": (2, 2), "lt": (2, 2), "le": (2, 2), "gt": (2, 2),
    "ge": (2, 2), "len": (1, 1), "index": (2, 3), "slice": (1, 3), "print": (0, 3), "println": (0, 2), "html": (1, 2),
    "js": (1, 1), "urlquery": (1, 1), "json": (1, 1), "printf": (1, 4), "currentDate": (0, 1), "toTypeScriptType": (1, 1),
    "call": (1, 2),
}  # fmt: skip
_TYPED_CALLS = [
    "len $.L", "len $.S", "len $.M", "index $.L 1", 'index $.M "a"', "slice $.S 1 3", "slice $.L 1", "eq $.S `hello`",
    "lt $.I 50", "ge $.Fl 2.0", "eq 1 2 1", "len $.Messages", "index $.LL 0 1", "slice $.Messages 1", "index $.Messages 1",
    "index $.Tools 0", 'eq $.Named "user"', "ne $.E $.S",
]  # fmt: skip
_ALPHABET = "{}-.$|()\"'`\\:=, \nabnif0123xeE_+/*%éü✓@;!~"


class Composer:
    """Composes templates from actions that mostly make sense, and now and then do not."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._variables: list[str] = []
        self._loops = 0
        self._gentle = False  # compose what Go does not refuse

    def template(self) -> str:
        """A whole template."""
        self._variables, self._loops = ["$"], 0
        self._gentle = self.random.random() < 0.6
        parts = [self._node(3) for _ in range(self.random.randint(1, 5))]
        if self.random.random() < 0.2:
            self._variables = ["$"]
            parts.append('{{define "d"}}' + self._nodes(2) + "{{end}}")
        return "".join(parts)

    def value(self, depth: int = 3) -> Any:
        """Data of any shape."""
        pick = self.random.random()
        if depth and pick < 0.2:
            return [self.value(depth - 1) for _ in range(self.random.randint(0, 4))]
        if depth and pick < 0.45:
            keys = self.random.sample(_FIELDS, self.random.randint(0, 6))
            return {key: self.value(depth - 1) for key in keys}
        if pick < 0.5:
            return DATA["main"][
                self.random.choice(["Msg", "PMsg", "In", "PIn", "Named", "u8", "i64", "Tools", "Args", "NilP"])
            ]
        return self.random.choice(
            ["", "a", "user", "é✓", "<b>&\"'", "line\nline", 0, 1, -3, 42, 2.5, 1e21, 1e-7, 123456.5, True, False, None]
        )

    def data(self) -> Any:
        """A root: mostly a map that has what the templates ask for."""
        if self._gentle:
            return DATA["main"]
        if self.random.random() < 0.5:
            names = self.random.sample(sorted(DATA["main"]), 14)
            return {name: DATA["main"][name] for name in names}
        return {name: self.value() for name in self.random.sample(_FIELDS, 12)}

    def mutated(self, text: str) -> str:
        """``text`` with a few characters changed, lost, doubled or moved."""
        characters = list(text)
        for _ in range(self.random.randint(1, 4)):
            at = self.random.randrange(len(characters) + 1)
            match self.random.randrange(4):
                case 0:
                    characters.insert(at, self.random.choice(_ALPHABET))
                case 1 if at < len(characters):
                    characters[at] = self.random.choice(_ALPHABET)
                case 2:
                    del characters[at : at + self.random.randint(1, 5)]
                case _:
                    size = self.random.randint(1, 12)
                    characters[at:at] = characters[at : at + size]
        return "".join(characters)

    # Nodes.

    def _nodes(self, depth: int) -> str:
        marked = len(self._variables)
        text = "".join(self._node(depth) for _ in range(self.random.randint(0, 3)))
        del self._variables[marked:]
        return text

    def _node(self, depth: int) -> str:
        pick = self.random.random()
        if pick < 0.2:
            return self.random.choice(_TEXTS)
        if depth and pick < 0.32:
            return self._if(depth - 1)
        if depth and pick < 0.47:
            return self._range(depth - 1)
        if depth and pick < 0.55:
            return self._with(depth - 1)
        if pick < 0.62:
            return self._action(self._declaration())
        if pick < 0.65:
            return self._action("template " + self.random.choice(['"d"', '"d" .', '"missing"', f'"d" {self._pipe(1)}']))
        if pick < 0.68:
            return "{{" + self.random.choice(["/* c */", "- /* c */ -", "/*a\nb*/ -"]) + "}}"
        if self._loops and pick < 0.72:
            return self._action(self.random.choice(["break", "continue"]))
        return self._action(self._pipe(2))

    def _action(self, inside: str) -> str:
        left = self.random.choice(["{{", "{{ ", "{{- ", "{{"])
        right = self.random.choice(["}}", " }}", " -}}", "}}"])
        return left + inside + right

    def _if(self, depth: int) -> str:
        marked = len(self._variables)
        condition = self._declaration() if self.random.random() < 0.1 else self._pipe(2)
        text = self._action(f"if {condition}") + self._nodes(depth)
        while self.random.random() < 0.3:
            text += self._action(f"else if {self._pipe(1)}") + self._nodes(depth)
        if self.random.random() < 0.4:
            text += self._action("else") + self._nodes(depth)
        del self._variables[marked:]
        return text + self._action("end")

    def _with(self, depth: int) -> str:
        marked = len(self._variables)
        condition = self._declaration() if self.random.random() < 0.2 else self._pipe(1)
        text = self._action(f"with {condition}") + self._nodes(depth)
        if self.random.random() < 0.2:
            text += self._action(f"else with {self._pipe(1)}") + self._nodes(depth)
        if self.random.random() < 0.3:
            text += self._action("else") + self._nodes(depth)
        del self._variables[marked:]
        return text + self._action("end")

    def _range(self, depth: int) -> str:
        marked = len(self._variables)
        names = self.random.sample(["$i", "$x", "$y", "$é"], self.random.choice([0, 0, 1, 2, 2]))
        over = self.random.choice([".L", ".M", ".LL", ".LM", ".Messages", ".Tools", "$.Mixed", "3", self._pipe(1)])
        assigns = self.random.random() < 0.15 and all(name in self._variables for name in names)
        declared = f"{', '.join(names)} {'=' if assigns else ':='} " if names else ""
        self._variables += names
        self._loops += 1
        text = self._action(f"range {declared}{over}") + self._nodes(depth)
        self._loops -= 1
        if self.random.random() < 0.3:
            text += self._action("else") + self._nodes(depth)
        del self._variables[marked:]
        return text + self._action("end")

    def _declaration(self) -> str:
        pipe = self._pipe(1)
        if len(self._variables) > 1 and self.random.random() < 0.4:
            return f"{self.random.choice(self._variables[1:])} = {pipe}"
        self._variables.append(self.random.choice(["$x", "$y", "$z", "$long_name"]))
        return f"{self._variables[-1]} := {pipe}"

    # Pipelines.

    def _pipe(self, depth: int) -> str:
        text = self._operand(depth) if self.random.random() < 0.5 else self._call(depth)
        while self.random.random() < 0.2:
            text += " | " + self._call(depth, least=-1)
        return text

    def _call(self, depth: int, least: int = 0) -> str:
        if self._gentle and self.random.random() < 0.97:
            return self._gentle_call(depth, least)
        name = self.random.choice(list(_FUNCTIONS))
        low, high = _FUNCTIONS[name]
        count = max(self.random.randint(low, high) + least, 0)
        if self.random.random() < 0.03:
            count = self.random.randint(0, 4)
        arguments = [self._operand(depth) for _ in range(count)]
        if name == "printf" and count and self.random.random() < 0.9:
            verbs = "".join(
                self.random.choice(_VERBS) + self.random.choice(["", " "]) for _ in range(self.random.randint(1, 3))
            )
            arguments[0] = '"' + verbs + '"'
        return " ".join([name, *arguments])

    def _gentle_call(self, depth: int, least: int) -> str:
        """A call whose arguments fit; the last is missing where ``least`` is -1, as the pipeline gives it."""
        name = self.random.choice(
            ["and", "or", "not", "print", "println", "html", "js", "urlquery", "json", "printf", "typed"]
        )
        if name == "typed" and least == 0:
            return self.random.choice(_TYPED_CALLS)
        if name in ("printf", "typed"):
            count = self.random.randint(1, 3)
            verbs = " ".join(self.random.choice(_VERBS[:36]) for _ in range(count))
            return " ".join([f'printf "{verbs}"', *(self._operand(depth) for _ in range(max(count + least, 0)))])
        most = {"not": 1, "json": 1, "js": 2, "and": 3, "or": 3}.get(name, 3)
        count = max(self.random.randint(1, most) + least, 0)
        return " ".join([name, *(self._operand(depth) for _ in range(count))])

    def _gentle_operand(self, depth: int) -> str:
        pick = self.random.random()
        if pick < 0.5:
            return "$." + self.random.choice([name for name in DATA["main"] if " " not in name])
        if pick < 0.6:
            return self.random.choice(
                ["$.Msg.Content", "$.M.c.d", "$.PMsg.Calls", "$.Msg.Inner.Name", "$.Args.a", "$.MI.zz"]
            )
        if pick < 0.7:
            return self.random.choice(self._variables)
        if depth and pick < 0.8:
            return f"({self._pipe(depth - 1)})"
        return self.random.choice([".", *_STRINGS, "1", "2.5", "true", "'x'", "1e3"])

    def _operand(self, depth: int) -> str:
        if self._gentle and self.random.random() < 0.98:
            return self._gentle_operand(depth)
        pick = self.random.random()
        if pick < 0.35:
            return "." + self.random.choice(_FIELDS) + (f".{self.random.choice(_FIELDS)}" if pick < 0.08 else "")
        if pick < 0.5:
            name = self.random.choice(self._variables)
            return name + (f".{self.random.choice(_FIELDS)}" if self.random.random() < 0.4 else "")
        if pick < 0.58:
            return "."
        if depth and pick < 0.7:
            return f"({self._pipe(depth - 1)})" + (f".{self.random.choice(_FIELDS)}" if pick < 0.62 else "")
        if pick < 0.84:
            return self.random.choice(_STRINGS)
        if pick < 0.87:
            return self.random.choice(NUMBERS)
        return self.random.choice(_CONSTANTS)


def compose(seed: int, count: int) -> list[tuple[str, Any]]:
    """``count`` templates with data; every fifth is broken on purpose."""
    composer = Composer(seed)
    found: list[tuple[str, Any]] = []
    for number in range(count):
        text = composer.template()
        found.append((composer.mutated(text) if number % 5 == 4 else text, composer.data()))
    return found
