"""Renders conversations to prompts with Ollama's templates, in the three ways that these are written.

A template that uses ``.Messages`` is executed once. An older one, which knows one question and one answer, is executed for each
pair, and the last time only up to its ``.Response``. With a suffix, a template is executed once to fill in what stands between.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from corral.errors import TemplateError
from corral.templates.conversation import (
    MESSAGES,
    Conversation,
    Message,
    ToolCall,
    message_value,
    tools_value,
)
from corral.templates.facts import variables
from corral.templates.limits import Limits
from corral.templates.nodes import Action, Command, FieldPath, If, Node, Nodes, Pipe, Range, Variable, With
from corral.templates.template import Template
from corral.templates.values import Pointer, Slice


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt, and the images and sounds that its placeholders ``[img-N]`` stand for, in the order of their numbers."""

    prompt: str
    images: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A template for conversations. ``variables`` are the names it uses anywhere, in lower case."""

    template: Template
    variables: frozenset[str]
    _last_round: Template = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> ChatTemplate:
        """The template of a text; one that has neither messages nor a response gets ``{{ .Response }}`` at its end.

        TemplateError: with Go's message.
        """
        template = Template.parse(text)
        try:
            used = variables(template)
            if not used & {"messages", "response"}:
                root = (*template.root, _RESPONSE)
                template = replace(template, trees={**template.trees, template.name: root})
                used |= {"response"}
            last, _ = _up_to_response(template.root)
        except RecursionError as error:
            raise TemplateError("template: nested too deep") from error
        return cls(template, used, replace(template, trees={**template.trees, template.name: last}))

    def chat(
        self,
        conversation: Conversation,
        *,
        today: datetime.date | None = None,
        limits: Limits = Limits(),  # noqa: B008
    ) -> Rendered:
        """The prompt after which the model goes on. TemplateError: the template does not fit its data, or a limit was passed."""
        turns = _turns(conversation.messages)
        images = tuple(data for message in conversation.messages for data in _media(message))
        run = _Run(self, _thinking(conversation), today, limits)
        if "messages" not in self.variables:
            return Rendered(run.by_rounds(turns), images)
        try:
            return Rendered(run.at_once(turns, conversation), images)
        except RecursionError as error:
            raise TemplateError("template: a tool is nested too deep") from error

    def fill(self, prompt: str, suffix: str, *, today: datetime.date | None = None, limits: Limits = Limits()) -> str:  # noqa: B008
        """The prompt for what stands between ``prompt`` and ``suffix``. TemplateError: as `chat`."""
        data = {"Prompt": prompt, "Suffix": suffix, "Response": ""}
        return self.template.execute(data, today=today, limits=limits)


@dataclass(frozen=True, slots=True)
class _Turn:
    """Neighbouring messages of one role as one."""

    message: Message
    role: str
    content: str
    thinking: str
    images: tuple[bytes, ...]
    calls: tuple[ToolCall, ...]

    def value(self) -> Pointer:
        return message_value(self.message, self.role, self.content, self.thinking, self.images, self.calls)


@dataclass(frozen=True, slots=True)
class _Run:
    template: ChatTemplate
    thinking: Mapping[str, object]
    today: datetime.date | None
    limits: Limits

    def at_once(self, turns: Sequence[_Turn], conversation: Conversation) -> str:
        data = {
            "System": "\n\n".join(turn.content for turn in turns if turn.role == "system"),
            "Messages": Slice(MESSAGES, [turn.value() for turn in turns]),
            "Tools": tools_value(conversation.tools),
            "Response": "",
            **self.thinking,
        }
        return self.template.template.execute(data, today=self.today, limits=self.limits)

    def by_rounds(self, turns: Sequence[_Turn]) -> str:
        """One execution for each question with its answer; system messages open a round and are told once."""
        prompt: list[str] = []
        pending = {"System": "", "Prompt": "", "Response": ""}
        for turn in turns:
            answered = pending["Response"] or (turn.role == "system" and pending["Prompt"])
            if turn.role in ("system", "user") and answered:
                prompt.append(self._round(self.template.template, pending))
                pending = {"System": "", "Prompt": "", "Response": ""}
            if name := _PARTS.get(turn.role):
                pending[name] = turn.content
        prompt.append(self._round(self.template._last_round, pending))
        return "".join(prompt)

    def _round(self, template: Template, pending: Mapping[str, str]) -> str:
        return template.execute({**pending, **self.thinking}, today=self.today, limits=self.limits)


_PARTS = {"system": "System", "user": "Prompt", "assistant": "Response"}
_RESPONSE = Action(Pipe(0, (), False, (Command(0, (FieldPath(0, ("Response",)),)),)))


def _thinking(conversation: Conversation) -> dict[str, object]:
    return {
        "Think": bool(conversation.thinking),
        "ThinkLevel": conversation.effort or "",
        "IsThinkSet": conversation.thinking is not None,
    }


def _turns(messages: Sequence[Message]) -> list[_Turn]:
    """Messages with placeholders for their images, and neighbours of one role merged, except results of tools.

    Ollama forgets the images and calls of a message that it merges into another; here they stay.
    """
    turns: list[_Turn] = []
    images = 0
    for message in messages:
        role = "system" if message.role == "developer" else message.role
        media = _media(message)
        content = _with_placeholders(message.content, len(media), images)
        images += len(media)
        calls = tuple(message.tool_calls)
        turn = _Turn(message, role, content, message.thinking, media, calls)
        if turns and turns[-1].role == role != "tool":
            turns[-1] = _merged(turns[-1], turn)
        else:
            turns.append(turn)
    return turns


def _media(message: Message) -> tuple[bytes, ...]:
    """What goes to the engine beside the text; to templates, as to Ollama's, a sound is an image."""
    return (*message.images, *message.audio)


def _merged(first: _Turn, second: _Turn) -> _Turn:
    return replace(
        first,
        content=f"{first.content}\n\n{second.content}",
        thinking=first.thinking or second.thinking,
        images=first.images + second.images,
        calls=first.calls + second.calls,
    )


def _with_placeholders(content: str, count: int, first: int) -> str:
    """``content`` with a placeholder for each image: where ``[img]`` stands, or before it."""
    prefix = ""
    for number in range(first, first + count):
        if "[img]" in content:
            content = content.replace("[img]", f"[img-{number}]", 1)
        else:
            prefix += f"[img-{number}]"
    return prefix + content


def _up_to_response(nodes: Nodes) -> tuple[Nodes, bool]:
    """``nodes`` up to the first that prints ``.Response``, and whether there is one."""
    kept: list[Node] = []
    for node in nodes:
        node, found = _cut(node)
        kept.append(node)
        if found:
            return tuple(kept), True
    return tuple(kept), False


def _cut(node: Node) -> tuple[Node, bool]:
    if isinstance(node, Action):
        return node, _prints_response(node)
    if not isinstance(node, If | With | Range):
        return node, False
    body, found = _up_to_response(node.body)
    otherwise = node.otherwise
    if otherwise is not None:
        otherwise, also = _up_to_response(otherwise)
        found = found or also
    return replace(node, body=body, otherwise=otherwise), found


def _prints_response(action: Action) -> bool:
    operands = (operand for command in action.pipe.commands for operand in command.operands)
    return any(isinstance(operand, FieldPath | Variable) and "Response" in operand.names for operand in operands)
