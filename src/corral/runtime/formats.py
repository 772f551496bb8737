"""JSON Schemas that the engine cannot take, found out before anything is generated."""

from __future__ import annotations

from contextlib import aclosing

from corral.engine.base import ChatCall, Conversation, Engine, Message, OutputFormat, Sampling
from corral.errors import EngineRefused, InvalidRequest


async def check_format(engine: Engine, output: OutputFormat) -> None:
    """Raises `InvalidRequest` if the engine cannot hold an answer to the schema.

    Where it continues a text it drops such a schema without a word, and answers freely; in a chat it refuses. So it is asked for
    one token of a chat, which takes milliseconds.
    """
    if output.schema is None or output.grammar:
        return
    call = ChatCall(Conversation((Message("user", " "),), thinking=False), Sampling(max_tokens=1), output)
    try:
        async with aclosing(engine.chat(call)) as stream:
            async for _ in stream:
                pass
    except EngineRefused as exc:
        if "schema" not in str(exc) and "grammar" not in str(exc):
            return  # the chat was refused for another reason, such as a Jinja template that the engine cannot read
        why = str(exc).removeprefix("Unable to generate parser for this template. Automatic parser generation failed: ")
        raise InvalidRequest(f'the "format" of the request cannot be used: {why}') from exc
