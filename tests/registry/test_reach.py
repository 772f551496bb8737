"""Which machines are asked: mirrors first, proxies, private authorities, and no address that a stranger has no business with."""

from __future__ import annotations

import base64
import json
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import aclosing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError

import pytest
import trustme

from corral.errors import ConfigError, RegistryError
from corral.names import ModelName
from corral.registry import Outside, Progress, Reach, Transfers, Wish
from corral.registry.reach import OutOfReach, check
from corral.registry.repository import Repository
from corral.registry.transport import Transport, read_all
from corral.store import Store
from tests.conftest import RunningServer, StartServer
from tests.registry.conftest import running_registry
from tests.registry.fake import FakeRegistry, Faults, digest_of

pytestmark = pytest.mark.anyio

WEIGHTS = bytes(range(256)) * 20_000


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


@contextmanager
def registries(*names: str) -> Iterator[list[FakeRegistry]]:
    """Registries which have the model of one name each, or of none."""
    if not names:
        yield []
        return
    registry = FakeRegistry()
    if names[0]:
        registry.add(names[0], WEIGHTS)
    with registry.running(), registries(*names[1:]) as others:
        yield [registry, *others]


async def pull(store: Store, name: str, outside: Outside, wish: Wish = Wish(insecure=True)) -> list[Progress]:  # noqa: B008
    async with (
        Transfers(store, outside) as transfers,
        aclosing(transfers.pull(ModelName.parse(name), wish)) as steps,
    ):
        return [step async for step in steps]


def mirrored(registry: FakeRegistry, *mirrors: FakeRegistry) -> Outside:
    return Outside(mirrors={registry.host: [f"http://{mirror.host}" for mirror in mirrors]})


async def test_the_first_mirror_that_has_it_is_asked_and_the_registry_is_not(store: Store) -> None:
    with registries("me/mine:latest", "", "me/mine:latest") as (registry, empty, full):
        await pull(store, f"{registry.host}/me/mine", mirrored(registry, empty, full))
        assert (len(empty.requests), registry.requests) == (1, [])
        assert all(path.endswith(f"?ns=127.0.0.1%3A{registry.port}") for _, path in full.requests)
        assert store.find(ModelName.parse(f"{registry.host}/me/mine"))


@pytest.mark.parametrize(
    "faults",
    [
        Faults(statuses=[(404, {})] * 20),
        Faults(statuses=[(500, {})] * 20),
        Faults(cut_after=1 << 16),
        Faults(corrupt={5}, corrupt_always=True),
    ],
    ids=["has no blob", "broken", "cut", "corrupt"],
)
async def test_what_a_mirror_cannot_give_comes_from_the_registry(store: Store, faults: Faults) -> None:
    with registries("me/mine:latest", "me/mine:latest") as (registry, mirror):
        mirror.faults = faults
        await pull(store, f"{registry.host}/me/mine", mirrored(registry, mirror))
        (layer,) = store.read(ModelName.parse(f"{registry.host}/me/mine")).manifest.layers
        assert store.read_blob(layer.digest) == WEIGHTS


async def test_mirrors_that_are_not_there_are_passed_over_and_the_registrys_own_error_is_told(store: Store) -> None:
    with registries("me/mine:latest") as (registry,):
        outside = Outside(mirrors={registry.host: ["http://127.0.0.1:9"]})
        await pull(store, f"{registry.host}/me/mine", outside)
        with pytest.raises(RegistryError, match=r"^pull model manifest: file does not exist$"):
            await pull(store, f"{registry.host}/me/nosuch", outside)


async def test_a_mirror_below_a_path_is_asked_there(store: Store) -> None:
    with registries("me/mine:latest", "cache/me/mine:latest") as (registry, mirror):
        await pull(
            store, f"{registry.host}/me/mine", Outside(mirrors={registry.host: [f"http://{mirror.host}/cache/"]})
        )
        assert registry.requests == []


def test_mirrors_come_from_the_environment_and_from_a_table_in_the_file(tmp_path: Path) -> None:
    from corral.config import load_settings

    (tmp_path / "config.toml").write_text('[mirrors]\n"HF.co" = ["https://a.example", "http://b.example:5000/x"]\n')
    both = (("hf.co", ("https://a.example", "http://b.example:5000/x")),)
    environment = {"CORRAL_CONFIG": str(tmp_path / "config.toml")}
    assert load_settings(environment).mirrors == both
    text = "hf.co=https://a.example,http://b.example:5000/x"
    assert load_settings({**environment, "CORRAL_MIRRORS": text}).mirrors == both
    for wrong in ("https://a.example", "hf.co=", "hf.co=a.example", "hf.co=ftp://a.example"):
        with pytest.raises(ConfigError, match="CORRAL_MIRRORS"):
            load_settings({**environment, "CORRAL_MIRRORS": wrong})


