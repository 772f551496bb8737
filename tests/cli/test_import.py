"""``corral import``: models of other programs, laid out as those lay them out."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from pathlib import Path

import pytest

from corral.library import Library
from corral.names import ModelName
from corral.store import MediaType, Store
from corral.tiny import TINY_FILE
from tests.cli.conftest import Corral
from tests.library.test_parts import parts  # noqa: F401 - a fixture

SHM = Path("/dev/shm")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def own(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


def hugging_face(home: Path, repository: str, *files: Path) -> Path:
    """A repository in the cache of Hugging Face: a snapshot of links to blobs that go by their digests."""
    root = home / ".cache/huggingface/hub" / ("models--" + repository.replace("/", "--"))
    snapshot = root / "snapshots" / "abc123"
    for folder in (root / "blobs", root / "refs", snapshot):
        folder.mkdir(parents=True, exist_ok=True)
    (root / "refs/main").write_text("abc123")
    for file in files:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        shutil.copyfile(file, root / "blobs" / digest)
        (snapshot / file.name).symlink_to(Path("../../blobs") / digest)
    return snapshot


def named(file: Path, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, path)
    return path


def test_a_scan_takes_in_what_other_programs_have(
    corral: Corral,
    home: Path,
    own: Store,
    tmp_path: Path,
    parts: list[Path],  # noqa: F811
) -> None:
    hugging_face(home, "me/mine-GGUF", named(TINY_FILE, tmp_path / "x/mine-Q8_0.gguf"), *parts)
    named(TINY_FILE, home / ".lmstudio/models/you/yours-GGUF/yours-Q4_K_M.gguf")
    named(TINY_FILE, home / ".lmstudio/models/you/yours-GGUF/mmproj-yours-f16.gguf")
    named(TINY_FILE, home / "elsewhere/he/his-GGUF/his-Q2_K.gguf")
    (home / ".config/LM Studio").mkdir(parents=True)
    (home / ".config/LM Studio/settings.json").write_text(json.dumps({"downloadsFolder": str(home / "elsewhere")}))
    named(TINY_FILE, home / ".cache/llama.cpp/their_Model-q8_0.gguf")
    Library(Store(home / ".ollama/models")).install_tiny()
    dry = corral("import", "--scan", "--dry-run")
    assert (dry.returncode, own.names()) == (0, [])
    names = {line.split()[0] for line in dry.stdout.splitlines()[1:]}
    assert names == {
        "tiny:latest",
        "hf.co/me/mine-GGUF:Q8_0",
        "hf.co/me/mine-GGUF:latest",
        "hf.co/you/yours-GGUF:Q4_K_M",
        "hf.co/he/his-GGUF:Q2_K",
        "their_model:q8_0",
    }
    done = corral("import", "--scan")
    assert done.returncode == 0, done.stderr
    assert {name.short for name in own.names()} == names
    library = Library(own)
    assert len(library.resolve(ModelName.parse("hf.co/me/mine-GGUF")).all_weights) == 3
    yours = library.resolve(ModelName.parse("hf.co/you/yours-GGUF:Q4_K_M"))
    assert (len(yours.projectors), yours.details.family) == (1, "qwen3")
    theirs = Store(home / ".ollama/models").read(ModelName.parse("tiny"))
    assert own.read(ModelName.parse("tiny")).data == theirs.data
    again = json.loads(corral("import", "--scan", "--json").stdout)
    assert {model["state"] for model in again["models"]} == {"here"}


def test_a_file_is_linked_and_not_changed(corral: Corral, own: Store, tmp_path: Path) -> None:
    file = named(TINY_FILE, tmp_path / "My Model-Q8_0.gguf")
    file.chmod(0o640)
    os.utime(file, (1e9, 1e9))
    done = corral("import", str(file))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr == "took in my-model:q8_0 (hard link)\n" or "reflink" in done.stderr
    (weights,) = own.read(ModelName.parse("my-model:q8_0")).manifest.of_type(MediaType.MODEL)
    if "hard link" in done.stderr:
        assert own.blob_path(weights.digest).samefile(file)
    assert (stat.S_IMODE(file.stat().st_mode), file.stat().st_mtime) == (0o640, 1e9)
    assert corral("import", str(file), "me/other:v1").returncode == 0
    assert own.find(ModelName.parse("me/other:v1"))
    assert own.prune().files == ()  # old as it is, it is needed


@pytest.mark.skipif(not os.access(SHM, os.W_OK), reason="no second file system")
def test_from_another_device_it_is_copied(corral: Corral, own: Store) -> None:
    file = named(TINY_FILE, SHM / f"corral-test-{os.getpid()}" / "mine.gguf")
    try:
        done = corral("import", str(file.parent), "mine")
        assert (done.returncode, done.stderr) == (0, "took in mine:latest (copy)\n")
        (weights,) = own.read(ModelName.parse("mine")).manifest.of_type(MediaType.MODEL)
        assert own.read_blob(weights.digest) == file.read_bytes()
    finally:
        shutil.rmtree(file.parent)


def test_one_part_brings_the_others(corral: Corral, own: Store, parts: list[Path]) -> None:  # noqa: F811
    assert corral("import", str(parts[1]), "mine").returncode == 0
    assert len(Library(own).resolve(ModelName.parse("mine")).all_weights) == 3


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("nosuch.gguf",), 1, "there is no file nosuch.gguf"),
        ((), 2, "give either a PATH or --scan"),
        (("--scan", "x"), 2, "give either a PATH or --scan"),
        (("{tmp}",), 1, "has no whole model"),
        (("{tmp}/broken.gguf",), 1, "broken"),
        (("{tmp}/broken.gguf", "a b"), 1, "invalid model name"),
    ],
)
def test_what_cannot_be_taken_in_says_why(
    corral: Corral, tmp_path: Path, own: Store, arguments: tuple[str, ...], status: int, said: str
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    done = corral("import", *(argument.format(tmp=folder) for argument in arguments if "broken" not in argument))
    if any("broken" in argument for argument in arguments):
        (folder / "broken.gguf").write_bytes(b"GGUF and then nothing")
        done = corral("import", *(argument.format(tmp=folder) for argument in arguments))
    assert (done.returncode, said in done.stderr) == (status, True), done.stderr
    assert own.names() == []
    assert not list(own.root.glob("blobs/*"))


def test_a_damaged_model_of_another_store_is_passed_over_and_the_others_come(
    corral: Corral, home: Path, own: Store
) -> None:
    theirs = Store(home / ".ollama/models")
    Library(theirs).install_tiny()
    theirs.copy(ModelName.parse("tiny"), ModelName.parse("unreadable"))
    (theirs.root / "manifests" / ModelName.parse("unreadable").path).write_bytes(b"{")
    weights = theirs.read(ModelName.parse("tiny")).manifest.layers[0]
    path = theirs.blob_path(weights.digest)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    named(TINY_FILE, home / ".cache/llama.cpp/\x1b[31mred.gguf")
    done = corral("import", "--scan")
    assert done.returncode == 1
    assert "Error: tiny:latest" in done.stderr
    assert "passed over" in done.stderr
    assert [name.short for name in own.names()] == ["31mred:latest"]


def test_on_another_machine_it_says_where_to_run_it(corral: Corral) -> None:
    done = corral("import", "--scan", CORRAL_HOST="192.0.2.1")
    assert (done.returncode, "run this command there" in done.stderr) == (1, True)
