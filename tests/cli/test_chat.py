"""The chat in a terminal: what is remembered, what is taken back, and how to get out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.fake import RECORDED, FakeServer, Reply, lines, recorded, said
from tests.cli.terminal import Terminal

PLAIN = Reply(json.dumps({"details": {}, "capabilities": ["completion"]}))


@pytest.fixture
def terminal(fake: FakeServer, environment: dict[str, str]) -> Iterator[Terminal]:
    """A chat with Tiny, ready for a message."""
    fake.say("/api/chat", said("Hi."))
    with Terminal(environment, "run", "tiny") as terminal:
        terminal.prompt()
        yield terminal


def ask(terminal: Terminal, *typed: str) -> None:
    """Enter lines and wait for the next prompt."""
    for text in typed[:-1]:
        terminal.enter(text)
        terminal.until('End with """')
    terminal.enter(typed[-1])
    terminal.prompt()


def sent(fake: FakeServer) -> list[list[dict[str, Any]]]:
    return [body["messages"] for body in fake.bodies("/api/chat")]


@pytest.mark.parametrize("word", ["/bye", "/exit", "\x04"], ids=["bye", "exit", "ctrl-d"])
def test_there_are_three_ways_out(terminal: Terminal, word: str) -> None:
    terminal.type(word if word == "\x04" else word + "\r")
    assert terminal.end() == 0


def test_the_model_is_loaded_before_the_first_prompt(fake: FakeServer, terminal: Terminal) -> None:
    assert fake.bodies("/api/generate") == [{"model": "tiny"}]
    assert sent(fake) == []


def test_a_conversation_is_remembered_with_its_thoughts(fake: FakeServer, terminal: Terminal) -> None:
    fake.say("/api/chat", said("Hel", "lo!", thinking="A greeting."), said("Fine."))
    ask(terminal, "Hi")
    assert "Thinking...\r\nA greeting.\r\n...done thinking.\r\n\r\nHello!" in terminal.screen
    ask(terminal, "How are you?")
    assert sent(fake)[1] == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!", "thinking": "A greeting."},
        {"role": "user", "content": "How are you?"},
    ]


def test_ctrl_c_stops_the_answer_and_takes_the_question_back(fake: FakeServer, terminal: Terminal) -> None:
    fake.say("/api/chat", lines({"message": {"content": "Once upon"}, "done": False}, hangs=True), said("Hi."))
    terminal.enter("Tell me a story")
    terminal.until("Once upon")
    terminal.type("\x03")
    terminal.prompt()
    assert fake.hung_up.wait(10)
    assert "the question was taken back" in terminal.screen
    ask(terminal, "Hello")
    assert sent(fake)[1] == [{"role": "user", "content": "Hello"}]


def test_a_failed_question_is_not_sent_again(fake: FakeServer, terminal: Terminal) -> None:
    failed = lines({"message": {"content": "Hel"}, "done": False}, {"error": "engine died"})
    fake.say("/api/chat", failed, Reply('{"error":"too busy"}', 503), said("Hi."))
    ask(terminal, "one")
    assert "Hel\r\nError: engine died\r\n" in terminal.screen
    ask(terminal, "two")
    assert "Error: too busy" in terminal.screen
    ask(terminal, "three")
    assert sent(fake)[2] == [{"role": "user", "content": "three"}]


def test_ctrl_c_at_the_prompt_drops_the_text_and_says_how_to_leave(fake: FakeServer, terminal: Terminal) -> None:
    terminal.type("never mind\x03")
    terminal.until("Use Ctrl + d or /bye to exit.")
    terminal.prompt()
    ask(terminal, "Hello")
    assert sent(fake) == [[{"role": "user", "content": "Hello"}]]


def test_ctrl_c_leaves_the_several_lines_mode(fake: FakeServer, terminal: Terminal) -> None:
    terminal.enter('"""one')
    terminal.until('End with """')
    terminal.type("two\x03")
    terminal.until("Use Ctrl + d or /bye to exit.")
    terminal.prompt()
    terminal.enter("/bye")
    assert terminal.end() == 0
    assert sent(fake) == []


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (['"""one', "two", 'three"""'], "one\ntwo\nthree"),
        (['"""', "one", '"""'], "one\n"),
        (['"""in one line"""'], "in one line"),
        (['"""/bye', 'is a word"""'], "/bye\nis a word"),
        (['say """this"""'], 'say """this"""'),
    ],
)
def test_triple_quotes_hold_several_lines(fake: FakeServer, terminal: Terminal, typed: list[str], message: str) -> None:
    ask(terminal, *typed)
    assert sent(fake) == [[{"role": "user", "content": message}]]


def test_a_paste_of_several_lines_is_one_message(fake: FakeServer, terminal: Terminal) -> None:
    terminal.type("\x1b[200~one\ntwo\x1b[201~\r")
    terminal.prompt()
    assert sent(fake) == [[{"role": "user", "content": "one\ntwo"}]]


def test_clear_forgets_the_messages_and_keeps_the_system_message(fake: FakeServer, terminal: Terminal) -> None:
    ask(terminal, "/set system Be brief.")
    ask(terminal, "one")
    ask(terminal, "/clear")
    assert "Cleared session context" in terminal.screen
    ask(terminal, "two")
    system = {"role": "system", "content": "Be brief."}
    assert sent(fake)[1] == [system, {"role": "user", "content": "two"}]


@pytest.mark.parametrize(
    ("typed", "system"),
    [(['/set system """one', 'two"""'], "one\ntwo"), (['/set system """in one line"""'], "in one line")],
)
def test_a_system_message_may_be_quoted(fake: FakeServer, terminal: Terminal, typed: list[str], system: str) -> None:
    ask(terminal, *typed)
    ask(terminal, "Hello")
    assert sent(fake)[0][0] == {"role": "system", "content": system}