async def test_a_private_authority_is_trusted_when_the_owner_says_so(tmp_path: Path, store: Store) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    tls = {"certificate": str(tmp_path / "cert.pem"), "key": str(tmp_path / "key.pem")}
    with running_registry(tmp_path, http={"tls": tls}) as registry:
        name = f"{registry.host}/me/mine"
        with pytest.raises(RegistryError, match="certificate"):
            await pull(store, name, Outside(), Wish())
        with pytest.raises(RegistryError, match=r"^pull model manifest: file does not exist$"):
            await pull(store, name, Outside(ca_file=tmp_path / "ca.pem"), Wish())
        with pytest.raises(ConfigError, match="nosuch"):
            await pull(store, name, Outside(ca_file=tmp_path / "nosuch"), Wish())


@contextmanager
def forward_proxy(target: str = "") -> Iterator[tuple[str, list[str]]]:
    """A proxy for plain HTTP that has nothing, or redirects to ``target``; its address, and what was asked of it."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            login = self.headers.get("Proxy-Authorization")
            asked.append(f"{self.path} {login}" if login else self.path)
            self.send_response(307 if target else 404)
            self.send_header("Location", target)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_a_proxy_of_the_environment_is_used_and_no_proxy_honoured(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with forward_proxy() as (address, asked):
        monkeypatch.setenv("http_proxy", address)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with pytest.raises(RegistryError, match="file does not exist"):
            await pull(store, "registry.example/me/mine", Outside(), Wish(insecure=True, reach=Reach.INTERNET))
        assert asked == ["http://registry.example/v2/me/mine/manifests/latest"]
        with pytest.raises(RegistryError, match="private network"):
            await pull(store, "10.0.0.1/me/mine", Outside(), Wish(insecure=True, reach=Reach.INTERNET))
        with registries("me/mine:latest") as (registry,):
            await pull(store, f"{registry.host}/me/mine", Outside())
        assert len(asked) == 1


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_gets_the_login_in_its_address_and_no_error_has_it(
    store: Store, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    with forward_proxy() as (address, asked):
        monkeypatch.setenv(f"{scheme}_proxy", address.replace("//", "//me:open%20sesame@"))
        with pytest.raises(RegistryError) as failed:
            await pull(store, "registry.example/me/mine", Outside(), Wish(insecure=scheme == "http"))
        assert asked[0].endswith(" Basic " + base64.b64encode(b"me:open sesame").decode())
        assert "sesame" not in str(failed.value)


async def test_a_proxy_of_another_kind_is_refused_by_name(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "socks5://me:secret@127.0.0.1:9")
    with pytest.raises(ConfigError, match=r'^http_proxy is "socks5://127.0.0.1:9"; expected'):
        await pull(store, "registry.example/me/mine", Outside())


async def test_logins_of_netrc_are_nobodys_business(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("default login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with registries("me/mine:latest") as (registry,):
        await pull(store, f"{registry.host}/me/mine", Outside())
        assert {sent for _, sent in registry.authorizations} == {""}


@contextmanager
def endless(*parts: bytes) -> Iterator[str]:
    """A server that says the first of ``parts`` and then the others again and again, with pauses; its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = threading.Event()

        def talk() -> None:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                connection.recv(1 << 16)
                connection.sendall(parts[0])
                while not ended.wait(0.02):
                    connection.sendall(b"".join(parts[1:]))

        thread = threading.Thread(target=talk)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            ended.set()
            thread.join()


