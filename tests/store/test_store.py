"""The store: whole or not at all, whatever happens and whoever else is there."""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from corral.errors import CorruptManifest, ModelNotFound, StoreError
from corral.names import Digest, ModelName
from corral.store import Layer, Manifest, MediaType, Removed, Store
from corral.store.locks import take_lock
from corral.store.manifest import CONFIG_TYPE

MINE, YOURS = ModelName.parse("mine"), ModelName.parse("yours:8b")
DAY_S = 24 * 3600


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


def model(store: Store, *contents: bytes) -> Manifest:
    layers = tuple(store.add_bytes(content, MediaType.MODEL) for content in contents)
    return Manifest(store.add_bytes(b"{}", CONFIG_TYPE), layers)


def blobs(store: Store) -> set[bytes]:
    return {path.read_bytes() for path in (store.root / "blobs").iterdir()}


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_nothing_is_created_by_looking(store: Store) -> None:
    assert store.entries() == []
    with pytest.raises(ModelNotFound):
        store.read(MINE)
    store.prune()
    assert not store.root.exists()


def test_what_is_written_is_read_and_lies_where_ollama_looks(store: Store) -> None:
    store.write(YOURS, model(store, b"weights"))
    path = store.root / "manifests/registry.ollama.ai/library/yours/8b"
    document = json.loads(path.read_bytes())
    assert document["layers"][0] == {
        "mediaType": "application/vnd.ollama.image.model",
        "digest": f"sha256:{hashlib.sha256(b'weights').hexdigest()}",
        "size": 7,
    }
    assert (store.root / "blobs" / f"sha256-{hashlib.sha256(b'weights').hexdigest()}").read_bytes() == b"weights"
    stored = store.read(YOURS)
    assert stored.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert stored.manifest == model(store, b"weights")


def test_a_store_that_ollama_wrote_is_read_in_place(store: Store) -> None:
    weights = store.add_bytes(b"old weights", MediaType.MODEL)
    config = store.add_bytes(b"{}", CONFIG_TYPE)
    dashed = store.blob_path(weights.digest)
    dashed.rename(dashed.with_name(str(weights.digest)))  # as old versions spelled it
    path = store.root / "manifests/hf.co/someone/Model-GGUF/Q4_K_M"
    path.parent.mkdir(parents=True)
    layer = {"mediaType": MediaType.MODEL, "digest": str(weights.digest), "size": 11, "from": "/tmp/x", "more": 1}
    document = {
        "schemaVersion": 2,
        "layers": [layer],
        "config": {"mediaType": CONFIG_TYPE, "digest": str(config.digest), "size": 2},
    }
    path.write_text(json.dumps(document, indent=3))
    (entry,) = store.entries()
    assert entry.name == ModelName.parse("hf.co/someone/Model-GGUF:Q4_K_M")
    assert store.blob_path(entry.manifest.layers[0].digest).read_bytes() == b"old weights"
    assert store.find(ModelName.parse("HF.co/SomeOne/model-gguf:q4_k_m")) == entry.name


def test_a_name_in_another_case_is_the_same_model(store: Store) -> None:
    store.write(ModelName.parse("Mine"), model(store, b"one"))
    store.write(MINE, model(store, b"two"))
    assert [entry.name.short for entry in store.entries()] == ["Mine:latest"]
    store.copy(MINE, ModelName.parse("MINE"))
    store.delete(ModelName.parse("mINE"))
    assert store.entries() == []
    assert not any((store.root / "manifests").iterdir())  # nor are empty folders left


def test_a_copy_is_the_same_model_under_another_name(store: Store) -> None:
    store.write(MINE, model(store, b"weights"))
    before = blobs(store)
    store.copy(MINE, YOURS)
    assert store.read(YOURS).digest == store.read(MINE).digest
    assert blobs(store) == before
    with pytest.raises(ModelNotFound, match='model "other:latest" not found'):
        store.copy(ModelName.parse("other"), YOURS)


@pytest.mark.parametrize("asked", ["Me/b", "ME/b"])
def test_case_means_nothing_where_two_spellings_of_a_namespace_exist(store: Store, asked: str) -> None:
    store.write(ModelName.parse("Me/a"), model(store, b"one"))
    store.write(ModelName.parse("me/b"), model(store, b"two"))
    assert store.find(ModelName.parse(asked)) is not None


def test_a_valid_name_that_is_too_long_for_the_disk_is_not_found(store: Store) -> None:
    store.write(MINE, model(store, b"one"))
    with pytest.raises(ModelNotFound):
        store.read(ModelName.parse("h" * 300 + "/me/mine"))


