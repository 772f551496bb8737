"""``corral create``: the real command against a real server, on Modelfiles as people write them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corral.cli.model_files import files_at
from corral.errors import InvalidRequest
from corral.tiny import TINY_FILE
from tests.adapters import adapter, projector
from tests.conftest import RunningServer

PUBLISHED = Path(__file__).parent.parent / "convert" / "published"
Corral = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def corral(server: RunningServer, folder: Path) -> Corral:
    """Run ``corral`` in ``folder``."""

    def run(*arguments: str, stdin: str = "", cwd: Path = folder) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "corral", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            env=server.environment,
            cwd=cwd,
            timeout=60,
        )
        assert "Traceback" not in done.stderr
        return done

    return run


def shown(server: RunningServer, model: str) -> dict[str, Any]:
    return server.client.show(model)


def test_a_model_is_made_from_a_model(server: RunningServer, corral: Corral, folder: Path) -> None:
    (folder / "Modelfile").write_text(
        'FROM tiny\nSYSTEM You are a llama.\nTEMPLATE """{{ .System }} {{ .Prompt }}"""\nPARAMETER stop a\nPARAMETER stop b\n'
        'PARAMETER low_vram 2\nLICENSE """one\ntwo"""\nMESSAGE user hi\nMESSAGE assistant hello\n'
    )
    done = corral("create", "full")
    assert (done.returncode, done.stdout) == (0, "")
    said = done.stderr.splitlines()
    assert said[:2] == ["gathering model components", "Warning: the parameter low_vram has no effect and is left out"]
    assert [line.split(" sha")[0] for line in said[2:]] == [
        *["using existing layer"] * 2,
        *["creating new layer"] * 5,
        "writing manifest",
        "success",
    ]
    details = shown(server, "full")
    assert (details["system"], details["parameters"].split()) == ("You are a llama.", ["stop", '"a"', "stop", '"b"'])


def test_files_are_brought_to_the_server_once(server: RunningServer, corral: Corral, folder: Path) -> None:
    (folder / "files").mkdir()
    (folder / "files/tiny.gguf").write_bytes(TINY_FILE.read_bytes() + bytes(32))
    adapter(folder / "lora.gguf")
    projector(folder / "mmproj.gguf")
    (folder / "Modelfile").write_text(
        "FROM ./files/tiny.gguf\nADAPTER lora.gguf\nFROM mmproj.gguf\nPARAMETER temperature 0\n"
    )
    first, second = (corral("create", "mine", "-f", str(folder / "Modelfile"), cwd=folder.parent) for _ in range(2))
    assert (first.returncode, second.returncode) == (0, 0)
    assert {"copying tiny.gguf", "copying lora.gguf"} <= {line.split(":")[0] for line in first.stderr.splitlines()}
    assert "copying" not in second.stderr
    modelfile = shown(server, "mine")["modelfile"]
    assert [line.split()[0] for line in modelfile.splitlines()[4:]] == ["FROM", "ADAPTER", "FROM", "PARAMETER"]
    (folder / "again").write_text(modelfile)
    assert corral("create", "again", "-f", "again").returncode == 0
    assert shown(server, "again")["modelfile"].replace("again:latest", "mine:latest") == modelfile


def test_a_folder_in_safetensors_is_converted_adapted_and_quantised(
    server: RunningServer, corral: Corral, folder: Path
) -> None:
    (folder / "Modelfile").write_text(f"FROM {PUBLISHED / 'llama'}\nADAPTER {PUBLISHED / 'llama-lora'}\n")
    done = corral("create", "mine", "-q", "q8_0")
    assert done.returncode == 0, done.stderr
    for said in (
        "converting model: 100 %",
        "converting adapter: 100 %",
        "quantizing F32 model to Q8_0: 100 %",
        "success",
    ):
        assert said in done.stderr
    details = shown(server, "mine")
    assert (details["details"]["family"], details["details"]["quantization_level"]) == ("llama", "Q8_0")
    assert [line.split()[0] for line in details["modelfile"].splitlines()[4:6]] == ["FROM", "ADAPTER"]
    assert list(server.client.generate({"model": "mine", "prompt": "x", "raw": True, "options": {"num_predict": 4}}))
    assert not (server.models / "making").exists()


def test_a_modelfile_may_come_from_standard_input(server: RunningServer, corral: Corral) -> None:
    assert corral("create", "mine", "-f", "-", stdin="FROM tiny\nSYSTEM piped").returncode == 0
    assert shown(server, "mine")["system"] == "piped"


def test_a_folder_with_one_model_needs_no_modelfile(server: RunningServer, corral: Corral, folder: Path) -> None:
    (folder / "tiny-Q8_0.gguf").write_bytes(TINY_FILE.read_bytes())
    assert corral("create", "mine").returncode == 0
    assert shown(server, "mine")["details"]["parameter_size"] == "4.46M"


@pytest.mark.parametrize(
    ("modelfile", "error"),
    [
        ("", "no FROM line"),
        ("FROM tiny\nNOSUCH x\n", "(line 2): command must be one of"),
        ('FROM tiny\nSYSTEM """abc\n', "unexpected EOF"),
        ("FROM tiny\nMESSAGE robot hi\n", '(line 2): message role must be one of "system", "user", or "assistant"'),
        ("FROM tiny\nPARAMETER nosuch 1\n", "unknown parameter 'nosuch'"),
        ("FROM tiny\nPARAMETER temperature hot\n", "invalid float value [hot]"),
        ("FROM tiny\nTEMPLATE {{ .Prompt \n", "template error: template: :1: unclosed action"),
        ("FROM ./nosuch.gguf\n", "FROM ./nosuch.gguf: there is no file"),
        ("FROM tiny\nADAPTER ./nosuch.gguf\n", "ADAPTER ./nosuch.gguf: there is no file"),
        ("FROM tiny\nADAPTER .\n", ". has no adapter_model.safetensors"),
        ("FROM .\n", "no Modelfile or safetensors files found"),
        ("FROM ~nobody-of-that-name/x\n", "~nobody-of-that-name/x: "),
        ("FROM Modelfile\n", "unknown type"),
        ("FROM \n", "FROM needs the name of a model"),
        ("FROM a b\n", "invalid model name"),
    ],
)
def test_what_is_wrong_with_a_modelfile_is_said(corral: Corral, folder: Path, modelfile: str, error: str) -> None:
    (folder / "Modelfile").write_text(modelfile)
    done = corral("create", "new")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"Error: {error}" in done.stderr


