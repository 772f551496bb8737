"""A Corral that fetches for the others in the house what it lacks: once, and hands it on while it comes."""

from __future__ import annotations

import http.client
import random
import threading
from pathlib import Path

from corral.names import Digest, ModelName
from corral.store import Store
from tests.conftest import RunningServer, StartServer
from tests.registry.fake import FakeRegistry, Faults, digest_of
from tests.registry.test_serving import ask

WEIGHTS = random.Random(4).randbytes(12 << 20)


def pull(server: RunningServer, model: str) -> None:
    assert list(server.client.pull(model, insecure=True))[-1] == {"status": "success"}


def cache(serve: StartServer, models: Path, upstream: FakeRegistry, **more: str) -> RunningServer:
    mirrors = f"registry.ollama.ai=http://{upstream.host};hf.co=http://{upstream.host}"
    return serve(models, CORRAL_OFFLINE="0", CORRAL_REGISTRY_CACHE="1", CORRAL_MIRRORS=mirrors, **more)


def client_of(serve: StartServer, models: Path, server: RunningServer) -> RunningServer:
    mirrors = ";".join(f"{host}={server.url}" for host in ("registry.ollama.ai", "hf.co"))
    return serve(models, CORRAL_OFFLINE="0", CORRAL_MIRRORS=mirrors)


def test_what_is_lacking_is_fetched_once_for_everyone(serve: StartServer, tmp_path: Path) -> None:
    upstream = FakeRegistry()
    upstream.add("library/mine:latest", WEIGHTS, b"a template")
    upstream.faults = Faults(chunk_s=0.005)
    with upstream.running():
        server = cache(serve, tmp_path / "cache", upstream)
        clients = [client_of(serve, tmp_path / f"client{n}", server) for n in range(3)]
        threads = [threading.Thread(target=pull, args=(client, "mine")) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for client in clients:
            stored = Store(client.models).read(ModelName.parse("mine"))
            assert stored.data == upstream.manifests["library/mine:latest"]
            assert Store(client.models).read_blob(stored.manifest.layers[0].digest) == WEIGHTS
        assert upstream.sent[digest_of(WEIGHTS)] == len(WEIGHTS)
        assert Store(server.models).read(ModelName.parse("mine")).data == upstream.manifests["library/mine:latest"]
    pull(client_of(serve, tmp_path / "late", server), "mine")  # the registry is gone, and nobody misses it


def test_a_blob_is_handed_on_before_all_of_it_is_there(serve: StartServer, tmp_path: Path) -> None:
    upstream = FakeRegistry()
    upstream.add("library/mine:latest", WEIGHTS)
    upstream.faults = Faults(chunk_s=0.02)
    with upstream.running():
        server = cache(serve, tmp_path / "cache", upstream)
        assert ask(server, "/v2/library/mine/manifests/latest")[0] == 200
        path = f"/v2/library/mine/blobs/{digest_of(WEIGHTS)}"
        status, headers, _ = ask(server, path, "HEAD")
        assert (status, headers["content-length"]) == (200, str(len(WEIGHTS)))
        connection = http.client.HTTPConnection("127.0.0.1", server.address.port)
        connection.request("GET", path, headers={"Range": f"bytes=1000-{len(WEIGHTS) - 2}"})
        response = connection.getresponse()
        assert (response.status, response.getheader("Content-Range")) == (
            206,
            f"bytes 1000-{len(WEIGHTS) - 2}/{len(WEIGHTS)}",
        )
        first = response.read(1 << 20)
        assert not Store(server.models).has_blob(Digest.parse(digest_of(WEIGHTS)))
        assert upstream.sent[digest_of(WEIGHTS)] < len(WEIGHTS)
        assert first + response.read() == WEIGHTS[1000:-1]
        connection.close()
        assert ask(server, path, Range=f"bytes={len(WEIGHTS)}-")[0] == 416


def test_another_registry_is_named_by_the_mirrors_client(serve: StartServer, tmp_path: Path) -> None:
    upstream = FakeRegistry()
    upstream.add("me/mine:Q8_0", WEIGHTS[:1000])
    with upstream.running():
        server = cache(serve, tmp_path / "cache", upstream)
        pull(client_of(serve, tmp_path / "client", server), "hf.co/me/mine:Q8_0")
        assert Store(server.models).find(ModelName.parse("hf.co/me/mine:Q8_0"))
        path = "/v2/me/mine/manifests/Q8_0"
        assert ask(server, path)[0] == 200  # whoever says no registry gets what is here
        status, _, body = ask(server, "/v2/me/mine/manifests/nosuch?ns=hf.co")
        assert (status, b"hf.co" in body) == (502, True)  # the mirror has none, and hf.co is not reached


def test_without_the_setting_nothing_is_fetched(serve: StartServer, tmp_path: Path) -> None:
    upstream = FakeRegistry()
    upstream.add("library/mine:latest", WEIGHTS)
    with upstream.running():
        mirrors = f"registry.ollama.ai=http://{upstream.host}"
        server = serve(tmp_path / "plain", CORRAL_OFFLINE="0", CORRAL_MIRRORS=mirrors)
        assert ask(server, "/v2/library/mine/manifests/latest")[0] == 404
        assert upstream.requests == []


def test_a_page_in_a_browser_starts_no_download(serve: StartServer, tmp_path: Path) -> None:
    upstream = FakeRegistry()
    upstream.add("library/mine:latest", WEIGHTS)
    with upstream.running():
        server = cache(serve, tmp_path / "cache", upstream)
        status, _, _ = ask(server, "/v2/library/mine/manifests/latest", **{"Sec-Fetch-Site": "cross-site"})
        assert (status, upstream.requests) == (404, [])


def test_who_asks_from_elsewhere_cannot_name_addresses_here(serve: StartServer, tmp_path: Path) -> None:
    server = serve(CORRAL_OFFLINE="0", CORRAL_REGISTRY_CACHE="1")
    for host, why in (("169.254.0.1", "link-local"), ("127.0.0.1:9", "private network")):
        path = f"/v2/library/nosuch/manifests/latest?ns={host}"
        status, _, body = ask(server, path, **{"X-Forwarded-For": "203.0.113.9"})
        assert (status, why in body.decode()) == (502, True)


def test_a_blob_for_which_there_is_no_room_is_not_begun(serve: StartServer, tmp_path: Path) -> None:
    upstream = FakeRegistry()
    manifest = upstream.add("library/mine:latest", WEIGHTS[:1000])
    upstream.manifests["library/mine:latest"] = manifest.replace(b'"size": 1000', b'"size": %d' % (1 << 44))
    with upstream.running():
        server = cache(serve, tmp_path / "cache", upstream)
        assert ask(server, "/v2/library/mine/manifests/latest")[0] == 200
        connection = http.client.HTTPConnection("127.0.0.1", server.address.port)
        connection.request("GET", f"/v2/library/mine/blobs/{digest_of(WEIGHTS[:1000])}")
        assert connection.getresponse().read(1 << 16) == b""
        connection.close()
        assert not list((server.models / "blobs").glob("*partial*"))
        assert server.client.version()
