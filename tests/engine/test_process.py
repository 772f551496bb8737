"""The life of an engine process, with the real worker where it matters and stand-ins where one has to misbehave."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import anyio
import orjson
import psutil
import pytest

from corral.engine.base import (
    ChatCall,
    CompletionCall,
    Conversation,
    EngineConfig,
    Finished,
    Message,
    Sampling,
    Text,
    Thinking,
)
from corral.engine.llama import LlamaEngine
from corral.engine.process import run_engine
from corral.errors import EngineCrashed, EngineRefused, EngineStartError, PromptTooLong
from corral.tiny import TINY_FILE

pytestmark = pytest.mark.anyio

CONFIG = EngineConfig(weights=TINY_FILE, context=512, slots=2)
HELLO = Conversation((Message("user", "Hello"),))
GREEDY = Sampling(temperature=0)
ENDLESS = CompletionCall("a", GREEDY)


def stand_in(code: str) -> list[str]:
    return [sys.executable, "-c", "import os, signal, sys, time\n" + textwrap.dedent(code)]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "engine.log"


async def test_an_engine_answers_inside_its_block_and_is_gone_after_it(log: Path) -> None:
    async with run_engine(CONFIG, log=log) as process:
        engine = LlamaEngine(CONFIG, process)
        assert await engine.health()
        events = [event async for batch in engine.chat(ChatCall(HELLO, GREEDY)) for event in batch]
        assert "".join(e.text for e in events if isinstance(e, Text)) == "Hello! How can I help you?"
        assert isinstance(events[-1], Finished)
        assert events[-1].reason == "stop"
        assert await engine.detokenise(await engine.tokenise("Who are you?")) == "Who are you?"
        assert process.memory_bytes > 10_000_000
    assert not psutil.pid_exists(process.pid)
    assert not log.exists()  # it did its work; there is nothing to tell


async def test_only_who_has_the_key_is_answered(log: Path) -> None:
    async with run_engine(CONFIG, log=log) as process:
        stranger = LlamaEngine(CONFIG, replace(process, key="wrong"))
        with pytest.raises(EngineRefused) as refused:
            await stranger.tokenise("x")
        assert refused.value.status == 401
        connections = psutil.Process(process.pid).net_connections("inet")
        assert {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN} == {"127.0.0.1"}
        assert process.key not in " ".join(psutil.Process(process.pid).cmdline())


async def test_a_file_that_is_no_model_is_an_error_with_the_end_of_the_log(tmp_path: Path, log: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(EngineStartError, match=r"(?s)the engine ended with status 1 while loading.*broken\.gguf"):
        async with run_engine(EngineConfig(weights=broken), log=log):
            pytest.fail("the block must not be entered")


async def test_a_load_without_progress_is_ended(log: Path) -> None:
    silent = stand_in("print('looking', file=sys.stderr, flush=True); time.sleep(60)")
    with pytest.raises(EngineStartError, match=r"(?s)no progress for 0\.5 s while loading.*looking"):
        async with run_engine(CONFIG, log=log, stall_s=0.5, argv=silent):
            pytest.fail("the block must not be entered")


async def test_a_slow_load_that_goes_on_is_waited_for(log: Path) -> None:
    slow = stand_in(
        """
        for i in range(8):
            print(i, file=sys.stderr, flush=True); time.sleep(0.1)
        print('{"port": 1}', flush=True); time.sleep(60)
        """
    )
    async with run_engine(CONFIG, log=log, stall_s=0.4, argv=slow) as process:
        assert process.port == 1


async def test_an_engine_that_ignores_sigterm_is_killed(log: Path) -> None:
    stubborn = stand_in(
        """signal.signal(signal.SIGTERM, signal.SIG_IGN); print('{"port": 1}', flush=True); time.sleep(60)"""
    )
    async with run_engine(CONFIG, log=log, grace_s=0.2, argv=stubborn) as process:
        pass
    assert process.process.returncode == -signal.SIGKILL
    assert not psutil.pid_exists(process.pid)


async def test_cancelling_the_starter_stops_the_engine(log: Path) -> None:
    with anyio.CancelScope() as scope:
        async with run_engine(CONFIG, log=log) as process:
            scope.cancel()
            await anyio.sleep_forever()
    assert not psutil.pid_exists(process.pid)


async def test_an_engine_dies_with_its_parent_however_that_dies(tmp_path: Path) -> None:
    parent = f"""
        import asyncio, pathlib
        from corral.engine.base import EngineConfig
        from corral.engine.process import run_engine
        async def main():
            config = EngineConfig(weights=pathlib.Path({str(TINY_FILE)!r}), context=256)
            async with run_engine(config, log=pathlib.Path({str(tmp_path / "log")!r})) as process:
                print(process.pid, flush=True)
                await asyncio.sleep(60)
        asyncio.run(main())
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(parent)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        engine = psutil.Process(int(child.stdout.readline()))
        child.kill()
    engine.wait(timeout=5)  # raises when it lives on


