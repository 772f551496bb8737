"""llama.cpp's HTTP server as an `Engine`.

Every field sent is written here from parsed values, none is passed through. Each request has a connection of its own: the
server closes them after a streamed answer, and says so too late for a pool of connections to notice.
"""

from __future__ import annotations

import math
import re
from base64 import b64encode
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Any

import anyio
import orjson

from corral.engine.answers import ChatAnswer, CompletionAnswer
from corral.engine.base import (
    Batch,
    ChatCall,
    CompletionCall,
    Conversation,
    Embeddings,
    EngineConfig,
    Json,
    Message,
    OutputFormat,
    Sampling,
)
from corral.engine.hold import Hold, Released
from corral.engine.http import Connector, Exchange
from corral.engine.process import EngineProcess
from corral.errors import EngineCrashed, EngineError, EngineRefused, PromptTooLong
from corral.parsing import StopMatcher

_DYING_S = 1.0
# Most embedding models read a text at once; what they cannot read so is refused with a text of status 500.
_LARGER_THAN_BATCH = re.compile(r"input \(([0-9]+) tokens\) is too large to process.*batch size: ([0-9]+)\)", re.DOTALL)
_PLACEHOLDER = re.compile(r"\[img-([0-9]{1,6})\]")


class _Broken(Exception):
    """The connection ended before the answer did: the process is gone or going, or it was closed from here."""


