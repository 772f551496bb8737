"""Files that clients bring: whole and under their digest, or not at all."""

from __future__ import annotations

import hashlib
import http.client
import socket
from pathlib import Path

import pytest

from tests.conftest import RunningServer, StartServer

DATA = bytes(range(256)) * 20_000


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def send(server: RunningServer, digest: str, data: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.address.port, timeout=30)
    connection.request("POST", f"/api/blobs/{digest}", data)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body


def files(server: RunningServer) -> list[Path]:
    return list((server.models / "blobs").glob("*"))


def test_a_blob_that_is_sent_is_there_also_after_a_restart(serve: StartServer) -> None:
    server = serve()
    assert send(server, digest_of(DATA), DATA) == (201, b"")
    assert send(server, digest_of(DATA), b"whatever") == (200, b"")
    (file,) = files(server)
    assert file.read_bytes() == DATA
    server.stop()
    assert send(serve(), digest_of(DATA), b"") == (200, b"")


@pytest.mark.parametrize("data", [DATA, b""], ids=["large", "empty"])
def test_what_has_another_digest_leaves_nothing(server: RunningServer, data: bytes) -> None:
    status, body = send(server, "sha256:" + "1" * 64, data)
    assert (status, digest_of(data) in body.decode()) == (400, True)
    assert files(server) == []


def test_a_client_that_goes_away_in_the_middle_leaves_nothing(server: RunningServer) -> None:
    with socket.create_connection(("127.0.0.1", server.address.port)) as client:
        head = f"POST /api/blobs/{digest_of(DATA)} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(DATA)}\r\n\r\n"
        client.sendall(head.encode() + DATA[: 3 << 20])
        while not files(server):
            pass
    while files(server):
        pass
    assert send(server, digest_of(DATA), DATA)[0] == 201


def test_digests_that_are_none_are_refused(server: RunningServer) -> None:
    assert send(server, "sha256:123", b"x") == (400, b'{"error":"invalid digest format"}')
    assert send(server, "md5:" + "1" * 64, b"x")[0] == 400


def test_a_blob_that_is_asked_for_is_not_said_to_be_empty(server: RunningServer) -> None:
    assert send(server, digest_of(DATA), DATA)[0] == 201
    connection = http.client.HTTPConnection("127.0.0.1", server.address.port, timeout=30)
    connection.request("HEAD", f"/api/blobs/{digest_of(DATA)}")
    response = connection.getresponse()
    response.read()
    connection.close()
    assert response.status == 200
    assert response.getheader("content-length") is None
    assert response.getheader("content-type") is None