async def test_a_closed_stream_frees_its_slot(log: Path, endless_weights: Path) -> None:
    config = EngineConfig(weights=endless_weights, context=16384)
    async with run_engine(config, log=log) as process:
        engine = LlamaEngine(config, process)
        stream = engine.complete(ENDLESS)
        await anext(stream)
        assert any(await engine.slots())
        await stream.aclose()
        with anyio.fail_after(5):  # its answer would take half a minute; bench/overhead.py measures how soon
            while any(await engine.slots()):
                await anyio.lowlevel.checkpoint()


async def test_a_crash_in_mid_answer_is_an_error_that_says_so(log: Path, endless_weights: Path) -> None:
    config = EngineConfig(weights=endless_weights, context=16384)
    async with run_engine(config, log=log) as process:
        stream = LlamaEngine(config, process).complete(ENDLESS)
        await anext(stream)
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(EngineCrashed, match=r"ended unexpectedly \(signal 9\)"):
            async for _ in stream:
                pass
    assert log.exists()  # it tells what went on before


async def test_a_prompt_that_does_not_fit_gives_both_numbers(log: Path) -> None:
    async with run_engine(CONFIG, log=log) as process:
        with pytest.raises(PromptTooLong) as refused:
            await anext(LlamaEngine(CONFIG, process).complete(CompletionCall("word " * 600, GREEDY)))
        assert refused.value.num_ctx == 512
        assert refused.value.num_tokens > 600


async def test_a_connection_that_went_stale_is_no_crash(log: Path) -> None:
    call = CompletionCall("<|im_start|>user\nHello", Sampling(temperature=0, max_tokens=2))
    async with run_engine(CONFIG, log=log) as process:
        engine = LlamaEngine(CONFIG, process)
        for pause in (0, 7):  # the engine closes a connection that says nothing for five seconds
            await anyio.sleep(pause)
            assert [batch async for batch in engine.complete(call)]
        engine.close()


async def test_many_requests_at_once_all_end(log: Path) -> None:
    """The engine closes connections after streamed answers; no request may meet a closed one."""
    answers = []

    async def one(engine: LlamaEngine, number: int) -> None:
        call = CompletionCall(f"<|im_start|>user\n{number}", Sampling(temperature=0, max_tokens=3))
        answers.append([batch async for batch in engine.complete(call)][-1][-1])

    async with run_engine(CONFIG, log=log) as process, anyio.create_task_group() as group:
        engine = LlamaEngine(CONFIG, process)
        for number in range(60):
            group.start_soon(one, engine, number)
    assert len(answers) == 60
    assert all(isinstance(answer, Finished) for answer in answers)


async def test_what_comes_along_with_a_stop_string_is_no_part_of_the_answer(log: Path) -> None:
    """An engine may be several tokens ahead before it learns that nobody listens any more."""
    pieces = [{"reasoning_content": "Hello?"}, {"content": "Hello! "}, {"content": "How"}, {"content": " can"}]
    events = [b"data: %s\n\n" % orjson.dumps({"choices": [{"delta": piece}]}) for piece in pieces]
    ahead = stand_in(
        f"""
        import json, socket
        sys.stdin.readline()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            print(json.dumps({{"port": listener.getsockname()[1]}}), flush=True)
            while True:
                connection, _ = listener.accept()
                if connection.recv(65536).startswith(b"POST"):
                    body = {b"".join(events)!r}
                    connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
                connection.close()
        """
    )
    async with run_engine(CONFIG, log=log, argv=ahead) as process:
        engine = LlamaEngine(CONFIG, process)
        call = ChatCall(HELLO, Sampling(temperature=0, stop=("How",)))
        arrived = [event async for batch in engine.chat(call) for event in batch]
        engine.close()
    assert [type(event) for event in arrived] == [Thinking, Text, Finished]
    assert isinstance(arrived[1], Text)
    assert arrived[1].text == "Hello! "
