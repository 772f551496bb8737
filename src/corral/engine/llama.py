"""llama.cpp's HTTP server as an `Engine`.

Every field sent is written here from parsed values, none is passed through. Each request has a connection of its own: the
server closes them after a streamed answer, and says so too late for a pool of connections to notice.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import re
import sys
from array import array
from base64 import b64decode, b64encode
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import replace
from hashlib import sha256
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
    NamedTool,
    OutputFormat,
    Parcels,
    Sampling,
    Scores,
    tool_name,
)
from corral.engine.hold import Hold, Released
from corral.engine.http import Connector, Exchange
from corral.engine.process import EngineProcess
from corral.engine.schemas import engine_schema
from corral.errors import PROMPT, EngineCrashed, EngineError, EngineRefused, InvalidRequest, PromptTooLong
from corral.media.kinds import kind_of
from corral.parsing import StopMatcher

_DYING_S = 1.0
_COUNTS_KEPT = 4096
# Of requests that are answered as a whole. The engine has sixteen threads at least, one of which works on each; when far more come,
# connections break. Texts are read apart from them, so that what is quick does not wait for what is not.
_QUICK_AT_ONCE = _READ_AT_ONCE = 8
# Most embedding models read a text at once; what they cannot read so is refused with a text of status 500.
_LARGER_THAN_BATCH = re.compile(r"input \(([0-9]+) tokens\) is too large to process.*batch size: ([0-9]+)\)", re.DOTALL)
_TEMPLATE_RAISED = re.compile(r"Jinja Exception: (.+)")  # behind the place in the template, over several lines
_PLACEHOLDER = re.compile(r"\[img-([0-9]{1,6})\]")


def most_read_at_once(config: EngineConfig) -> int:
    """How many calls with texts an engine that only reads gets at a time: enough to be busy."""
    return max(_READ_AT_ONCE, 2 * config.slots)


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
        self._num_tokens: int | None = None
        self._marker: str | None = None
        self._media_tokens: dict[bytes, int] = {}
        self._chat_template: str | None = None
        self._quick = asyncio.Semaphore(_QUICK_AT_ONCE)
        self._reading = asyncio.Semaphore(most_read_at_once(config))

    @property
    def config(self) -> EngineConfig:
        return self._config

    async def chat(self, call: ChatCall, hold: Hold | None = None) -> AsyncGenerator[Batch, None]:
        """As the protocol has it; with a ``hold`` it may also raise `Released`."""
        await self._check_tokens([token for token, _ in call.sampling.logit_bias], "logit_bias")
        body = _conversation(_with_chosen_tool(call)) | _sampling(call.sampling) | {"stream": True}
        if call.sampling.max_tokens is not None:
            body["max_tokens"] = call.sampling.max_tokens
        if call.sampling.top_logprobs is not None:
            body["logprobs"] = True
            body["top_logprobs"] = max(call.sampling.top_logprobs, 1)
        if call.conversation.tools:
            body["tool_choice"] = "required" if isinstance(call.tool_choice, NamedTool) else call.tool_choice
            body["parallel_tool_calls"] = call.parallel_tool_calls
        if call.output is not None and call.output.grammar:
            body["grammar"] = call.output.grammar
        elif call.output is not None:
            body["response_format"] = _response_format(call.output)
        if call.conversation.thinking:
            body["timings_per_token"] = True  # tells how many tokens a thought has
        answer = ChatAnswer(call.sampling)
        if call.sampling.stop or call.conversation.thinking:
            body["timings_per_token"] = True
        if call.sampling.stop:
            # The engine looks for them in thoughts too, and does not say which it met; so they are looked for here.
            del body["stop"]
            answer.stops = StopMatcher(call.sampling.stop)
        stream = self._answered("/v1/chat/completions", body, answer, hold)
        async with aclosing(stream):
            async for batch in stream:
                yield batch

    async def complete(self, call: CompletionCall, hold: Hold | None = None) -> AsyncGenerator[Batch, None]:
        """As the protocol has it; with a ``hold`` it may also raise `Released`."""
        await self._check_tokens([token for token, _ in call.sampling.logit_bias], "logit_bias")
        prompt = call.prompt if isinstance(call.prompt, str) else list(call.prompt)
        if not isinstance(prompt, str):
            await self._check_tokens(prompt, PROMPT)
        body: dict[str, Any] = {"prompt": prompt, "cache_prompt": True, "stream": True, **_sampling(call.sampling)}
        if call.images:
            assert isinstance(call.prompt, str)
            body["prompt"] = await self._with_images(call.prompt, call.images)
        body["n_predict"] = -1 if call.sampling.max_tokens is None else call.sampling.max_tokens
        if call.limit_each is not None and call.sampling.max_tokens is not None:
            body["n_predict"] = 2 * call.sampling.max_tokens
        if call.shown:
            body["preserved_tokens"] = list(call.shown)
        if call.sampling.top_logprobs is not None:
            body["n_probs"] = max(call.sampling.top_logprobs, 1)
        if call.output is not None and call.output.grammar:
            body["grammar"] = call.output.grammar
        elif call.output is not None:
            body["json_schema"] = call.output.schema if call.output.schema is not None else {"type": "object"}
        if call.thoughts is not None:
            # The engine would look for stop strings in the thought too; so they are looked for here.
            body.pop("stop", None)
            body["timings_per_token"] = True
        answer = CompletionAnswer(call)
        if hold is not None and hold.counted:
            body["timings_per_token"] = True
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
        text, order = with_markers(prompt, len(images), await self._media_marker())
        return {"prompt_string": text, "multimodal_data": [b64encode(images[number]).decode() for number in order]}

    async def _media_marker(self) -> str:
        if self._marker is None:
            self._marker = str((await self._get("/props"))["media_marker"])
        return self._marker

    async def media_tokens(self, data: bytes) -> int:
        key = sha256(data).digest()
        if key not in self._media_tokens:
            heard = kind_of(data).holds == "audio"
            with_it = Message("user", "a", images=() if heard else (data,), audio=(data,) if heard else ())
            counts = [await self._count(Message("user", "a")), await self._count(with_it)]
            if len(self._media_tokens) >= _COUNTS_KEPT:
                self._media_tokens.clear()
            self._media_tokens[key] = counts[1] - counts[0]
        return self._media_tokens[key]

    async def _count(self, message: Message) -> int:
        body = _conversation(Conversation((message,)))
        return int((await self._ask("/v1/chat/completions/input_tokens", body))["input_tokens"])

    async def embed(self, inputs: Sequence[str | Sequence[int]], request: Parcels | None = None) -> Embeddings:
        for tokens in inputs:
            if not isinstance(tokens, str):
                await self._check_tokens(tokens, PROMPT)
        # As text, numbers would cost more to write and read again than many a short text costs to embed.
        body = {"input": list(inputs), "encoding_format": "base64"}
        async with self._reading:
            answer = await self._whole("POST", "/v1/embeddings", orjson.dumps(body))
        rows = sorted(answer["data"], key=lambda row: row["index"])
        return Embeddings([_vector(row["embedding"]) for row in rows], answer["usage"]["prompt_tokens"])

    async def rerank(self, query: str, documents: Sequence[str], request: Parcels | None = None) -> Scores:
        body = {"query": query, "documents": list(documents)}
        async with self._reading:
            answer = await self._whole("POST", "/v1/rerank", orjson.dumps(body))
        rows = sorted(answer["results"], key=lambda row: row["index"])
        scores = [row["relevance_score"] for row in rows]  # ``null`` is what JSON has no number for
        return Scores([math.nan if score is None else score for score in scores], answer["usage"]["prompt_tokens"])

    async def tokenise(self, text: str, *, add_special: bool = False) -> list[int]:
        body = {"content": text, "add_special": add_special, "parse_special": True}
        tokens: list[int] = (await self._ask("/tokenize", body))["tokens"]
        return tokens

    async def pieces(self, text: str, *, add_special: bool = False) -> list[tuple[int, bytes]]:
        body = {"content": text, "add_special": add_special, "parse_special": True, "with_pieces": True}
        found = (await self._ask("/tokenize", body))["tokens"]
        return [(token["id"], _piece(token["piece"])) for token in found]

    async def detokenise(self, tokens: Sequence[int]) -> str:
        await self._check_tokens(tokens)
        return str((await self._ask("/detokenize", {"tokens": list(tokens)}))["content"])

    async def _check_tokens(self, tokens: Sequence[int], param: str | None = None) -> None:
        """The engine looks beyond the end of its vocabulary, takes another token, or passes over one that is not in it."""
        if not tokens:
            return
        size = await self._vocabulary_size()
        wrong = next((token for token in tokens if not 0 <= token < size), None)
        if wrong is not None:
            text = f"the token {wrong} is not in the vocabulary of the model, which has {size}"
            raise InvalidRequest(text, param=param)

    async def _vocabulary_size(self) -> int:
        if self._num_tokens is None:
            self._num_tokens = int((await self._get("/v1/models"))["data"][0]["meta"]["n_vocab"])
        return self._num_tokens

    async def apply_template(self, conversation: Conversation) -> str:
        prompt = str((await self._ask("/apply-template", _conversation(conversation)))["prompt"])
        return with_placeholders(prompt, await self._media_marker()) if conversation.media else prompt

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
        async with self._quick:
            return await self._whole("POST", path, orjson.dumps(body))

    async def _get(self, path: str) -> Any:
        async with self._quick:
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


def with_placeholders(prompt: str, marker: str) -> str:
    """``prompt`` with a numbered placeholder for each of the engine's markers.

    >>> with_placeholders("<image> and <image>", "<image>")
    '[img-0] and [img-1]'
    """
    numbers = itertools.count()
    return re.sub(re.escape(marker), lambda _: f"[img-{next(numbers)}]", prompt)


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


def _told(tool: Mapping[str, Json]) -> Mapping[str, Json]:
    """``tool`` as the template may print it and the engine can read it: that it is strict is nothing to the model."""
    function = tool.get("function")
    if not isinstance(function, Mapping):
        return tool
    told = {name: value for name, value in function.items() if name != "strict"}
    parameters = told.get("parameters")
    if isinstance(parameters, Mapping):
        told["parameters"] = engine_schema(parameters)
    return {**tool, "function": told}


def _conversation(conversation: Conversation) -> dict[str, Any]:
    body: dict[str, Any] = {"messages": [_message(m) for m in conversation.messages]}
    if conversation.tools:
        body["tools"] = [_told(tool) for tool in conversation.tools]
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
    if message.images or message.audio:
        text = {"type": "text", "text": message.content}
        fields["content"] = [text, *map(_image, message.images), *map(_audio, message.audio)]
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


def _audio(data: bytes) -> dict[str, Any]:
    """The engine looks at the bytes, but wants one of the two names it knows."""
    return {"type": "input_audio", "input_audio": {"data": b64encode(data).decode(), "format": "wav"}}


def _with_chosen_tool(call: ChatCall) -> Conversation:
    """The conversation with the tools that may be called; the engine can require a call, but not a certain one."""
    choice = call.tool_choice
    if not isinstance(choice, NamedTool):
        return call.conversation
    return replace(call.conversation, tools=tuple(t for t in call.conversation.tools if tool_name(t) == choice.name))


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
    for name in _UNLESS_ASKED:
        value = getattr(sampling, name)
        if value is not None:
            body[name] = list(value) if isinstance(value, tuple) else value
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.logit_bias:
        forbidden = -math.inf
        body["logit_bias"] = [[token, False if bias == forbidden else bias] for token, bias in sampling.logit_bias]
    if sampling.progress:
        body["return_progress"] = True
    return body


_UNLESS_ASKED = (
    "top_n_sigma", "xtc_probability", "xtc_threshold", "dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n",
    "dry_sequence_breakers", "dynatemp_range", "dynatemp_exponent", "mirostat", "mirostat_tau", "mirostat_eta", "samplers",
)  # fmt: skip


def _response_format(output: OutputFormat) -> dict[str, Any]:
    if output.schema is None:
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": output.schema}}


def _vector(packed: str) -> list[float]:
    """The numbers of 32 bits that base64 stands for, the lowest byte first."""
    numbers = array("f", b64decode(packed))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()


def _piece(written: str | list[int]) -> bytes:
    """A piece that is no text by itself is written as its bytes."""
    return written.encode() if isinstance(written, str) else bytes(written)


def _refusal(body: bytes, status: int) -> EngineError | PromptTooLong:
    """What an error answer says."""
    if status == 413:
        return EngineRefused(
            "the images and sounds of the request are more than the engine takes at once; send less", 413
        )
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
    if found := _TEMPLATE_RAISED.search(message):
        return EngineRefused(f"the model's template refuses this: {found[1].strip()}", 400, param=PROMPT)
    return EngineRefused(message, int(error.get("code", status)))
