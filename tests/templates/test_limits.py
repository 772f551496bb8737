"""No template, however hostile, runs away with time, memory or Python's stack."""

from __future__ import annotations

import pytest

from corral.errors import TemplateError
from corral.templates.limits import Limits
from corral.templates.template import Template

DEEP = 100_000


def refusal(text: str, data: object = None, limits: Limits | None = None) -> str:
    """What a template is refused with, when it is parsed or executed."""
    with pytest.raises(TemplateError) as refused:
        Template.parse(text).execute(data, limits=limits or Limits())
    return str(refused.value)


def test_a_loop_without_end_is_stopped() -> None:
    assert "steps" in refusal("{{range 9223372036854775807}}{{end}}")


def test_loops_in_loops_share_one_account_of_steps() -> None:
    assert "steps" in refusal("{{range 5000}}{{range 5000}}{{end}}{{end}}")


def test_a_template_that_calls_itself_is_stopped_with_gos_message() -> None:
    message = refusal('{{define "a"}}{{template "a" .}}{{end}}{{template "a" .}}')
    assert message == (
        'template: :1:25: executing "a" at <{{template "a" .}}>: exceeded maximum template depth (100000)'
    )


def test_a_text_that_doubles_itself_is_stopped() -> None:
    assert "characters" in refusal('{{$x := "0123456789"}}{{range 60}}{{$x = printf "%s%s" $x $x}}{{end}}')


def test_endless_output_is_stopped() -> None:
    assert "characters" in refusal('{{range 100000}}{{printf "%1000s" "x"}}{{end}}')


def test_wide_padding_is_stopped() -> None:
    assert "characters" in refusal('{{printf "' + "%1000000d" * 500 + '"' + " 1" * 500 + "}}")


def test_work_that_prints_nothing_is_counted() -> None:
    long = "é" * 1_000_000
    for work in ("html $", "slice $ 2", "len $", "index $ 1", 'printf "%.1q" $', "eq $ $ $ $"):
        assert "steps" in refusal(f"{{{{range 1000000}}}}{{{{$x := {work}}}}}{{{{end}}}}", long, Limits(steps=200_000))


def test_parentheses_may_not_nest_without_end() -> None:
    assert refusal("{{" + "(" * DEEP + "1" + ")" * DEEP + "}}") == "template: :1: max expression depth exceeded"


def test_parentheses_nest_as_deep_as_anybody_writes_them() -> None:
    text = "{{" + "(print " * 90 + "1" + ")" * 90 + "}}"
    assert Template.parse(text).execute(None) == "1"


def test_blocks_may_not_nest_without_end() -> None:
    assert "blocks inside each other" in refusal("{{if 1}}" * 12_000 + "{{end}}" * 12_000)


def test_blocks_nest_deeper_than_pythons_stack() -> None:
    depth = 5000
    assert Template.parse("{{if 1}}" * depth + "x" + "{{end}}" * depth).execute(None) == "x"
    chain = "{{if 0}}" + "{{else if 0}}" * depth + "{{else}}y{{end}}"
    assert Template.parse(chain).execute(None) == "y"


def test_calls_nest_deeper_than_pythons_stack() -> None:
    text = '{{define "r"}}{{if .}}.{{template "r" slice . 1}}{{end}}{{end}}{{template "r" .}}'
    assert Template.parse(text).execute("x" * 5000) == "." * 5000


def test_data_may_not_nest_without_end() -> None:
    data: object = 1
    for _ in range(DEEP):
        data = [data]
    for text in ("{{.}}", "{{json .}}", '{{printf "%#v" .}}'):
        assert "nested more than 200 deep" in refusal(text, data)


def test_a_huge_text_is_not_parsed() -> None:
    assert "characters" in refusal(" " * (2 << 20))


@pytest.mark.parametrize("tail", ["e", "", "i", "p", "_", ".e", "+1e", "+1pi", "x"])
@pytest.mark.parametrize("head", ["", "0x", "0b", "1.", "1+"])
def test_long_runs_of_digits_take_no_longer_than_they_are(head: str, tail: str) -> None:
    text = "{{" + head + "1" * 200_000 + tail + "}}"
    try:
        shown = Template.parse(text).execute(None)
    except TemplateError as error:
        shown = str(error)
    assert shown.startswith(("1.111", "(0+1.111", "template: :1: "))
