"""llama.cpp's HTTP server as an `Engine`.

Every field sent is written here from parsed values, none is passed through. Each request has a connection of its own: the
server closes them after a streamed answer, and says so too late for a pool of connections to notice.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
import orjson

from corral.engine.base import (
    Batch,
    ChatCall,
    CompletionCall,
    Conversation,
    Embeddings,
    EngineConfig,
    Event,
    Finished,
    Json,
    Message,
    OutputFormat,
    Sampling,
    Text,
    Thinking,
    TokenLogprob,
    ToolCall,
)
from corral.engine.http import Connector, Exchange
from corral.engine.process import EngineProcess
from corral.errors import EngineCrashed, EngineError, EngineRefused, PromptTooLong
from corral.parsing import StopMatcher

_DYING_S = 1.0


class LlamaEngine:
    """An `Engine` that talks to one engine process, which belongs to its starter."""

    def __init__(self, config: EngineConfig, process: EngineProcess) -> None:
        self._config = config
        self._process = process
        self._connector = Connector(process.port, process.key)
        self._end_of_turn: str | None = None

    @property
    def config(self) -> EngineConfig:
        return self._config

    async def chat(self, call: ChatCall) -> AsyncGenerator[Batch, None]:
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
        answer = _ChatAnswer(call.sampling)
        if call.sampling.stop and call.conversation.thinking is not False:
            # The engine would look for them in thoughts too; so they are looked for here, where answers are known.
            del body["stop"]
            body["timings_per_token"] = True
            answer.stops = StopMatcher(call.sampling.stop)
        async with self._post("/v1/chat/completions", body) as response:
            stream = _ServerSentEvents(response)
            while objects := await stream.arrived():
                events = [event for data in objects for event in answer.read(data)]
                if events:
                    yield events
                if answer.finished:
                    return
        raise await self._crashed("the engine ended the answer too early")

    async def complete(self, call: CompletionCall) -> AsyncGenerator[Batch, None]:
        body = {"prompt": call.prompt, "cache_prompt": True, "stream": True, **_sampling(call.sampling)}
        body["n_predict"] = -1 if call.sampling.max_tokens is None else call.sampling.max_tokens
        if call.sampling.top_logprobs is not None:
            body["n_probs"] = max(call.sampling.top_logprobs, 1)
        if call.output is not None:
            body["json_schema"] = call.output.schema if call.output.schema is not None else {"type": "object"}
        async with self._post("/completion", body) as response:
            stream = _ServerSentEvents(response)
            while objects := await stream.arrived():
                events: list[Event] = []
                for data in objects:
                    if data.get("content"):
                        wanted = call.sampling.top_logprobs
                        events.append(Text(data["content"], _completion_logprobs(data, wanted)))
                    if data.get("stop"):
                        reason = "length" if data.get("stop_type") == "limit" else "stop"
                        events.append(_finished(reason, data.get("timings") or {}))
                if events:
                    yield events
                if events and isinstance(events[-1], Finished):
                    return
        raise await self._crashed("the engine ended the answer too early")

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        answer = await self._ask("/v1/embeddings", {"input": list(texts), "encoding_format": "float"})
        rows = sorted(answer["data"], key=lambda row: row["index"])
        return Embeddings([row["embedding"] for row in rows], answer["usage"]["prompt_tokens"])

    async def tokenise(self, text: str, *, add_special: bool = False) -> list[int]:
        body = {"content": text, "add_special": add_special, "parse_special": True}
        tokens: list[int] = (await self._ask("/tokenize", body))["tokens"]
        return tokens

    async def detokenise(self, tokens: Sequence[int]) -> str:
        return str((await self._ask("/detokenize", {"tokens": list(tokens)}))["content"])

    async def apply_template(self, conversation: Conversation) -> str:
        return str((await self._ask("/apply-template", _conversation(conversation)))["prompt"])

    async def end_of_turn(self) -> str:
        if self._end_of_turn is None:
            self._end_of_turn = str((await self._get("/props"))["eos_token"])
        return self._end_of_turn

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
        async with self._post(path, body) as response:
            return orjson.loads(await response.all())

    async def _get(self, path: str) -> Any:
        async with self._exchange("GET", path) as response:
            return orjson.loads(await response.all())

    def _post(self, path: str, body: Mapping[str, Any]) -> AbstractAsyncContextManager[Exchange]:
        return self._exchange("POST", path, orjson.dumps(body))

    @asynccontextmanager
    async def _exchange(self, method: str, path: str, body: bytes = b"") -> AsyncGenerator[Exchange, None]:
        """An answer with a status below 400. Refused, reset, closed in mid-answer: the process is gone or going."""
        try:
            async with self._connector.exchange(method, path, body) as response:
                if response.status >= 400:
                    raise _refusal(await response.all(), response.status)
                yield response
        except ConnectionError as exc:
            raise await self._crashed(str(exc)) from exc

    async def _crashed(self, detail: str) -> EngineCrashed:
        """What to say of an answer that broke off; a process that has just died takes a moment to be known as dead."""
        with anyio.move_on_after(_DYING_S):
            status = await self._process.ended()
            how = f"signal {-status}" if status < 0 else f"status {status}"
            return EngineCrashed(f"the engine ended unexpectedly ({how}) while it worked on this request")
        return EngineCrashed(f"the connection to the engine broke while it worked on this request ({detail})")


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


class _ChatAnswer:
    """Turns the chunks of one chat stream into events; tool calls are gathered until they are whole."""

    def __init__(self, sampling: Sampling) -> None:
        self.finished = False
        self.stops: StopMatcher | None = None
        self._top_logprobs = sampling.top_logprobs
        self._calls: dict[int, list[str]] = {}  # index: id, name, arguments so far

    def read(self, data: Mapping[str, Any]) -> list[Event]:
        """What ``data`` adds to the answer; nothing once it is finished, whatever came along with its last piece."""
        if self.finished:
            return []
        events: list[Event] = []
        for choice in data.get("choices") or ():
            delta = choice.get("delta") or {}
            logprobs = self._logprobs(choice["logprobs"]) if choice.get("logprobs") else ()
            if thought := delta.get("reasoning_content"):
                events.append(Thinking(thought, logprobs))
            elif (content := delta.get("content")) or logprobs:
                text, stopped = self.stops.feed(content or "") if self.stops else (content or "", False)
                if text or logprobs:
                    events.append(Text(text, logprobs))
                if stopped:
                    events.append(_finished("stop", data.get("timings") or {}))
                    self.finished = True
                    return events
            for call in delta.get("tool_calls") or ():
                self._gather(call)
            if choice.get("finish_reason"):
                length = choice["finish_reason"] == "length"
                if self.stops and (held := self.stops.flush()):
                    events.append(Text(held))
                events += self._whole_calls()
                events.append(_finished("length" if length else "stop", data.get("timings") or {}))
                self.finished = True
        return events

    def _logprobs(self, logprobs: Mapping[str, Any]) -> tuple[TokenLogprob, ...]:
        return tuple(_logprob(entry, self._top_logprobs) for entry in logprobs.get("content") or ())

    def _gather(self, call: Mapping[str, Any]) -> None:
        gathered = self._calls.setdefault(call["index"], ["", "", ""])
        function = call.get("function") or {}
        gathered[0] += call.get("id") or ""
        gathered[1] += function.get("name") or ""
        gathered[2] += function.get("arguments") or ""

    def _whole_calls(self) -> list[Event]:
        """The calls; one that was cut off becomes text, so that nothing the model wrote is lost."""
        events: list[Event] = []
        for index in sorted(self._calls):
            id_, name, arguments = self._calls[index]
            try:
                whole = isinstance(orjson.loads(arguments or "{}"), dict)
            except orjson.JSONDecodeError:
                whole = False
            if whole:
                events.append(ToolCall(name, arguments or "{}", id_))
            else:
                events.append(Text(f'{{"name": "{name}", "arguments": {arguments}'))
        return events


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


def _finished(reason: str, timings: Mapping[str, Any]) -> Finished:
    cached, read = int(timings.get("cache_n", 0)), int(timings.get("prompt_n", 0))
    return Finished(
        reason="length" if reason == "length" else "stop",
        prompt_tokens=cached + read,
        cached_tokens=cached,
        prompt_ns=int(float(timings.get("prompt_ms", 0)) * 1e6),
        generated_tokens=int(timings.get("predicted_n", 0)),
        generated_ns=int(float(timings.get("predicted_ms", 0)) * 1e6),
    )


def _completion_logprobs(data: Mapping[str, Any], wanted: int | None) -> tuple[TokenLogprob, ...]:
    if wanted is None:
        return ()
    return tuple(_logprob(entry, wanted) for entry in data.get("completion_probabilities") or ())


def _logprob(entry: Mapping[str, Any], most: int | None = None) -> TokenLogprob:
    rivals = (entry.get("top_logprobs") or ())[:most]
    return TokenLogprob(
        token=entry["token"],
        bytes=tuple(entry.get("bytes") or ()),
        logprob=entry["logprob"],
        top=tuple(_logprob(rival) for rival in rivals),
    )


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
    return EngineRefused(str(error.get("message", error)), int(error.get("code", status)))