def test_what_is_set_is_sent(fake: FakeServer, terminal: Terminal) -> None:
    ask(terminal, "/set parameter temperature 0.5")
    ask(terminal, "/set parameter stop a b")
    ask(terminal, "/set parameter seed 7")
    ask(terminal, "/set format json")
    ask(terminal, "/set think low")
    ask(terminal, "Hello")
    body = fake.bodies("/api/chat")[0]
    assert body["options"] == {"temperature": 0.5, "stop": ["a", "b"], "seed": 7}
    assert (body["format"], body["think"]) == ("json", "low")
    ask(terminal, "/set noformat")
    ask(terminal, "/set nothink")
    ask(terminal, "Hello")
    body = fake.bodies("/api/chat")[1]
    assert ("format" in body, body["think"]) == (False, False)


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("/set parameter temperature -1", "must be at least 0"),
        ("/set parameter seed x", "'x' is not of type integer"),
        ("/set parameter nosuch 1", "there is no 'nosuch'"),
        ("/set format xml", "Invalid or missing format. For 'json' mode use '/set format json'"),
        ("/set think hard", "'hard' is no level of thinking"),
        ("/set nosuch", "Unknown command '/set nosuch'. Type /? for help"),
        ("/show nosuch", "Unknown command '/show nosuch'. Type /? for help"),
        ("/nosuch", "Unknown command '/nosuch'. Type /? for help"),
        ("/load", "Usage:\r\n  /load MODEL"),
        ("/show license", "No license was specified for this model."),
        ("/show system", "No system message was specified for this model."),
        ("/show info", "architecture        qwen3"),
        ("/list", "tinygo:latest    8562baeb4da1    4.8 MB"),
        ("/?", "Commands:"),
        ("/help set", "/set parameter NAME VALUE..."),
    ],
)
def test_commands_answer_in_the_terminal(fake: FakeServer, terminal: Terminal, typed: str, answer: str) -> None:
    ask(terminal, typed)
    assert answer in terminal.screen
    assert sent(fake) == []


def test_verbose_shows_the_figures_until_quiet(fake: FakeServer, terminal: Terminal) -> None:
    fake.say("/api/chat", said("Hi.", eval_count=3, eval_duration=10**9))
    ask(terminal, "/set verbose")
    ask(terminal, "Hello")
    assert terminal.screen.count("eval rate:           3.00 tokens/s") == 1
    ask(terminal, "/set quiet")
    ask(terminal, "Hello")
    assert terminal.screen.count("eval rate:") == 1


def test_thinking_follows_the_model_that_is_loaded(fake: FakeServer, terminal: Terminal) -> None:
    ask(terminal, "Hello")
    fake.say("/api/show", PLAIN)
    ask(terminal, "/load plain")
    assert "Loading model 'plain'" in terminal.screen
    ask(terminal, "Hello")
    first, second = fake.bodies("/api/chat")
    assert (first["model"], first["think"]) == ("tiny", True)
    assert (second["model"], "think" in second) == ("plain", False)
    assert second["messages"] == [{"role": "user", "content": "Hello"}]


def test_a_model_that_cannot_be_loaded_leaves_the_chat_as_it_was(fake: FakeServer, terminal: Terminal) -> None:
    fake.say("/api/show", recorded("show_unknown_model"))
    ask(terminal, "/load nope")
    assert "Couldn't find model 'nope'" in terminal.screen
    ask(terminal, "Hello")
    assert fake.bodies("/api/chat")[0]["model"] == "tiny"


def test_an_error_of_a_command_does_not_end_the_chat(fake: FakeServer, terminal: Terminal) -> None:
    fake.say("/api/tags", Reply('{"error":"the store is gone"}', 500))
    ask(terminal, "/list")
    assert "Error: the store is gone" in terminal.screen


def test_typed_messages_are_kept_for_the_next_chat_for_the_owner_alone(
    fake: FakeServer, terminal: Terminal, environment: dict[str, str], tmp_path: Path
) -> None:
    ask(terminal, "Remember me")
    terminal.enter("/bye")
    assert terminal.end() == 0
    history = tmp_path / "data" / "history"
    assert history.stat().st_mode & 0o777 == 0o600
    with Terminal(environment, "run", "tiny") as again:
        again.prompt()
        ask(again, "\x1b[A\x1b[A")
    assert [message["content"] for message in sent(fake)[1]] == ["Remember me"]


@pytest.mark.parametrize("name", ["CORRAL_NO_HISTORY", "OLLAMA_NOHISTORY"])
def test_no_history_is_kept_where_none_is_wanted(
    fake: FakeServer, environment: dict[str, str], tmp_path: Path, name: str
) -> None:
    fake.say("/api/chat", said("Hi."))
    with Terminal({**environment, name: "1"}, "run", "tiny") as terminal:
        terminal.prompt()
        ask(terminal, "Forget me")
        terminal.enter("/bye")
        assert terminal.end() == 0
    assert not (tmp_path / "data" / "history").exists()


def test_the_messages_of_a_model_are_shown_first(fake: FakeServer, environment: dict[str, str]) -> None:
    fake.say("/api/show", recorded("show_made"))
    messages = json.loads(RECORDED["show_made"]["response"]["body"])["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"]
    with Terminal(environment, "run", "made") as terminal:
        terminal.until(f">>> {messages[0]['content']}\r\n{messages[1]['content']}\r\n")
        terminal.prompt()
