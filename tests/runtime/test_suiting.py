"""Conversations for templates that insist on something."""

from __future__ import annotations

from corral.engine.base import Message, ToolCall
from corral.runtime.suiting import short_id, suited

ALTERNATES = "{{ raise_exception('Conversation roles must alternate user/assistant/...') }}"
WITH_TOOLS = ALTERNATES + "{{ message.tool_calls }}"
ONE_CALL = "{% if not message.tool_calls|length == 1 %}"
NINE = "{% if tool_call.id|length != 9 %}"

A, B = ToolCall("look", "{}", "toolu_1"), ToolCall("find", '{"x": 1}', "toolu_2")
FOUND_A, FOUND_B = (Message("tool", text, tool_call_id=call.id) for text, call in (("1", A), ("2", B)))
ASKED = Message("user", "Hello")


def test_other_templates_get_what_was_said_as_it_was_said() -> None:
    turns = (ASKED, ASKED, Message("assistant", "a", tool_calls=(A, B)), FOUND_B, FOUND_A, ASKED)
    assert suited(turns, "{{ messages }}") == turns


def test_turns_alternate() -> None:
    turns = (
        Message("system", "s"),
        Message("assistant", "hi", images=(b"1",)),
        Message("assistant", "there", images=(b"2",)),
        ASKED,
        Message("system", "Be brief."),
        ASKED,
    )
    assert suited(turns, ALTERNATES) == (
        Message("system", "s"),
        Message("user"),
        Message("assistant", "hi\n\nthere", images=(b"1", b"2")),
        Message("user", "Hello\n\nBe brief.\n\nHello"),
    )


def test_what_a_user_says_behind_results_stands_in_the_last_of_them() -> None:
    turns = (ASKED, Message("assistant", tool_calls=(A, B)), FOUND_A, FOUND_B, Message("user", "So?"))
    assert suited(turns, WITH_TOOLS) == (*turns[:3], Message("tool", "2\n\nSo?", tool_call_id="toolu_2"))


def test_a_template_that_knows_no_tools_reads_of_them() -> None:
    turns = (ASKED, Message("assistant", "I look.", tool_calls=(B,)), FOUND_B, Message("user", "So?"))
    assert suited(turns, ALTERNATES) == (
        ASKED,
        Message("assistant", 'I look.\n{"name": "find", "arguments": {"x": 1}}'),
        Message("user", "2\n\nSo?"),
    )


def test_calls_of_one_turn_become_turns_each_with_its_result() -> None:
    turns = (ASKED, Message("assistant", "I look.", tool_calls=(A, B)), FOUND_B, FOUND_A, ASKED)
    assert suited(turns, ONE_CALL) == (
        ASKED,
        Message("assistant", "I look.", tool_calls=(A,)),
        FOUND_A,
        Message("assistant", tool_calls=(B,)),
        FOUND_B,
        ASKED,
    )


def test_ids_have_nine_characters_and_results_keep_their_calls() -> None:
    nameless = (ToolCall("look", "{}"), ToolCall("find", "{}"))
    results = (Message("tool", "2", tool_name="find"), Message("tool", "1"))
    for calls, answers, order in (((A, B), (FOUND_B, FOUND_A), (1, 0)), (nameless, results, (1, 0))):
        _, asked, *found = suited((ASKED, Message("assistant", tool_calls=calls), *answers), NINE)
        ids = [call.id for call in asked.tool_calls]
        assert all(len(id_) == 9 and id_.isalnum() for id_ in ids)
        assert [message.tool_call_id for message in found] == [ids[number] for number in order]
    assert short_id("toolu_1") != short_id("toolu_2")
