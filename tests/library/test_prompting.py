"""Which template a model is spoken to with. The table itself is tested where it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral.config import GoTemplates
from corral.gguf import read_gguf
from corral.gguf.facts import model_facts
from corral.library import Library
from corral.library.prompting import prompting
from corral.names import ModelName
from corral.store import Store
from corral.tiny import TINY_FILE
from tests.wire.tinygo import TEMPLATE, put_tinygo

JINJA = model_facts(read_gguf(TINY_FILE, arrays=False)).chat_template
POOR = "{{ .System }} {{ .Prompt }}"
FILLS = "{{ if .Suffix }}<PRE>{{ .Prompt }}<SUF>{{ .Suffix }}<MID>{{ else }}{{ .Prompt }}{{ end }}"


def test_a_model_with_one_template_uses_it() -> None:
    assert prompting(None, JINJA).use == "jinja"
    assert prompting(POOR, None).use == "go"
    assert prompting(None, None).use == "jinja"  # the engine has one for those that bring none


def test_a_poorer_go_template_is_used_if_its_user_wrote_it_or_wants_it() -> None:
    assert prompting(POOR, JINJA).use == "jinja"
    assert prompting(POOR, JINJA, own=True).use == "go"
    assert prompting(POOR, JINJA, wanted=True).use == "go"
    assert prompting(TEMPLATE.read_text(), JINJA).use == "go"
    assert prompting(TEMPLATE.read_text(), JINJA, wanted=False).use == "jinja"


def test_a_template_gives_its_model_capabilities() -> None:
    assert prompting(TEMPLATE.read_text(), JINJA).capabilities == ("tools", "thinking")
    assert prompting(FILLS, None).capabilities == ("insert",)
    assert prompting(POOR, JINJA).capabilities == ()


@pytest.mark.parametrize("config", [{"parser": "harmony"}, {"renderer": "qwen3-coder"}])
def test_a_family_whose_answers_only_the_engine_can_read_is_left_to_it(config: dict[str, object]) -> None:
    template = TEMPLATE.read_text()
    assert prompting(template, JINJA, config=config).use == "jinja"
    assert prompting(template, None, config=config).use == "go"
    harmony = "<|start|>user<|message|>{{ .Prompt }}<|end|>"
    assert prompting(harmony, JINJA, family="gptoss").reason == "its answers need a parser that the engine has"


def test_a_template_that_cannot_be_read_is_not_passed_over_in_silence() -> None:
    assert prompting("{{ if", JINJA).use == "go"
    assert prompting("{{ if", JINJA, wanted=False).use == "jinja"


def test_the_library_says_the_same_of_a_model_wherever_it_is_looked_at(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put_tinygo(store)
    put_tinygo(store, "poor", POOR)
    put_tinygo(store, "mine", POOR, own_template=True)
    put_tinygo(store, "without", "", own_template=True)
    library = Library(store)
    said = {summary.name.short: summary.capabilities for summary in library.list()}
    for name, capabilities, template in (
        ("tinygo", ("completion", "tools", "thinking"), TEMPLATE.read_text().rstrip("\n")),
        ("poor", ("tools", "thinking", "completion"), JINJA),
        ("mine", ("completion",), POOR),
        ("without", ("tools", "thinking", "completion"), JINJA),
    ):
        shown = library.show(ModelName.parse(name))
        assert said[f"{name}:latest"] == shown.capabilities == capabilities
        assert shown.template == template
    assert POOR in library.show(ModelName.parse("poor")).modelfile


def test_settings_decide_for_all_models_or_for_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put_tinygo(store)
    put_tinygo(store, "poor", POOR)
    used = {
        text: tuple(
            Library(store, GoTemplates.parse(text)).resolve(ModelName.parse(name)).prompting.use
            for name in ("tinygo", "poor")
        )
        for text in ("", "1", "0", "poor=on", "0,POOR:latest=1", "1, poor=auto")
    }
    assert used == {
        "": ("go", "jinja"),
        "1": ("go", "go"),
        "0": ("jinja", "jinja"),
        "poor=on": ("go", "go"),
        "0,POOR:latest=1": ("jinja", "go"),
        "1, poor=auto": ("go", "jinja"),
    }
