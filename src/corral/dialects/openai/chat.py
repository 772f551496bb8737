"""``POST /v1/chat/completions``: the request, as OpenAI defines it, with the extras of llama.cpp and Ollama."""

from __future__ import annotations

from dataclasses import dataclass

from corral.dialects.gojson import Fields
from corral.dialects.media import Fetched
from corral.dialects.openai.asked import Asked, decode, fields_of, unknown_value
from corral.dialects.openai.messages import messages
from corral.dialects.wire.options import rivals
from corral.dialects.wire.tools import Choice, Tool, chosen, function, refuse_kind
from corral.engine.base import Message
from corral.errors import InvalidRequest
from corral.library import ModelSpec
from corral.runtime.requests import ChatRequest

_KNOWN = frozenset(
    {
        "messages",
        "top_logprobs",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "functions",
        "function_call",
        "modalities",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat(Asked):
    """A request, checked. With ``functions`` it was asked in the old form, and is answered so."""

    messages: tuple[Message, ...]
    tools: Choice
    parallel_tool_calls: bool
    functions: bool
    thinks_apart: bool

    @classmethod
    def decode(cls, body: bytes, fetched: Fetched) -> Chat:
        """``fetched`` are the files behind the links in ``body``. Raises `InvalidRequest`."""
        fields = fields_of(body, "ChatCompletionRequest")
        shared = decode(fields, _KNOWN, rivals(fields))
        _modalities(fields)
        functions = fields.raw("tools") is None and fields.raw("functions") is not None
        parallel = fields.boolean("parallel_tool_calls")
        return cls(
            **shared,
            messages=messages(fields.array("messages", "[]openai.Message") or (), fetched),
            tools=_functions(fields) if functions else _tools(fields),
            parallel_tool_calls=not functions and (True if parallel is None else parallel),
            functions=functions,
            thinks_apart=fields.raw("max_completion_tokens") is None,  # which OpenAI has for both together
        )

    def requests(self, spec: ModelSpec) -> list[ChatRequest]:
        """For the runtime: one for each answer."""
        return [
            ChatRequest(
                **core,
                messages=self.messages,
                tools=self.tools.tools,
                tool_choice=self.tools.choice,
                parallel_tool_calls=self.parallel_tool_calls,
                thinks_apart=self.thinks_apart,
            )
            for core in self.core(spec)
        ]


def _tools(fields: Fields) -> Choice:
    listed = fields.array("tools", "[]api.Tool") or []
    return chosen(fields.raw("tool_choice"), [_tool(tool, f"tools[{number}]") for number, tool in enumerate(listed)])


def _tool(value: object, where: str) -> Tool:
    if not isinstance(value, dict):
        raise InvalidRequest(f"{where} must be an object with a type and a function", param=where)
    kind = value.get("type", "function")
    if kind != "function":
        raise refuse_kind(kind, f"{where}.type")
    return function(value.get("function"), f"{where}.function")


def _functions(fields: Fields) -> Choice:
    """The old form: ``functions`` and ``function_call``, which is ``none``, ``auto`` or the name of one."""
    listed = fields.array("functions", "[]openai.Function") or []
    tools = [function(value, f"functions[{number}]") for number, value in enumerate(listed)]
    wanted = fields.raw("function_call")
    if isinstance(wanted, dict):
        wanted = {"type": "function", "function": wanted}
    elif wanted not in (None, "none", "auto"):
        raise unknown_value("function_call", wanted, '"none", "auto", or {"name": …}')
    return chosen(wanted, tools, "function_call")


def _modalities(fields: Fields) -> None:
    for modality in fields.array("modalities", "[]string") or ():
        if modality != "text":
            raise unknown_value("modalities", modality, '["text"]: models answer in text here')
