"""Files that a prompt names."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from corral.cli.attachments import attached, begins_with_file, senses
from corral.errors import InvalidRequest
from tests.cli.conftest import Corral
from tests.cli.fake import FakeServer, Reply, said
from tests.cli.terminal import Terminal
from tests.server.media.samples import coloured, file_of, tone

SEES = {"details": {}, "capabilities": ["completion", "vision"]}
PNG, WEBP, GIF = (file_of(coloured("red"), form) for form in ("PNG", "WEBP", "GIF"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, data in {
        "cat.png": PNG,
        "my cat (1).webp": WEBP,
        "CAT.GIF": GIF,
        "meow.wav": tone(300),
        "note.jpg": b"hello",
    }.items():
        (tmp_path / name).write_bytes(data)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "left", "files"),
    [
        ("describe ./cat.png", "describe", [PNG]),
        ("./cat.png is what?", "is what?", [PNG]),
        ("What is on ./cat.png?", "What is on ?", [PNG]),
        ("compare ./cat.png with ./my\\ cat\\ \\(1\\).webp", "compare  with", [PNG, WEBP]),
        ("compare './my cat (1).webp' and \"./CAT.GIF\"", "compare  and", [WEBP, GIF]),
        ("what says ./meow.wav", "what says", [tone(300)]),
        ("describe {folder}/cat.png", "describe", [PNG]),
        ("describe ../{name}/cat.png", "describe", [PNG]),
        ("describe ~/cat.png", "describe", [PNG]),
        ("describe cat.png", "describe cat.png", []),
        ("describe ./gone.png", "describe ./gone.png", []),
        ("see https://example.com/cat.png", "see https://example.com/cat.png", []),
        ("  what is 3 ./ 4.png\n", "  what is 3 ./ 4.png\n", []),
    ],
)
def test_files_that_are_there_go_along_and_leave_the_text(
    folder: Path, monkeypatch: pytest.MonkeyPatch, text: str, left: str, files: list[bytes]
) -> None:
    monkeypatch.setenv("HOME", str(folder))
    prompt = attached(text.format(folder=folder, name=folder.name), SEES)
    assert (prompt.text, [base64.b64decode(image) for image in prompt.images]) == (left, files)


@pytest.mark.usefixtures("folder")
def test_what_is_no_image_is_an_error_and_for_a_model_that_is_blind_all_is_text() -> None:
    with pytest.raises(InvalidRequest, match=r"invalid file type: \./note\.jpg is text"):
        attached("describe ./note.jpg", SEES)
    assert attached("describe ./cat.png", {"capabilities": ["completion"]}).text == "describe ./cat.png"


@pytest.mark.parametrize(
    "details",
    [{"capabilities": ["audio"]}, {"projector_info": {"a": 1}}, {"model_info": {"gemma3.vision.block_count": 1}}],
)
def test_a_model_has_senses_by_any_sign_of_them(details: dict[str, object]) -> None:
    assert senses(details)


def test_a_path_at_the_beginning_is_no_command(folder: Path) -> None:
    assert begins_with_file(f"{folder}/cat.png", SEES)
    assert not begins_with_file("/bye", SEES)
    assert not begins_with_file(f"{folder}/gone.png", SEES)


def test_run_sends_files_and_says_so_on_stderr(fake: FakeServer, corral: Corral, folder: Path) -> None:
    fake.say("/api/show", Reply(json.dumps(SEES)))
    fake.say("/api/generate", said("A cat."))
    done = corral("run", "tiny", f"describe {folder}/cat.png")
    assert (done.returncode, done.stdout, done.stderr) == (0, "A cat.\n", f"Added image '{folder}/cat.png'\n")
    (body,) = fake.bodies("/api/generate")
    assert (body["prompt"], body["images"]) == ("describe", [base64.b64encode(PNG).decode()])


def test_an_image_alone_is_a_question_too(fake: FakeServer, corral: Corral, folder: Path) -> None:
    fake.say("/api/show", Reply(json.dumps(SEES)))
    fake.say("/api/chat", said("A cat."))
    assert corral("run", "tiny", f"{folder}/cat.png").stdout == "A cat.\n"
    (body,) = fake.bodies("/api/chat")
    assert body["messages"] == [{"role": "user", "content": "", "images": [base64.b64encode(PNG).decode()]}]


def test_a_file_that_cannot_go_along_ends_the_command(fake: FakeServer, corral: Corral, folder: Path) -> None:
    fake.say("/api/show", Reply(json.dumps(SEES)))
    done = corral("run", "tiny", f"describe {folder}/note.jpg")
    assert (done.returncode, done.stdout) == (1, "")
    assert "invalid file type" in done.stderr
    assert fake.bodies("/api/generate") == []


def test_a_chat_remembers_images_and_goes_on_after_a_bad_one(
    fake: FakeServer, environment: dict[str, str], folder: Path
) -> None:
    fake.say("/api/show", Reply(json.dumps(SEES)))
    fake.say("/api/chat", said("A cat."))
    with Terminal(environment, "run", "tiny", columns=200) as terminal:
        terminal.prompt()
        terminal.enter(f"{folder}/note.jpg what")
        terminal.until("invalid file type")
        terminal.prompt()
        terminal.enter(f"{folder}/cat.png what")
        terminal.until("Added image")
        terminal.prompt()
        terminal.enter("And why?")
        terminal.prompt()
        terminal.enter("/bye")
        assert terminal.end() == 0
    first, second = (body["messages"] for body in fake.bodies("/api/chat"))
    assert first == [{"role": "user", "content": "what", "images": [base64.b64encode(PNG).decode()]}]
    assert second[0] == first[0]
