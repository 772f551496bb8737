"""A Go template as the runtime uses it: it makes prompts, and says by which marks an answer is to be read."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache

from anyio import to_thread

from corral.engine.base import Conversation, Thoughts
from corral.errors import CorruptManifest, TemplateError
from corral.parsing import CallForm, thinking_tags
from corral.parsing.forms import call_form
from corral.runtime.answers import Marks
from corral.runtime.probes import asking, shown
from corral.runtime.requests import GenerateRequest, GenerationRequest
from corral.templates.chat import ChatTemplate, Rendered
from corral.templates.facts import TemplateFacts, facts

_CONTROL = re.compile(r"<[|｜][^<>\s]+[|｜]>|\[[A-Z_]+\]")
_OF_CALLS = re.compile(r"tool|call|args", re.IGNORECASE)
_PAST_THOUGHT = re.compile(r"\s*<think>.*?</think>\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class GoPrompt:
    """A Go template as the runtime uses it: it makes prompts, and says how to read answers."""

    template: ChatTemplate
    facts: TemplateFacts

    @classmethod
    def parse(cls, text: str) -> GoPrompt:
        """The template of a text; those used lately are kept. Raises `TemplateError`."""
        return _parsed(text)

    async def render(self, conversation: Conversation) -> Rendered:
        """The prompt after which the model goes on. Raises `TemplateError`. It takes a thread: a template may be a program."""
        return await to_thread.run_sync(self.template.chat, conversation)

    async def prompt(self, conversation: Conversation) -> str:
        """The text of `render`."""
        return (await self.render(conversation)).prompt

    async def fill(self, prompt: str, suffix: str) -> str:
        """The prompt for what stands between two texts. Raises `TemplateError`."""
        return await to_thread.run_sync(self.template.fill, prompt, suffix)

    def thoughts(self, prompt: str, *, begun: bool = False) -> Thoughts | None:
        """The tags of thoughts in an answer to ``prompt``, which may have opened one; whatever was asked, they are told apart.

        ``begun`` is whether the prompt ends in the middle of one.
        """
        pairs = [pair for pair in (self.facts.thinking_tags, thinking_tags(prompt)) if pair is not None]
        end = prompt.rstrip()
        opened = next((pair for pair in pairs if end.endswith(pair[0])), None)
        if opened is None and not pairs:
            return None
        return Thoughts(*(opened or pairs[0]), inside=begun or opened is not None, begun=begun)

    async def marks(self, prompt: str, *, tools: bool, begun: bool = False) -> Marks:
        """How an answer to ``prompt`` is to be read; ``begun`` is that of `thoughts`."""
        thoughts = self.thoughts(prompt, begun=begun)
        form = await to_thread.run_sync(_form, self.template.template.text) if tools else None
        shown_marks = (*self.shown(thoughts, tools=tools), *(form.marks if form else ()))
        return Marks(thoughts, self.facts.tool_tag, form, tuple(dict.fromkeys(shown_marks)))

    def shown(self, thoughts: Thoughts | None, *, tools: bool) -> tuple[str, ...]:
        """Tokens that must come as text, though they may be control tokens to the engine."""
        marks = [thoughts.opening, thoughts.closing] if thoughts else []
        if tools:
            marks += [mark for mark in _CONTROL.findall(self.template.template.text) if _OF_CALLS.search(mark)]
            marks.append(self.facts.tool_tag.strip(" \n[{"))
        return tuple(dict.fromkeys(mark for mark in marks if mark))


@lru_cache(maxsize=64)
def _form(text: str) -> CallForm | None:
    """The form in which a template writes calls, if it can be told."""
    template = _parsed(text).template
    prompts = []
    for conversation in asking():
        try:
            prompts.append(template.chat(conversation).prompt)
        except TemplateError:
            prompts.append("")
    return call_form(shown(prompts))


@lru_cache(maxsize=64)
def _parsed(text: str) -> GoPrompt:
    template = ChatTemplate.parse(text)
    return GoPrompt(template, facts(template.template))


def go_prompt(request: GenerationRequest) -> GoPrompt:
    """The template that renders a request's prompt. Raises `TemplateError`, or `CorruptManifest` where the model brings it."""
    if isinstance(request, GenerateRequest) and request.own_template:
        return GoPrompt.parse(request.own_template)
    try:
        return GoPrompt.parse(request.template or "")
    except TemplateError as exc:
        name = request.spec.name.short
        raise CorruptManifest(f'the template of "{name}" cannot be used: {exc}') from exc


def without_past_thoughts(request: GenerationRequest, conversation: Conversation) -> Conversation:
    """Some models were trained without the thoughts of earlier answers, which clients keep in their texts."""
    if request.spec.details.family != "qwen3" and request.spec.name.model != "deepseek-r1":
        return conversation
    asked = max((i for i, m in enumerate(conversation.messages) if m.role == "user"), default=0)
    messages = [
        replace(m, content=_PAST_THOUGHT.sub("", m.content, count=1)) if m.role == "assistant" and i < asked else m
        for i, m in enumerate(conversation.messages)
    ]
    return replace(conversation, messages=tuple(messages))
