"""Fields of generate and chat that Ollama does not have: grammars, choices of tools, and options where some clients put them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from corral.dialects.gojson import Fields
from corral.dialects.wire.formats import ollama_format
from corral.engine.base import NamedTool, OutputFormat, ToolChoice
from corral.errors import InvalidRequest

# As Vercel's provider and others send them; what stands in ``options`` wins.
_OPTIONS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "seed": "seed",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "max_output_tokens": "num_predict",
}


def options(fields: Fields) -> dict[str, Any]:
    """Options that stand beside ``options``."""
    return {option: value for name, option in _OPTIONS.items() if (value := fields.raw(name)) is not None}


def tool_choice(fields: Fields) -> ToolChoice:
    """``tool_choice``: a word, or a tool, as OpenAI writes it or by its name alone. Raises `InvalidRequest`."""
    value = fields.raw("tool_choice")
    if value is None:
        return "auto"
    if value == "auto" or value == "none" or value == "required":
        return value
    if isinstance(value, dict):
        function = value.get("function")
        name = function.get("name") if isinstance(function, dict) else value.get("name", value.get("toolName"))
        if isinstance(name, str) and name:
            return NamedTool(name)
        if value.get("type") in ("auto", "none", "required"):
            return tool_choice(Fields.of({"tool_choice": value["type"]}, "ChatRequest"))
    raise InvalidRequest(
        '"tool_choice" is "auto", "none", "required" or {"type": "function", "function": {"name": …}}, not '
        + orjson.dumps(value).decode()
    )


@dataclass(frozen=True, slots=True)
class Form:
    """What the answer must be, as sent: ``format`` (``"json"`` or a JSON Schema), ``grammar`` (GBNF) or ``regex``.

    Whether it is one, is asked late, as in Ollama: of a model that is there, and of what generates anything.
    """

    format: object
    grammar: str
    regex: str

    @classmethod
    def of(cls, fields: Fields) -> Form:
        """Raises `InvalidRequest`."""
        return cls(fields.raw("format"), fields.string("grammar") or "", fields.string("regex") or "")

    def output(self) -> OutputFormat | None:
        """For the runtime. Raises `InvalidRequest`."""
        if sum(value is not None and value != "" for value in (self.format, self.grammar, self.regex)) > 1:
            raise InvalidRequest('a request can have one of "format", "grammar" and "regex"')
        if self.grammar:
            return OutputFormat(grammar=self.grammar)
        if self.regex:
            return OutputFormat(regex=self.regex)
        return ollama_format(self.format)
