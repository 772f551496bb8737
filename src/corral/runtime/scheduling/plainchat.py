"""Chats that are the same as completions of their prompt: those can be paused, a chat's parser is in the engine and cannot.

The engine derives a parser from the template. It does nothing but tell a thought from the answer when there are no tools and no
format, and when the template knows no marks but ``<think>`` and ``</think>``; and nothing at all when it knows none.
"""

from __future__ import annotations

import re

from corral.engine.base import ChatCall, CompletionCall, Thoughts
from corral.engine.llama import LlamaEngine
from corral.parsing import thinking_tags

_TAGS = ("<think>", "</think>")
_OTHER_MARKS = re.compile(r"think|thought|reason|channel|analysis", re.IGNORECASE)


async def as_completion(engine: LlamaEngine, call: ChatCall) -> CompletionCall | None:
    """The completion that gives what ``call`` would give, where that is certain."""
    messages = call.conversation.messages
    if call.conversation.tools or call.output is not None or call.sampling.top_logprobs is not None:
        return None
    if not messages or messages[-1].role == "assistant" or call.conversation.media:
        return None
    template = await engine.chat_template()
    prompt = (await engine.apply_template(call.conversation)).removeprefix(await engine.beginning())
    thoughts = None
    if thinking_tags(prompt) == _TAGS and only_thinks_in_tags(template):
        thoughts = Thoughts(*_TAGS, inside=True)
    elif _OTHER_MARKS.search(template):
        return None
    shown = _TAGS if thoughts else ()
    return CompletionCall(prompt, call.sampling, thoughts=thoughts, shown=shown, background=call.background)


def only_thinks_in_tags(template: str) -> bool:
    """Whether a template with thoughts has no other marks for them than the usual tags; names of its variables are no marks.

    >>> only_thinks_in_tags("{% if enable_thinking %}<think>{{ reasoning_content }}</think>{% endif %}")
    True
    >>> only_thinks_in_tags("<think>{{ reasoning_content }}</think> <|channel|>final")
    False
    """
    text = template.replace("<think>", "").replace("</think>", "")
    text = re.sub(r"\b(enable_thinking|reasoning_content|message\.thinking|reasoning_effort)\b", "", text)
    return not _OTHER_MARKS.search(text)
