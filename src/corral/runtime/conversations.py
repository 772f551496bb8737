"""Requests as conversations: the model's own system message and examples, the client's turns, what the model can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from corral.durations import quoted
from corral.engine.base import Conversation, Json, Message
from corral.errors import PROMPT, THINKING, NotSupported
from corral.library import ModelSpec
from corral.runtime.formats import Wanted, check_choice
from corral.runtime.requests import ChatRequest, GenerateRequest, GenerationRequest
from corral.runtime.suiting import suited


def conversation_of(
    request: GenerationRequest, messages: tuple[Message, ...], tools: tuple[Mapping[str, Json], ...]
) -> Conversation:
    """What the template is to render. Raises `NotSupported` for what the model cannot do."""
    capabilities = request.spec.capabilities
    name = quoted(request.model)
    if request.think and "thinking" not in capabilities:
        raise NotSupported(f"{name} does not support thinking", param=THINKING)
    if tools and "tools" not in capabilities:
        raise NotSupported(f"{request.spec.name} does not support tools", param="tools")
    check_media(request, messages)
    if request.template is None and request.spec.facts:
        messages = suited(messages, request.spec.facts.chat_template or "")
    return Conversation(messages, tools, *_thinking(request))


def check_media(request: GenerationRequest, messages: tuple[Message, ...]) -> None:
    """Raise `NotSupported` where there are images or sounds that the model cannot see or hear."""
    capabilities, found = request.spec.capabilities, request.spec.translation
    why = f": {found.lacks}" if found and found.lacks else ""
    for what, has, capability in (
        ("images", any(message.images for message in messages), "vision"),
        ("audio", any(message.audio for message in messages), "audio"),
    ):
        if has and capability not in capabilities:
            raise NotSupported(f"{quoted(request.model)} does not support {what}{why}", param=PROMPT)


def _thinking(request: GenerationRequest) -> tuple[bool | None, str | None]:
    """Whether to think, and how much. Go templates are always told how much, and also that a model shall not which cannot."""
    renders = request.template is not None
    if "thinking" not in request.spec.capabilities:
        return (False if renders and request.think is False else None), None
    think = True if request.think is None else request.think
    effort = think if isinstance(think, str) else None
    return bool(think), "medium" if renders and think is True else effort


def with_model_turns(spec: ModelSpec, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The request's turns behind the model's own system message and examples."""
    turns = tuple(Message(role, content) for role, content in spec.messages) + messages
    if spec.system and not (messages and messages[0].role == "system"):
        return (Message("system", spec.system), *turns)
    return turns


def chat_conversation(request: ChatRequest) -> Conversation:
    """The conversation of a chat. Raises `NotSupported` for what the model cannot do."""
    check_choice(request.tools, request.tool_choice)
    # Who must not call a tool is not told of any; the answer is held to be without the mark that calls begin with besides.
    tools = () if request.tool_choice == "none" else request.tools
    messages = request.messages
    if request.template is None and len(messages) > 1 and _begins_nothing(messages[-1]):
        messages = messages[:-1]  # llama-server would leave out what begins an answer, and the model would write that
    return conversation_of(request, with_model_turns(request.spec, messages), tools)


def _begins_nothing(message: Message) -> bool:
    """Whether this is a turn of the assistant with nothing in it, as some clients send it to be filled in."""
    said = message.content or message.thinking or message.tool_calls or message.images or message.audio
    return message.role == "assistant" and not said


def wanted_of(request: GenerationRequest, conversation: Conversation) -> Wanted:
    """What the answer to a request is to be."""
    begun = bool(conversation.messages) and conversation.messages[-1].role == "assistant"
    wanted = Wanted(request.output, conversation.tools, thinks=bool(conversation.thinking) and not begun)
    if isinstance(request, ChatRequest) and request.tools:
        return replace(wanted, choice=request.tool_choice, parallel=request.parallel_tool_calls)
    return wanted


def prompt_conversation(request: GenerateRequest) -> Conversation:
    """A prompt as a conversation of one question. Raises `NotSupported` for what the model cannot do."""
    system = request.system or request.spec.system
    examples = request.spec.messages if request.context is None else ()
    messages = (
        *((Message("system", system),) if system else ()),
        *(Message(role, content) for role, content in examples),
        Message("user", request.prompt, images=request.images, audio=request.audio),
    )
    return conversation_of(request, messages, ())
