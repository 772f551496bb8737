"""A Corral is a registry for the others in the house."""

from __future__ import annotations

import hashlib
import http.client
import json
from pathlib import Path

import pytest

from corral.names import ModelName
from corral.store import Store
from corral.store.manifest import MANIFEST_TYPE
from tests.conftest import RunningServer, StartServer


def ask(server: RunningServer, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.address.port)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, {name.lower(): value for name, value in response.getheaders()}, body


def test_a_model_goes_from_one_to_the_other_byte_for_byte(serve: StartServer, tmp_path: Path) -> None:
    here = serve()
    there = serve(tmp_path / "other", CORRAL_OFFLINE="0")
    name = f"127.0.0.1:{here.address.port}/library/tiny"
    assert list(there.client.pull(name, insecure=True))[-1] == {"status": "success"}
    mine, theirs = Store(here.models), Store(there.models)
    original, copy = mine.read(ModelName.parse("tiny")), theirs.read(ModelName.parse(name))
    assert copy.data == original.data
    for layer in original.manifest.blobs:
        assert theirs.read_blob(layer.digest) == mine.read_blob(layer.digest)
    # and on, from the one that has it by a longer name
    last = serve(tmp_path / "third", CORRAL_OFFLINE="0")
    name = f"127.0.0.1:{there.address.port}/library/tiny"
    assert list(last.client.pull(name, insecure=True))[-1] == {"status": "success"}


def test_the_protocol_is_the_one_of_registries(server: RunningServer) -> None:
    status, headers, _ = ask(server, "/v2/")
    assert (status, headers["docker-distribution-api-version"]) == (200, "registry/2.0")
    status, headers, manifest = ask(server, "/v2/library/tiny/manifests/latest")
    digest = "sha256:" + hashlib.sha256(manifest).hexdigest()
    assert (status, headers["content-type"], headers["docker-content-digest"]) == (200, MANIFEST_TYPE, digest)
    assert ask(server, f"/v2/library/tiny/manifests/{digest}")[2] == manifest
    status, headers, body = ask(server, "/v2/library/tiny/manifests/latest", "HEAD")
    assert (status, headers["content-length"], body) == (200, str(len(manifest)), b"")
    assert json.loads(ask(server, "/v2/library/tiny/tags/list")[2]) == {"name": "library/tiny", "tags": ["latest"]}
    layer = json.loads(manifest)["layers"][0]
    path = f"/v2/library/tiny/blobs/{layer['digest']}"
    status, headers, whole = ask(server, path)
    assert (status, hashlib.sha256(whole).hexdigest()) == (200, layer["digest"].removeprefix("sha256:"))
    assert headers["location"].endswith(path)  # without it Ollama does not believe a 200
    status, headers, part = ask(server, path, Range="bytes=1000-1999")
    assert (status, headers["content-range"], part) == (206, f"bytes 1000-1999/{len(whole)}", whole[1000:2000])
    status, headers, part = ask(server, path, "HEAD")
    assert (status, headers["content-length"], headers["docker-content-digest"]) == (
        200,
        str(len(whole)),
        layer["digest"],
    )


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v2/library/nosuch/manifests/latest", 404, "NAME_UNKNOWN"),
        ("/v2/library/tiny/manifests/nosuch", 404, "MANIFEST_UNKNOWN"),
        ("/v2/library/tiny/blobs/sha256:" + "0" * 64, 404, "BLOB_UNKNOWN"),
        ("/v2/library/tiny/blobs/sha256:..%2f..", 404, ""),
        ("/v2/library/tiny/blobs/nonsense", 400, "DIGEST_INVALID"),
        ("/v2/..%2f..%2fetc/tiny/manifests/latest", 400, "NAME_INVALID"),
        ("/v2/tiny/tags/list", 400, "NAME_INVALID"),
    ],
)
def test_what_is_not_here_is_said_in_the_words_of_registries(
    shared_server: RunningServer, path: str, status: int, code: str
) -> None:
    got, _, body = ask(shared_server, path)
    assert got == status
    if code:
        assert json.loads(body)["errors"][0]["code"] == code


@pytest.mark.parametrize(
    ("host", "wish", "status"),
    [("0.0.0.0:0", "auto", 403), ("0.0.0.0:0", "on", 200), ("127.0.0.1:0", "off", 403)],
)
def test_beyond_this_machine_it_is_off_until_it_is_turned_on(
    serve: StartServer, host: str, wish: str, status: int
) -> None:
    server = serve(CORRAL_HOST=host, CORRAL_REGISTRY=wish)
    for path in ("/v2/", "/v2/library/tiny/manifests/latest", "/v2/library/tiny/tags/list"):
        got, _, body = ask(server, path)
        assert got == status
        assert status == 200 or "CORRAL_REGISTRY=on" in json.loads(body)["errors"][0]["message"]