def test_a_reader_never_sees_half_a_manifest(store: Store) -> None:
    manifests = [model(store, b"small"), model(store, *(b"%d" % i for i in range(200)))]
    store.write(MINE, manifests[0])
    done = threading.Event()

    def write() -> None:
        for number in range(200):
            store.write(MINE, manifests[number % 2])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = 0
    while not done.is_set():
        assert store.read(MINE).manifest in manifests
        seen += 1
    writer.join()
    assert seen > 60


@pytest.mark.parametrize(
    "damage",
    [
        b"", b"{", b"[]", b"null", b'{"layers": 1}', b'{"layers": [], "config": null}', b"\xff\xfe", b'{"layers": [7]}',
        b'{"layers": [{"mediaType": "x", "digest": "sha256:../../etc/passwd", "size": 1}]}',
    ],
)  # fmt: skip
def test_a_damaged_manifest_hides_only_itself(store: Store, damage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    store.write(MINE, model(store, b"one"))
    store.write(YOURS, model(store, b"two"))
    (store.root / "manifests" / MINE.path).write_bytes(damage)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert [entry.name for entry in store.entries()] == [YOURS]
    assert len([r for r in caplog.records if "mine:latest" in r.getMessage()]) == 1
    with pytest.raises(CorruptManifest, match=r'"mine:latest" is damaged: .*corral rm mine:latest'):
        store.read(MINE)
    store.delete(MINE)  # which is the way out
    assert store.names() == [YOURS]


def test_what_is_no_manifest_is_passed_over(store: Store) -> None:
    store.write(MINE, model(store, b"one"))
    folder = (store.root / "manifests" / MINE.path).parent
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "folder").mkdir()
    (store.root / "manifests/stray").write_bytes(b"x")
    assert store.names() == [MINE]


def test_deletion_removes_what_no_other_model_uses(store: Store) -> None:
    store.write(MINE, model(store, b"shared", b"mine"))
    store.write(YOURS, model(store, b"shared", b"yours"))
    store.delete(MINE)
    assert blobs(store) == {b"{}", b"shared", b"yours"}
    with pytest.raises(ModelNotFound):
        store.delete(MINE)


def test_deletion_waits_until_a_blob_that_was_added_is_part_of_a_model(store: Store) -> None:
    store.write(MINE, model(store, b"shared"))
    other = threading.Thread(target=Store(store.root).delete, args=(MINE,))
    with store.changing():
        manifest = model(store, b"shared")
        other.start()
        other.join(0.1)
        assert other.is_alive()
        store.write(YOURS, manifest)
    other.join()
    assert store.find(MINE) is None
    assert all(store.has_blob(layer.digest) for layer in store.read(YOURS).manifest.blobs)


def test_a_model_whose_blob_was_deleted_meanwhile_is_not_made(store: Store) -> None:
    store.write(MINE, model(store, b"shared"))
    manifest = model(store, b"shared")
    Store(store.root).delete(MINE)
    with pytest.raises(StoreError, match='"yours:8b" cannot be made: its file sha256:'):
        store.write(YOURS, manifest)
    assert store.find(YOURS) is None


def test_deletion_removes_no_file_while_a_manifest_cannot_be_read(store: Store) -> None:
    store.write(MINE, model(store, b"mine"))
    store.write(YOURS, model(store, b"yours"))
    (store.root / "manifests" / YOURS.path).write_bytes(b"{")
    store.delete(MINE)
    assert blobs(store) == {b"{}", b"mine", b"yours"}


def test_the_clean_up_takes_old_leftovers_only(store: Store) -> None:
    store.write(MINE, model(store, b"used"))
    folder = store.root / "blobs"
    old = {
        "sha256-" + "0" * 64: False,  # nobody's blob
        "sha256-abc.corral-tmp": False,
        "sha256-" + "1" * 64 + "-partial": True,  # a download may be resumed for a month
        "notes.txt": True,  # not ours
    }
    for name in old:
        (folder / name).write_bytes(b"x")
        age(folder / name, 2 * DAY_S)
    young = folder / ("sha256-" + "2" * 64)
    young.write_bytes(b"someone is about to refer to it")
    for layer in store.read(MINE).manifest.blobs:
        age(store.blob_path(layer.digest), 90 * DAY_S)
    removed = store.prune()
    assert {file.name for file in removed.files} == {name for name, stays in old.items() if not stays}
    assert removed.size_bytes == 2
    assert young.exists()
    assert store.read(MINE).manifest == model(store, b"used")
    age(folder / ("sha256-" + "1" * 64 + "-partial"), 31 * DAY_S)
    assert len(store.prune().files) == 1