class LlamaEngine:
    """An `Engine` that talks to one engine process, which belongs to its starter."""

    def __init__(self, config: EngineConfig, process: EngineProcess) -> None:
        self._config = config
        self._process = process
        self._connector = Connector(process.port, process.key)
        self._beginning: str | None = None
        self._end_of_turn: str | None = None
        self._chat_template: str | None = None

    @property
    def config(self) -> EngineConfig:
        return self._config

    async def chat(self, call: ChatCall, hold: Hold | None = None) -> AsyncGenerator[Batch, None]:
        """As the protocol has it; with a ``hold`` it may also raise `Released`."""
        body = _conversation(call.conversation) | _sampling(call.sampling) | {"stream": True}
        if call.sampling.max_tokens is not None:
            body["max_tokens"] = call.sampling.max_tokens
        if call.sampling.top_logprobs is not None:
            body["logprobs"] = True
            body["top_logprobs"] = max(call.sampling.top_logprobs, 1)
        if call.conversation.tools:
            body["tool_choice"] = call.tool_choice
            body["parallel_tool_calls"] = True
        if call.output is not None:
            body["response_format"] = _response_format(call.output)
        answer = ChatAnswer(call.sampling)
        if call.sampling.stop and call.conversation.thinking is not False:
            # The engine would look for them in thoughts too; so they are looked for here, where answers are known.
            del body["stop"]
            body["timings_per_token"] = True
            answer.stops = StopMatcher(call.sampling.stop)
        stream = self._answered("/v1/chat/completions", body, answer, hold)
        async with aclosing(stream):
            async for batch in stream:
                yield batch

    async def complete(self, call: CompletionCall, hold: Hold | None = None) -> AsyncGenerator[Batch, None]:
        """As the protocol has it; with a ``hold`` it may also raise `Released`."""
        body: dict[str, Any] = {"prompt": call.prompt, "cache_prompt": True, "stream": True, **_sampling(call.sampling)}
        if call.images:
            body["prompt"] = await self._with_images(call.prompt, call.images)
        body["n_predict"] = -1 if call.sampling.max_tokens is None else call.sampling.max_tokens
        if call.shown:
            body["preserved_tokens"] = list(call.shown)
        if call.sampling.top_logprobs is not None:
            body["n_probs"] = max(call.sampling.top_logprobs, 1)
        if call.output is not None:
            body["json_schema"] = call.output.schema if call.output.schema is not None else {"type": "object"}
        if call.thoughts is not None:
            # The engine would look for stop strings in the thought too; so they are looked for here.
            body.pop("stop", None)
            body["timings_per_token"] = True
        answer = CompletionAnswer(call)
        if hold is not None and hold.answer is not None:
            answer = hold.answer
            body.pop("stop", None)
            body |= {"timings_per_token": True, "return_tokens": True}
            if hold.resumed is not None:
                room = hold.resumed.room
                body |= {"prompt": list(hold.resumed.tokens), "n_predict": -1 if room is None else room}
        stream = self._answered("/completion", body, answer, hold)
        async with aclosing(stream):
            async for batch in stream:
                yield batch

    async def _answered(
        self, path: str, body: dict[str, Any], answer: ChatAnswer | CompletionAnswer, hold: Hold | None
    ) -> AsyncGenerator[Batch, None]:
        if hold is not None and hold.slot is not None:
            body["id_slot"] = hold.slot
        try:
            async with self._post(path, body) as response:
                if hold is not None:
                    hold.begin(response.close)
                stream = _ServerSentEvents(response)
                while objects := await stream.arrived():
                    if hold is not None:
                        if hold.released and hold.answer is None:
                            raise Released  # it will be begun again, so nothing of it may be told
                        hold.hear(objects)
                    events = [event for data in objects for event in answer.read(data)]
                    if events:
                        yield events
                    if answer.finished:
                        return
        except _Broken as exc:
            if hold is not None and hold.released:
                raise Released from exc
            raise await self._crashed(str(exc)) from exc
        raise await self._crashed("the engine ended the answer too early")

    async def read_prefix(self, tokens: Sequence[int], hold: Hold) -> int:
        """Have the engine read ``tokens``, and no more; the slot that then has them. May raise `Released`."""
        body = {"prompt": list(tokens), "n_predict": 0, "cache_prompt": True, "stream": True, "temperature": 0}
        slot = -1
        try:
            async with self._post("/completion", body) as response:
                hold.begin(response.close)
                stream = _ServerSentEvents(response)
                while objects := await stream.arrived():
                    hold.hear(objects)
                    slot = max([slot, *(int(data.get("id_slot", -1)) for data in objects)])
        except _Broken as exc:
            if hold.released:
                raise Released from exc
            raise await self._crashed(str(exc)) from exc
        return slot

    async def save_slot(self, slot: int, name: str) -> int:
        """Keep the state of an idle slot in a file; its bytes."""
        return int((await self._ask(f"/slots/{slot}?action=save", {"filename": name}))["n_written"])

    async def restore_slot(self, slot: int, name: str) -> None:
        """Give an idle slot the state that was kept as ``name``."""
        await self._ask(f"/slots/{slot}?action=restore", {"filename": name})

    async def empty_slot(self, slot: int) -> None:
        """Let an idle slot have nothing in memory any more."""
        await self._ask(f"/slots/{slot}?action=erase", {})

    def forget_slot(self, name: str) -> None:
        """Let go of what was kept as ``name``."""
        (self._process.states / name).unlink(missing_ok=True)

    async def idle_slots(self) -> list[tuple[int, int]]:
        """The slots that are not busy, and about how many tokens each has in memory; the emptiest first."""
        found = [slot for slot in await self._get("/slots") if not slot["is_processing"]]
        return sorted(((int(s["id"]), int(s.get("n_prompt_tokens", 0))) for s in found), key=lambda s: (s[1], s[0]))

    async def _with_images(self, prompt: str, images: Sequence[bytes]) -> dict[str, Any]:
        marker = str((await self._get("/props"))["media_marker"])
        text, order = with_markers(prompt, len(images), marker)
        return {"prompt_string": text, "multimodal_data": [b64encode(images[number]).decode() for number in order]}

    async def embed(self, inputs: Sequence[str | Sequence[int]]) -> Embeddings:
        answer = await self._ask("/v1/embeddings", {"input": list(inputs), "encoding_format": "float"})
        rows = sorted(answer["data"], key=lambda row: row["index"])
        return Embeddings([_vector(row["embedding"]) for row in rows], answer["usage"]["prompt_tokens"])

    async def tokenise(self, text: str, *, add_special: bool = False) -> list[int]:
        body = {"content": text, "add_special": add_special, "parse_special": True}
        tokens: list[int] = (await self._ask("/tokenize", body))["tokens"]
        return tokens

    async def detokenise(self, tokens: Sequence[int]) -> str:
        return str((await self._ask("/detokenize", {"tokens": list(tokens)}))["content"])

    async def apply_template(self, conversation: Conversation) -> str:
        return str((await self._ask("/apply-template", _conversation(conversation)))["prompt"])

    async def beginning(self) -> str:
        if self._beginning is None:
            text = str((await self._get("/props"))["bos_token"])
            plain, special = await self.tokenise("a"), await self.tokenise("a", add_special=True)
            adds = special[:1] != plain[:1] and special[:1] == await self.tokenise(text)
            self._beginning = text if adds else ""
        return self._beginning

    async def end_of_turn(self) -> str:
        if self._end_of_turn is None:
            self._end_of_turn = str((await self._get("/props"))["eos_token"])
        return self._end_of_turn

    async def chat_template(self) -> str:
        """The template of conversations."""
        if self._chat_template is None:
            self._chat_template = str((await self._get("/props")).get("chat_template") or "")
        return self._chat_template

    async def slots(self) -> list[bool]:
        return [bool(slot["is_processing"]) for slot in await self._get("/slots")]

    async def health(self) -> bool:
        try:
            return bool((await self._get("/health"))["status"] == "ok")
        except EngineError:
            return False

    def close(self) -> None:
        self._connector.close()

    async def _ask(self, path: str, body: Mapping[str, Any]) -> Any:
        return await self._whole("POST", path, orjson.dumps(body))

    async def _get(self, path: str) -> Any:
        return await self._whole("GET", path)

    async def _whole(self, method: str, path: str, body: bytes = b"") -> Any:
        try:
            async with self._exchange(method, path, body) as response:
                return orjson.loads(await response.all())
        except _Broken as exc:
            raise await self._crashed(str(exc)) from exc

    def _post(self, path: str, body: Mapping[str, Any]) -> AbstractAsyncContextManager[Exchange]:
        return self._exchange("POST", path, orjson.dumps(body))

    @asynccontextmanager
    async def _exchange(self, method: str, path: str, body: bytes = b"") -> AsyncGenerator[Exchange, None]:
        """An answer with a status below 400. Raises `_Broken`: refused, reset, closed in mid-answer."""
        try:
            async with self._connector.exchange(method, path, body) as response:
                if response.status >= 400:
                    raise _refusal(await response.all(), response.status)
                yield response
        except ConnectionError as exc:
            raise _Broken(str(exc)) from exc

    async def _crashed(self, detail: str) -> EngineCrashed:
        """What to say of an answer that broke off; a process that has just died takes a moment to be known as dead."""
        with anyio.move_on_after(_DYING_S):
            status = await self._process.ended()
            how = f"signal {-status}" if status < 0 else f"status {status}"
            return EngineCrashed(f"the engine ended unexpectedly ({how}) while it worked on this request")
        return EngineCrashed(f"the connection to the engine broke while it worked on this request ({detail})")


