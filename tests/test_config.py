from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from corral.config import Address, Settings, load_settings
from corral.errors import ConfigError


def environment(tmp_path: Path, **variables: str) -> dict[str, str]:
    return {"CORRAL_CONFIG": str(tmp_path / "config.toml"), **variables}


def test_defaults_are_ollamas_address_and_store(tmp_path: Path) -> None:
    settings = load_settings(environment(tmp_path))
    assert settings.host == Address("127.0.0.1", 11434)
    assert settings.models == Path("~/.ollama/models").expanduser()
    assert settings.keep_alive == 300


def test_corrals_own_name_wins_over_ollamas_and_the_environment_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('keep_alive = "1m"\nnum_parallel = 3\n')
    settings = load_settings(environment(tmp_path, OLLAMA_KEEP_ALIVE="2m", CORRAL_KEEP_ALIVE="3m"))
    assert (settings.keep_alive, settings.num_parallel) == (180, 3)
    assert load_settings(environment(tmp_path, OLLAMA_KEEP_ALIVE="2m")).keep_alive == 120
    assert load_settings(environment(tmp_path)).keep_alive == 60


def test_a_setting_that_does_not_exist_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("keep_alife = 3\n")
    with pytest.raises(ConfigError, match='no setting "keep_alife"'):
        load_settings(environment(tmp_path))


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("OLLAMA_KEEP_ALIVE", "soon", 'OLLAMA_KEEP_ALIVE: "soon" is not a value for keep_alive'),
        ("CORRAL_NUM_PARALLEL", "many", "CORRAL_NUM_PARALLEL"),
        ("OLLAMA_NOPRUNE", "perhaps", "expected true or false"),
        ("OLLAMA_HOST", "localhost:99999", "is not a port"),
        ("OLLAMA_HOST", "https://example.com/x", "expected host:port"),
        ("OLLAMA_ORIGINS", "example.com", "try: http://example.com"),
        ("OLLAMA_KV_CACHE_TYPE", "q3", "expected one of"),
        ("OLLAMA_GO_TEMPLATE", "perhaps", "expected auto, 1, 0"),
        ("CORRAL_GO_TEMPLATE", "a/b/c/d/e=1", "expected auto, 1, 0"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_what_to_try(
    tmp_path: Path, variable: str, value: str, why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        load_settings(environment(tmp_path, **{variable: value}))


@pytest.mark.parametrize(
    ("text", "address", "url"),
    [
        ("0.0.0.0", Address("0.0.0.0", 11434), "http://127.0.0.1:11434"),
        (":5000", Address("0.0.0.0", 5000), "http://127.0.0.1:5000"),
        ("http://127.0.0.1:8080/", Address("127.0.0.1", 8080), "http://127.0.0.1:8080"),
        ("[::1]:8080", Address("::1", 8080), "http://[::1]:8080"),
        ("::1", Address("::1", 11434), "http://[::1]:11434"),
    ],
)
def test_addresses_are_understood_as_ollama_writes_them(tmp_path: Path, text: str, address: Address, url: str) -> None:
    settings = load_settings(environment(tmp_path, OLLAMA_HOST=text))
    assert settings.host == address
    assert settings.host.url == url


def test_blanks_and_trailing_commas_in_origins_are_harmless(tmp_path: Path) -> None:
    settings = load_settings(environment(tmp_path, OLLAMA_ORIGINS="http://a.example, http://b.example,"))
    assert settings.origins == ("http://a.example", "http://b.example")


@pytest.mark.parametrize(("word", "value"), [("no", False), ("off", False), ("yes", True), ("1", True), ("TRUE", True)])
def test_switches_understand_what_people_write(tmp_path: Path, word: str, value: bool) -> None:
    assert load_settings(environment(tmp_path, OLLAMA_NOPRUNE=word)).no_prune is value


def test_keep_alive_of_less_than_nothing_is_for_ever(tmp_path: Path) -> None:
    assert load_settings(environment(tmp_path, OLLAMA_KEEP_ALIVE="-1")).keep_alive == float("inf")


def test_the_page_of_settings_is_the_settings() -> None:
    page = (Path(__file__).parents[1] / "docs" / "settings.md").read_text()
    rows = []
    for setting in fields(Settings):
        ollama = setting.metadata["ollama"]
        names = f"| `{setting.name}` | `CORRAL_{setting.name.upper()}` | {f'`{ollama}`' if ollama else ''} |"
        rows.append(f"{names} {setting.metadata['about']} |")
    assert [line for line in page.splitlines() if line.startswith("| `")] == rows


def test_a_mirror_with_a_login_in_its_address_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no login in it; try: corral login mirror\.example"):
        load_settings({"CORRAL_CONFIG": os.devnull, "CORRAL_MIRRORS": "hf.co=https://me:word@mirror.example"})


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only the super-user can become another")
def test_a_user_without_a_home_is_told_so() -> None:
    code = "import os, pwd; from corral.config import home; os.environ.pop('HOME'); os.setuid(54321); home()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "corral.errors.ConfigError: this user has no home folder" in done.stderr
