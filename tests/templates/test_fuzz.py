"""Whatever is thrown at the interpreter, it prints or raises TemplateError, within its limits."""

from __future__ import annotations

import random

import pytest

from corral.errors import TemplateError
from corral.templates.limits import Limits
from corral.templates.template import Template
from tests.templates.data import read_data
from tests.templates.random_templates import Composer
from tests.templates.rules import rules
from tests.templates.styles import STYLES

LIMITS = Limits(steps=20_000, output_characters=50_000, calls=300)


def attempt(text: str, data: object) -> None:
    """Run a template; all that may come of it is a text within the limit or a TemplateError."""
    try:
        printed = Template.parse(text).execute(data, limits=LIMITS)
    except TemplateError as error:
        printed = str(error)
    assert len(printed) <= LIMITS.output_characters
    printed.encode()  # nothing broken remains in it


@pytest.mark.parametrize("seed", range(4))
def test_composed_and_broken_templates_never_crash(seed: int) -> None:
    composer = Composer(1000 + seed)
    for _ in range(300):
        text = composer.template()
        data = read_data(composer.data())
        attempt(text, data)
        attempt(composer.mutated(text), data)


def test_mutated_templates_of_the_corpus_never_crash() -> None:
    composer = Composer(77)
    texts = [*STYLES.values(), *(text for text, _ in rules() if len(text) < 1000)]
    data = read_data(composer.data())
    for text in texts:
        attempt(composer.mutated(text), data)


def test_noise_never_crashes() -> None:
    choose = random.Random(5)
    pieces = [
        "{{",
        "}}",
        "{{- ",
        " -}}",
        "/*",
        "*/",
        "\n",
        " ",
        ".",
        "$x",
        ":=",
        "|",
        "(",
        ")",
        '"',
        "`",
        "'",
        "\\",
        "1",
        "0x",
    ]
    pieces += [
        "if ",
        "else ",
        "end",
        "range ",
        "with ",
        'define "a"',
        'template "a" .',
        "break",
        ".S",
        "é",
        "\udc80",
        "\ud800",
        "\0",
    ]
    for _ in range(3000):
        attempt("".join(choose.choices(pieces, k=choose.randint(1, 25))), {"S": "\ud83d half \udcff"})


def test_loops_and_calls_at_random_end_within_the_limits() -> None:
    choose = random.Random(6)
    heads = ["{{range 1000}}", "{{range $}}", '{{template "a" $}}', "{{with $}}", "{{range $i, $x := $}}"]
    for _ in range(200):
        picked = choose.choices(heads, k=choose.randint(1, 6))
        body = "".join(picked) + '{{printf "%100v" $}}' + "{{end}}" * sum("template" not in head for head in picked)
        attempt(f'{{{{define "a"}}}}{body}{{{{end}}}}{body}', [1, "two", [3]])
