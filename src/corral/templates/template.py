"""A parsed template: Go's text/template with the functions that Ollama adds."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field

from corral.errors import TemplateError
from corral.templates.execute import execute
from corral.templates.functions import FUNCTIONS, Context
from corral.templates.limits import Budget, Limits
from corral.templates.nodes import Nodes
from corral.templates.parser import parse
from corral.templates.values import whole


@dataclass(frozen=True, slots=True)
class Template:
    """``trees`` are the templates that the text defines, by name; its own is ``name``, which is empty as in Ollama."""

    text: str = field(repr=False)
    trees: Mapping[str, Nodes] = field(repr=False)
    name: str = ""

    @classmethod
    def parse(cls, text: str, name: str = "") -> Template:
        """The template of a text. TemplateError: with Go's message, such as ``template: :1: unclosed action``."""
        try:
            return cls(text, parse(text, FUNCTIONS.keys(), name), name)
        except RecursionError as error:
            raise TemplateError(f"template: {name}: nested too deep") from error

    @property
    def root(self) -> Nodes:
        """What the text itself prints."""
        return self.trees[self.name]

    def execute(self, data: object, *, today: datetime.date | None = None, limits: Limits = Limits()) -> str:  # noqa: B008
        """What it prints for ``data``, its dot. ``today`` is for currentDate.

        TemplateError: with Go's message, or a limit was passed; nothing is printed then.
        """
        context = Context(Budget(limits), today or datetime.date.today())  # noqa: DTZ011 - the user's own date is meant
        try:
            return whole(execute(self.trees, self.name, self.text, data, context))
        except RecursionError as error:
            raise TemplateError(f"template: {self.name}: nested too deep") from error