def with_markers(prompt: str, num_images: int, marker: str) -> tuple[str, list[int]]:
    """``prompt`` with the engine's marker for each placeholder of an image, and which images it meets, in that order.

    >>> with_markers("[img-1] and [img-0], not [img-2]", 2, "<image>")
    ('<image> and <image>, not [img-2]', [1, 0])
    """
    order = [number for found in _PLACEHOLDER.findall(prompt) if (number := int(found)) < num_images]
    text = _PLACEHOLDER.sub(lambda found: marker if int(found[1]) < num_images else found[0], prompt)
    return text, order


class _ServerSentEvents:
    """The objects of a stream of server-sent events."""

    def __init__(self, response: Exchange) -> None:
        self._response = response
        self._rest = b""

    async def arrived(self) -> list[dict[str, Any]]:
        """Those that arrived together, at least one; none at the end. Raises what the engine says went wrong."""
        objects: list[dict[str, Any]] = []
        while not objects and (data := await self._response.some()):
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                if line.startswith(b"data: {"):
                    objects.append(orjson.loads(line[6:]))
                elif line.startswith(b"error: "):
                    raise _error(orjson.loads(line[7:]), 500)
            for found in objects:
                if "error" in found:
                    raise _error(found["error"], 500)
        return objects


def _conversation(conversation: Conversation) -> dict[str, Any]:
    body: dict[str, Any] = {"messages": [_message(m) for m in conversation.messages]}
    if conversation.tools:
        body["tools"] = list(conversation.tools)
    template: dict[str, Json] = {}
    if conversation.thinking is not None:
        template["enable_thinking"] = conversation.thinking
    if conversation.effort is not None:
        template["reasoning_effort"] = conversation.effort
    if template:
        body["chat_template_kwargs"] = template
    return body


def _message(message: Message) -> dict[str, Any]:
    fields: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.images:
        fields["content"] = [{"type": "text", "text": message.content}, *map(_image, message.images)]
    if message.thinking:
        fields["reasoning_content"] = message.thinking
    if message.tool_calls:
        fields["tool_calls"] = [
            {"type": "function", "id": call.id, "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_name:
        fields["name"] = message.tool_name
    if message.tool_call_id:
        fields["tool_call_id"] = message.tool_call_id
    return fields


def _image(data: bytes) -> dict[str, Any]:
    """Any media type will do: the engine looks at the bytes."""
    return {"type": "image_url", "image_url": {"url": "data:image/png;base64," + b64encode(data).decode()}}


def _sampling(sampling: Sampling) -> dict[str, Any]:
    body: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "typical_p": sampling.typical_p,
        "repeat_last_n": sampling.repeat_last_n,
        "repeat_penalty": sampling.repeat_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
    }
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    return body


def _response_format(output: OutputFormat) -> dict[str, Any]:
    if output.schema is None:
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": output.schema}}


def _vector(numbers: list[float | None]) -> list[float]:
    """The engine writes ``null`` for what JSON has no number for."""
    return [math.nan if number is None else number for number in numbers]


def _refusal(body: bytes, status: int) -> EngineError | PromptTooLong:
    """What an error answer says."""
    try:
        error = orjson.loads(body)["error"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        error = body.decode(errors="replace")
    return _error(error, status)


def _error(error: Any, status: int) -> EngineError | PromptTooLong:
    if not isinstance(error, Mapping):
        error = {"message": str(error)}
    if error.get("type") == "exceed_context_size_error":
        return PromptTooLong(int(error["n_prompt_tokens"]), int(error["n_ctx"]))
    message = str(error.get("message", error))
    if found := _LARGER_THAN_BATCH.match(message):
        return PromptTooLong(int(found[1]), int(found[2]))
    return EngineRefused(message, int(error.get("code", status)))
