"""Files of OpenAI's API."""

from __future__ import annotations

import http.client
import os
import stat
from pathlib import Path
from typing import Any

import openai
import pytest

from corral.server.filing import Files
from tests.conftest import RunningServer, StartServer
from tests.server.conftest import Connect

LARGE = os.urandom(3 << 20)


def test_a_file_comes_back_as_it_was_sent_until_it_is_deleted(client: openai.OpenAI) -> None:
    made = client.files.create(file=("a b.jsonl", LARGE), purpose="batch")
    assert (made.filename, made.bytes, made.purpose, made.status) == ("a b.jsonl", len(LARGE), "batch", "processed")
    assert client.files.retrieve(made.id) == made
    assert client.files.content(made.id).read() == LARGE
    assert client.files.delete(made.id).deleted
    for gone in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError, match="No such File object"):
            gone(made.id)


def test_files_are_listed_page_by_page(server: RunningServer, connect: Connect) -> None:
    client = connect(server)
    assert client.files.list().data == []
    made = [client.files.create(file=(f"{n}.jsonl", b"x"), purpose="batch").id for n in range(5)]
    listed = [file.id for file in client.files.list()]
    assert sorted(listed) == sorted(made)
    assert [file.id for file in client.files.list(limit=2)] == listed
    assert [file.id for file in client.files.list(order="asc")] == list(reversed(listed))
    assert client.files.list(purpose="batch_output").data == []
    with pytest.raises(openai.BadRequestError, match="not in the list"):
        client.files.list(after="file-none")


def test_files_are_their_owners_alone_and_survive_a_restart(
    serve: StartServer, connect: Connect, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    first = serve(CORRAL_DATA=str(data))
    made = connect(first).files.create(file=("a.jsonl", b"text"), purpose="batch")
    first.process.kill()
    first.process.wait()
    folder = data / "files"
    (folder / "left.part").write_bytes(b"half")
    (folder / "file-orphan.data").write_bytes(b"no word of it")
    (folder / "file-bad.json").write_bytes(b"{")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.glob(f"{made.id}.*")} == {0o600}
    client = connect(serve(CORRAL_DATA=str(data)))
    assert client.files.content(made.id).read() == b"text"
    assert sorted(path.name for path in folder.iterdir()) == [f"{made.id}.data", f"{made.id}.json"]


def test_a_file_that_is_too_large_is_refused_and_leaves_nothing(serve: StartServer, connect: Connect) -> None:
    server = serve(CORRAL_FILE_BYTES="1MiB", CORRAL_FILES_BYTES="1.5MiB")
    client = connect(server)
    with pytest.raises(openai.APIStatusError, match="larger than 1,048,576 bytes; CORRAL_FILE_BYTES") as caught:
        client.files.create(file=("a.jsonl", LARGE), purpose="batch")
    assert caught.value.status_code == 413
    client.files.create(file=("a.jsonl", LARGE[: 1 << 20]), purpose="batch")
    with pytest.raises(openai.APIStatusError, match="1,572,864 are allowed; delete some") as caught:
        client.files.create(file=("b.jsonl", LARGE[: 1 << 20]), purpose="batch")
    assert caught.value.status_code == 507
    assert len(list((server.data / "files").iterdir())) == 2


@pytest.mark.parametrize(
    ("asked", "says", "param"),
    [
        ({"purpose": "fine-tune"}, 'purpose "fine-tune" is not supported', "purpose"),
        (
            {"expires_after": {"anchor": "created_at", "seconds": 5}},
            "between 3600 and 2592000",
            "expires_after.seconds",
        ),
        ({"expires_after": {"anchor": "now", "seconds": 3600}}, '"created_at"', "expires_after.anchor"),
    ],
)
def test_what_a_file_cannot_be_is_refused_by_name(
    client: openai.OpenAI, asked: dict[str, Any], says: str, param: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=says) as caught:
        client.files.create(**{"file": ("a.jsonl", b"x"), "purpose": "batch", **asked})
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("kind", "body", "says"),
    [
        ("application/json", b"{}", "isn't multipart/form-data"),
        ("multipart/form-data", b"", "no multipart boundary"),
        ("multipart/form-data; boundary=x", b"wild", "failed to parse multipart form"),
        ("multipart/form-data; boundary=x", b"--x\r\n", "unexpected EOF"),
        ("multipart/form-data; boundary=x",
         b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--x--\r\n', "a file is required"),
    ],
)  # fmt: skip
def test_what_is_no_form_is_refused(shared_server: RunningServer, kind: str, body: bytes, says: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", shared_server.address.port, timeout=30)
    connection.request("POST", "/v1/files", body, {"content-type": kind})
    answer = connection.getresponse()
    assert answer.status == 400
    assert says in answer.read().decode()
    connection.close()


def test_a_file_whose_time_has_passed_is_gone(tmp_path: Path) -> None:
    files = Files(tmp_path / "files", file_bytes=100, total_bytes=1000)
    with files.incoming() as incoming:
        incoming.write(b"x")
        file = files.keep(incoming, filename="a", purpose="batch", expires_after_s=-1)
    assert file["expires_at"] < file["created_at"]
    assert files.list() == []
    assert list((tmp_path / "files").iterdir()) == []