def test_a_missing_modelfile_is_named_whatever_lies_beside(corral: Corral, folder: Path) -> None:
    (folder / "tiny.gguf").write_bytes(TINY_FILE.read_bytes())
    done = corral("create", "new", "-f", "nosuch")
    assert (done.returncode, done.stderr) == (1, "Error: cannot read the Modelfile nosuch: No such file or directory\n")


def test_an_empty_folder_and_a_wrong_name_are_said(corral: Corral) -> None:
    assert corral("create", "new").stderr.endswith("Error: no Modelfile or safetensors files found\n")
    assert corral("create", "a b").stderr == "Error: invalid model name: a b\n"
    assert corral("create", "").stderr == "Error: invalid model name: \n"


def test_a_folder_with_several_models_is_not_guessed_at(folder: Path) -> None:
    for name in ("a-Q4_0.gguf", "a-Q8_0.gguf"):
        (folder / name).touch()
    with pytest.raises(InvalidRequest, match=r"should have one model, and has a-Q4_0.gguf, a-Q8_0.gguf"):
        files_at(folder)


def test_a_folder_may_not_link_to_what_lies_elsewhere(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    (folder / "model.safetensors").touch()
    (folder / "config.json").symlink_to(tmp_path / "secret")
    with pytest.raises(InvalidRequest, match="insecure path"):
        files_at(folder)


def test_a_snapshot_of_hugging_face_links_to_its_blobs(tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "snapshots" / "abc", tmp_path / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "1234").touch()
    (snapshot / "model.gguf").symlink_to(blobs / "1234")
    assert [file.name for file in files_at(snapshot)] == ["model.gguf"]