@pytest.mark.parametrize(
    "parts",
    [(b"HTTP/1.1 200 OK\r\n", b"X-More: x\r\n"), (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n")],
    ids=["headers", "hints"],
)
async def test_headers_that_never_end_are_not_waited_for(parts: tuple[bytes, bytes]) -> None:
    with endless(*parts) as url:
        async with Transport(stall_s=0.3) as transport:
            with pytest.raises(RegistryError, match="nothing came for too long"):
                async with transport.request("GET", url):
                    pass


async def test_a_short_answer_that_never_ends_is_not_waited_for() -> None:
    with endless(b"HTTP/1.1 200 OK\r\n\r\n", b" ") as url:
        async with Transport() as transport, transport.request("GET", url) as response:
            with pytest.raises(RegistryError, match="does not come to the end"):
                await read_all(response, 1 << 20, within_s=0.3)


async def test_an_error_has_nothing_of_a_signed_address_and_nothing_that_writes_over_a_terminal(store: Store) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"http://me:secret@127.0.0.1:{closed.getsockname()[1]}/file?signature=secret"
    with registries("me/mine:latest") as (registry,):
        name = f"{registry.host}/me/mine"
        registry.faults = Faults(statuses=[(307, {"Location": nobody})] * 40)
        with pytest.raises(RegistryError, match="/file") as failed:
            await pull(store, name, Outside(backoff_s=0.01))
        assert "secret" not in str(failed.value)
        registry.answers["/v2/me/mine/manifests/x"] = lambda: (403, b"\x1b[2Jred\r\nand more")
        with pytest.raises(RegistryError, match=r"403: +\[2Jred and more$"):
            await pull(store, f"{name}:x", Outside())


@pytest.mark.parametrize(
    ("address", "networks", "internet"),
    [
        ("8.8.8.8", True, True),
        ("2606:4700::1111", True, True),
        ("10.1.2.3", True, False),
        ("192.168.0.1", True, False),
        ("172.16.0.1", True, False),
        ("100.64.0.1", True, False),
        ("127.0.0.1", True, False),
        ("0.0.0.0", True, False),
        ("::1", True, False),
        ("fd00:1::254", True, False),
        ("::10.0.0.1", True, False),
        ("fd00:ec2::254", False, False),
        ("100.100.100.200", False, False),
        ("168.63.129.16", False, False),
        ("fec0::1", False, False),
        ("::ffff:10.0.0.1", True, False),
        ("64:ff9b::a00:1", True, False),
        ("2002:a00:1::1", True, False),
        ("169.254.169.254", False, False),
        ("fe80::1%eth0", False, False),
        ("::ffff:169.254.169.254", False, False),
        ("64:ff9b::a9fe:a9fe", False, False),
        ("224.0.0.1", False, False),
    ],
)
def test_what_strangers_may_reach(address: str, networks: bool, internet: bool) -> None:
    for reach, allowed in ((Reach.EVERYWHERE, True), (Reach.NETWORKS, networks), (Reach.INTERNET, internet)):
        if allowed:
            check(address, reach)
            continue
        with pytest.raises(OutOfReach):
            check(address, reach)


async def test_a_name_is_judged_by_the_address_it_leads_to_when_it_is_connected_to(store: Store) -> None:
    with registries("me/mine:latest") as (registry,):
        async with Transport() as transport:
            for host in ("127.0.0.1", "localhost"):
                with pytest.raises(RegistryError, match="private network") as failed:
                    async with transport.request("GET", f"http://{host}:{registry.port}/", reach=Reach.INTERNET):
                        pass
                assert not failed.value.temporary
        assert registry.requests == []


async def test_a_redirect_leads_no_further_than_a_name(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name leads to a proxy's answer, which redirects to this machine."""
    with registries("me/mine:latest") as (registry,), forward_proxy(f"http://{registry.host}/") as (address, asked):
        monkeypatch.setenv("http_proxy", address)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with pytest.raises(RegistryError, match="private network"):
            await pull(store, "registry.example/me/mine", Outside(), Wish(insecure=True, reach=Reach.INTERNET))
        assert (len(asked), registry.requests) == (1, [])


def ask_to_pull(server: RunningServer, model: str, **headers: str) -> tuple[int, str]:
    body = json.dumps({"model": model, "insecure": True, "stream": False}).encode()
    request = urllib.request.Request(f"{server.url}/api/pull", body, headers)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, json.loads(response.read())["status"]
    except HTTPError as exc:
        with exc:
            return exc.code, json.loads(exc.read())["error"]


def own_address() -> str:
    """An address of this machine that is not loopback; asking it is asking from elsewhere."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            pytest.skip("this machine has no address besides loopback")
        return str(probe.getsockname()[0])


def test_names_from_other_machines_stay_out_of_private_networks_until_the_owner_allows_it(serve: StartServer) -> None:
    with registries("me/mine:latest") as (registry,):
        model = f"{registry.host}/me/mine"
        server = serve(CORRAL_OFFLINE="0", CORRAL_HOST="0.0.0.0:0")
        behind_proxy = {"X-Forwarded-For": "203.0.113.5"}
        status, said = ask_to_pull(server, model, **behind_proxy)
        assert (status, "CORRAL_PRIVATE_REGISTRIES" in said) == (500, True)
        local, server.address = server.address, type(server.address)(own_address(), server.address.port)
        status, said = ask_to_pull(server, model)
        assert (status, "CORRAL_PRIVATE_REGISTRIES" in said) == (500, True)
        assert registry.requests == []
        server.address = local
        assert ask_to_pull(server, model) == (200, "success")
        server = serve(CORRAL_OFFLINE="0", CORRAL_HOST="0.0.0.0:0", CORRAL_PRIVATE_REGISTRIES="1")
        assert ask_to_pull(server, model, **behind_proxy) == (200, "success")


def test_a_server_uses_the_mirrors_of_its_settings(serve: StartServer) -> None:
    with registries("", "library/mine:latest") as (_, mirror):
        server = serve(CORRAL_OFFLINE="0", CORRAL_MIRRORS=f"registry.ollama.ai=http://{mirror.host}")
        assert ask_to_pull(server, "mine") == (200, "success")
        assert digest_of(WEIGHTS).removeprefix("sha256:") in [path.name[7:] for path in server.models.glob("blobs/*")]


def test_port_443_is_left_out_of_encrypted_addresses_alone() -> None:
    for scheme, port, left in (("https", 443, ""), ("http", 443, ":443"), ("http", 80, ""), ("https", 80, ":80")):
        name = ModelName.parse(f"registry.example:{port}/me/mine")
        repository = Repository(Transport(), name, insecure=scheme == "http")
        assert repository.address == f"{scheme}://registry.example{left}/v2/me/mine"