@pytest.mark.parametrize("name", ["sha256-abc.corral-tmp", "sha256-" + "1" * 64, "sha256:" + "2" * 64])
@pytest.mark.parametrize(("age_s", "goes"), [(DAY_S - 60, False), (DAY_S + 60, True)])
def test_a_leftover_goes_when_it_is_a_day_old(store: Store, name: str, age_s: float, goes: bool) -> None:
    store.write(MINE, model(store, b"used"))
    leftover = store.root / "blobs" / name
    leftover.write_bytes(b"x")
    age(leftover, age_s)
    assert [file.name for file in store.prune().files] == ([name] if goes else [])
    assert leftover.exists() is not goes


def test_the_clean_up_spares_every_blob_while_a_manifest_cannot_be_read(store: Store) -> None:
    store.write(MINE, model(store, b"mine"))
    (store.root / "manifests" / MINE.path).write_bytes(b"{")
    for path in (store.root / "blobs").iterdir():
        age(path, 90 * DAY_S)
    assert store.prune() == Removed(blobs_unknown=True)


def test_a_blob_is_named_by_what_it_holds(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(os.urandom(3_000_000))
    layer = store.add_file(file, MediaType.MODEL)
    assert layer == Layer(MediaType.MODEL, Digest(hashlib.sha256(file.read_bytes()).hexdigest()), 3_000_000)
    store.blob_path(layer.digest).write_bytes(b"cut")  # a blob of the wrong size is replaced
    store.add_file(file, MediaType.MODEL)
    assert store.blob_path(layer.digest).read_bytes() == file.read_bytes()


def in_a_process(code: str, *arguments: object) -> str:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def test_a_full_disk_is_an_error_and_leaves_nothing_half_done(store: Store, tmp_path: Path) -> None:
    store.write(MINE, model(store, b"before"))
    big = tmp_path / "big"
    big.write_bytes(bytes(200_000))
    said = in_a_process(
        """
        import resource, signal, sys
        from pathlib import Path
        from corral.errors import StoreError
        from corral.store import MediaType, Store
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            Store(Path(sys.argv[1])).add_file(Path(sys.argv[2]), MediaType.MODEL)
        except StoreError as exc:
            print(exc)
        """,
        store.root,
        big,
    )
    assert said.startswith(f"cannot write to the model store {store.root}: the file would be larger")
    assert blobs(store) == {b"{}", b"before"}


def test_a_manifest_for_which_there_is_no_space_leaves_the_old_one(store: Store) -> None:
    store.write(MINE, model(store, b"before"))
    before = store.read(MINE)
    said = in_a_process(
        """
        import resource, signal, sys
        from pathlib import Path
        from corral.errors import StoreError
        from corral.names import ModelName
        from corral.store import Manifest, Store
        store, name = Store(Path(sys.argv[1])), ModelName.parse("mine")
        manifest = store.read(name).manifest
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            store.write(name, Manifest(manifest.config, manifest.layers * 50))
        except StoreError as exc:
            print(exc)
        """,
        store.root,
    )
    assert said.startswith(f"cannot write to the model store {store.root}: the file would be larger")
    assert store.read(MINE) == before
    assert [path.name for path in (store.root / "manifests" / MINE.path).parent.iterdir()] == ["latest"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only the super-user can become another")
def test_a_read_only_store_is_read_and_not_written(store: Store, tmp_path: Path) -> None:
    store.write(MINE, model(store, b"before"))
    folder = tmp_path
    while folder != folder.parent:
        if folder.stat().st_uid == 0 and folder.stat().st_mode & 0o7777 == 0o700:
            folder.chmod(0o755)
        folder = folder.parent

    def without_rights(answer: multiprocessing.SimpleQueue[tuple[int, str]]) -> None:
        os.setgid(65534)
        os.setuid(65534)
        entries = len(store.entries())
        said = []
        for attempt in (
            lambda: store.add_bytes(b"new", MediaType.MODEL),
            lambda: store.copy(MINE, YOURS),
            lambda: store.delete(MINE),
        ):
            try:
                attempt()
                said.append("it was written")
            except StoreError as exc:
                said.append(str(exc))
        store.tidy()
        answer.put((entries, "|".join(said)))

    context = multiprocessing.get_context("fork")
    answer = context.SimpleQueue()
    process = context.Process(target=without_rights, args=(answer,))
    process.start()
    entries, said = answer.get()
    process.join()
    assert entries == 1
    assert said.count("permission denied; change the owner of the folder") == 3


def test_a_server_that_starts_leaves_the_finished_parts_of_a_model_on_its_way(store: Store) -> None:
    layer = store.add_bytes(b"the first of three files", MediaType.MODEL)
    path = store.blob_path(layer.digest)
    for days, stays in ((29, True), (31, False)):
        os.utime(path, (time.time() - days * DAY_S,) * 2)
        store.tidy()
        assert path.exists() is stays


@pytest.mark.skipif(not hasattr(os, "O_PATH"), reason="needs a file that cannot be locked")
def test_where_there_are_no_locks_nobody_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        os.fdopen(os.open(tmp_path / "file", os.O_PATH), "rb", buffering=0) as file,
        pytest.raises(OSError, match="Bad file"),
    ):
        take_lock(file, wait=False)


def test_processes_at_once_leave_a_store_that_holds_together(store: Store) -> None:
    store.write(MINE, model(store, b"mine"))
    code = """
        import sys
        from pathlib import Path
        from corral.names import ModelName
        from corral.store import Manifest, MediaType, Store
        from corral.store.manifest import CONFIG_TYPE
        store, me = Store(Path(sys.argv[1])), sys.argv[2]
        for number in range(25):
            name = ModelName.parse(f"{me}-{number % 3}")
            with store.changing():
                layer = store.add_bytes(b"shared" if number % 2 else me.encode(), MediaType.MODEL)
                store.write(name, Manifest(store.add_bytes(b"{}", CONFIG_TYPE), (layer,)))
            store.copy(name, ModelName.parse("common"))
            store.delete(name)
    """
    threads = [threading.Thread(target=in_a_process, args=(code, store.root, who)) for who in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {entry.name.short for entry in store.entries()} == {"mine:latest", "common:latest"}
    for entry in store.entries():
        for layer in entry.manifest.blobs:
            data = store.read_blob(layer.digest)
            assert Digest(hashlib.sha256(data).hexdigest()) == layer.digest


def test_a_writer_that_is_killed_leaves_no_lock(store: Store) -> None:
    code = """
        import sys, time
        from pathlib import Path
        from corral.store.locks import locked
        with locked(Path(sys.argv[1])):
            print("held", flush=True)
            time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(store.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        holder.send_signal(signal.SIGKILL)
    store.write(MINE, model(store, b"after"))
    assert store.names() == [MINE]


def test_what_is_asked_to_go_goes_by_age_and_what_is_worked_on_stays(store: Store) -> None:
    store.write(MINE, model(store, b"used"))
    folder = store.root / "blobs"
    layer = store.add_bytes(b"nobody's", MediaType.MODEL)
    busy = Layer(MediaType.MODEL, Digest.of(b"busy"), 3 << 20)
    idle = Layer(MediaType.MODEL, Digest.of(b"idle"), 3 << 20)
    working, left = store.partial(busy), store.partial(idle)
    assert working is not None
    assert left is not None
    left.write(0, bytes(range(256)) * 4096)
    left.close()
    for name in (f"{Digest.of(b'x').file_name}-partial", f"{Digest.of(b'x').file_name}-partial-0", "sha256-12345"):
        (folder / name).write_bytes(b"Ollama's")
        age(folder / name, 600)
    (folder / "sha256-6789").write_bytes(b"somebody may be writing it")
    everything = {path.name for path in folder.iterdir()}
    assert store.prune().files == ()
    wanted = store.prune(unused_s=0, partial_s=0, dry_run=True)
    assert {path.name for path in folder.iterdir()} == everything
    assert store.prune(unused_s=0, partial_s=0) == wanted
    kinds = {file.name.partition("-partial")[0]: file.kind for file in wanted.files}
    assert kinds == {
        layer.digest.file_name: "unused blob",
        idle.digest.file_name: "partial download",
        Digest.of(b"x").file_name: "partial download",
        "sha256-12345": "temporary file",
    }
    assert wanted.size_bytes < 2 << 20  # what it takes on the disk, not how long it would have become
    working.close()
    assert len(store.prune(unused_s=0, partial_s=0).files) == 2
    assert blobs(store) == {b"{}", b"used", b"somebody may be writing it"}


def test_a_blob_that_is_asked_for_is_young_again_unless_it_is_another_programs_file(store: Store) -> None:
    layer = store.add_bytes(b"uploaded before", MediaType.MODEL)
    path = store.blob_path(layer.digest)
    for act in (lambda: store.wants_blob(layer.digest), lambda: store.add_bytes(b"uploaded before", MediaType.MODEL)):
        age(path, 2 * DAY_S)
        act()
        assert store.prune().files == ()
    age(path, 2 * DAY_S)
    before = path.stat().st_mtime
    (store.root / "theirs").hardlink_to(path)
    assert store.wants_blob(layer.digest)
    assert path.stat().st_mtime == before
    assert not store.wants_blob(Digest.of(b"nothing"))
