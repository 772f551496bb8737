"""Registries that ask who we are: the right answer to the right one, and nothing to anybody else."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from corral.errors import ConfigError, InvalidRequest, RegistryError
from corral.names import ModelName
from corral.registry import Credential, Credentials, Identity, Outside, SigningKey, Transfers, Wish
from corral.registry.authorization import Authorization
from corral.registry.transport import Transport
from corral.store import Manifest, MediaType, Store
from corral.store.manifest import CONFIG_TYPE
from tests.conftest import StartServer
from tests.registry.conftest import RealRegistry, running_registry
from tests.registry.fake import FakeRegistry, Faults
from tests.registry.tokens import TokenServer

pytestmark = pytest.mark.anyio

USER, PASSWORD = "me", "open sesame"
HASH = "$2b$04$udsEqfguC1.35oT9iniyW.evHuGd74LtfV2iWh08z6cM7fbg2CzBG"  # bcrypt of the password
LOGIN = Credential(USER, PASSWORD)
INSECURE = Wish(insecure=True)


@pytest.fixture
def closed_registry(tmp_path: Path) -> Iterator[RealRegistry]:
    """Docker's registry, which wants a name and a password."""
    (tmp_path / "htpasswd").write_text(f"{USER}:{HASH}\n")
    with running_registry(
        tmp_path, auth={"htpasswd": {"realm": "test", "path": str(tmp_path / "htpasswd")}}
    ) as registry:
        yield registry


@pytest.fixture
def tokens(tmp_path: Path) -> Iterator[TokenServer]:
    with TokenServer(tmp_path / "bundle.pem", LOGIN.basic).running() as server:
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


def model(store: Store, host: str) -> ModelName:
    name = ModelName.parse(f"{host}/me/mine")
    manifest = Manifest(store.add_bytes(b"{}", CONFIG_TYPE), (store.add_bytes(b"weights", MediaType.MODEL),))
    store.write(name, manifest)
    return name


def known(tmp_path: Path, **logins: Credential) -> Identity:
    """Whoever has these logins, host by host, and a key that is made when it is needed."""
    credentials = Credentials(tmp_path / "credentials.json", {"HOME": str(tmp_path)})
    for host, login in logins.items():
        credentials.keep(host, login)
    return Identity(credentials, SigningKey(tmp_path / "id_ed25519"))


async def push(store: Store, name: ModelName, identity: Identity, wish: Wish = INSECURE) -> None:
    async with (
        Transfers(store, Outside(identity=identity)) as transfers,
        aclosing(transfers.push(name, wish)) as steps,
    ):
        assert [step.status async for step in steps][-1] == "success"


async def pull(store: Store, name: ModelName, identity: Identity, wish: Wish = INSECURE) -> None:
    async with (
        Transfers(store, Outside(identity=identity)) as transfers,
        aclosing(transfers.pull(name, wish)) as steps,
    ):
        assert [step.status async for step in steps][-1] == "success"


async def test_a_registry_with_passwords_gets_the_one_that_was_kept_for_it(
    tmp_path: Path, store: Store, closed_registry: RealRegistry
) -> None:
    name, identity = model(store, closed_registry.host), known(tmp_path, **{closed_registry.host: LOGIN})
    await push(store, name, identity)
    other = Store(tmp_path / "other")
    await pull(other, name, identity)
    assert other.read(name).data == store.read(name).data


async def test_a_login_that_comes_with_the_request_is_used_for_it(
    tmp_path: Path, store: Store, closed_registry: RealRegistry
) -> None:
    await push(store, model(store, closed_registry.host), known(tmp_path), Wish(insecure=True, credential=LOGIN))


@pytest.mark.parametrize("login", [None, replace(LOGIN, password="wrong")], ids=["none", "wrong"])
async def test_without_the_right_login_the_error_says_what_to_do(
    tmp_path: Path, store: Store, closed_registry: RealRegistry, login: Credential | None
) -> None:
    host = closed_registry.host
    identity = known(tmp_path, **({host: login} if login else {}))
    with pytest.raises(RegistryError, match=f"^pull model manifest: unauthorized: .*corral login {host}$"):
        await pull(store, ModelName.parse(f"{host}/me/mine"), identity)
    with pytest.raises(RegistryError, match=f"^unauthorized: .*corral login {host}$"):
        await push(store, model(store, host), identity)


async def test_a_token_server_of_its_own_host_gets_the_login_and_of_another_host_does_not(
    tmp_path: Path, store: Store, tokens: TokenServer
) -> None:
    with running_registry(tmp_path, auth=tokens.settings) as registry:
        name = model(store, registry.host)
        identity = known(tmp_path, **{registry.host: LOGIN})
        with pytest.raises(RegistryError, match=f"corral login 127.0.0.1:{tokens.port}"):
            await push(store, name, identity)  # another port is another host
        assert set(tokens.asked) == {""}
        identity = known(tmp_path, **{f"127.0.0.1:{tokens.port}": LOGIN})
        await push(store, name, identity)
        assert tokens.asked[-1] == LOGIN.basic
        other = Store(tmp_path / "other")
        await pull(other, name, identity)
        assert other.read(name).data == store.read(name).data


async def test_a_token_for_anybody_needs_no_login(tmp_path: Path, store: Store, tokens: TokenServer) -> None:
    tokens.header = ""
    with running_registry(tmp_path, auth=tokens.settings) as registry:
        await push(store, model(store, registry.host), known(tmp_path))
    assert not (tmp_path / "id_ed25519").exists()


async def test_a_token_that_lasts_is_exchanged(tmp_path: Path, store: Store, tokens: TokenServer) -> None:
    with running_registry(tmp_path, auth=tokens.settings) as registry:
        lasting = {f"127.0.0.1:{tokens.port}": Credential(identity_token="refresh")}
        await push(store, model(store, registry.host), known(tmp_path, **lasting))
    assert {(form["grant_type"], form["refresh_token"]) for form in tokens.forms} == {("refresh_token", "refresh")}
    assert tokens.asked == []


async def test_a_registry_that_knows_keys_gets_a_signature_it_can_check(tmp_path: Path, store: Store) -> None:
    """The registry and its token server are one host here, as Ollama's are; another implementation checks the signature."""
    registry = FakeRegistry()
    registry.faults = Faults(token="secret", signed=True)
    registry.add("me/mine:latest", b"weights")
    with registry.running():
        identity = known(tmp_path)
        await pull(store, ModelName.parse(f"{registry.host}/me/mine"), identity)
        private = load_ssh_private_key((tmp_path / "id_ed25519").read_bytes(), None)
        checker = TokenServer(tmp_path / "bundle.pem", key=private.public_key())  # type: ignore[arg-type]
        (header,) = {sent for _, sent in registry.authorizations if ":" in sent}
        (path,) = {path for _, path in registry.requests if "nonce=" in path}
        assert checker.welcomes(header, f"http://{registry.host}{path}")
    assert stat.S_IMODE((tmp_path / "id_ed25519").stat().st_mode) == 0o600
    assert (tmp_path / "id_ed25519.pub").read_text().split()[:2] == identity.key.public().split()  # type: ignore[union-attr]


async def test_a_token_that_runs_out_is_renewed(tmp_path: Path, store: Store) -> None:
    registry = FakeRegistry()
    registry.faults = Faults(token="secret", token_uses=2)
    registry.add("me/mine:latest", bytes(3 << 20), b"a", b"b", b"c")
    with registry.running():
        await pull(store, ModelName.parse(f"{registry.host}/me/mine"), known(tmp_path))


async def test_no_credential_follows_a_redirect(tmp_path: Path, store: Store) -> None:
    registry = FakeRegistry()
    registry.faults = Faults(redirect=True, token="secret")
    registry.add("me/mine:latest", b"weights")
    with registry.running():
        await pull(store, ModelName.parse(f"{registry.host}/me/mine"), known(tmp_path, **{registry.host: LOGIN}))
    sent = {(host.partition(":")[0], header) for host, header in registry.authorizations}
    assert ("127.0.0.1", "Bearer secret") in sent
    assert [header for host, header in sent if host == "localhost"] == [""]


def docker_config(folder: Path, document: object) -> Credentials:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(document))
    return Credentials(None, {"DOCKER_CONFIG": str(folder)})


def test_dockers_file_is_read(tmp_path: Path) -> None:
    auth = base64.b64encode(b"me:with:colon").decode()
    credentials = docker_config(
        tmp_path,
        {
            "auths": {
                "quay.io": {"auth": auth},
                "https://index.docker.io/v1/": {"auth": auth},
                "https://old.example/v2/": {"username": "me", "password": "pw"},
                "acr.example": {"auth": auth, "identitytoken": "refresh"},
                "broken.example": {"auth": "%%%"},
            }
        },
    )
    assert credentials.find("quay.io") == Credential("me", "with:colon")
    assert credentials.find("docker.io") == Credential("me", "with:colon")
    assert credentials.find("OLD.example:443") == Credential("me", "pw")
    assert credentials.find("acr.example") == Credential(identity_token="refresh")
    assert credentials.find("broken.example") is None
    assert credentials.find("other.example") is None


def test_dockers_helpers_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = tmp_path / "docker-credential-test"
    helper.write_text(
        '#!/bin/sh\nread host\n[ "$host" = quay.io ] || exit 1\necho \'{"Username":"me","Secret":"pw"}\'\n'
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    credentials = docker_config(tmp_path, {"credsStore": "test", "credHelpers": {"missing.example": "nosuch"}})
    assert credentials.find("quay.io") == Credential("me", "pw")
    assert credentials.find("other.example") is None
    assert credentials.find("missing.example") is None


def test_the_token_of_hugging_face_goes_to_hugging_face_alone() -> None:
    credentials = Credentials(None, {"HF_TOKEN": "hf_secret", "HOME": "/nonexistent"})
    assert credentials.find("hf.co") == credentials.find("huggingface.co") == Credential(token="hf_secret")
    assert credentials.find("registry.ollama.ai") is None
    assert "hf_secret" not in repr(credentials.find("hf.co"))


def test_no_token_is_sent_unasked_in_the_clear() -> None:
    credentials = Credentials(None, {"HF_TOKEN": "hf_secret", "HOME": "/nonexistent"})
    transport = Transport(offline=True)
    headers = [
        Authorization(transport.request, f"{scheme}://hf.co", credentials).header for scheme in ("https", "http")
    ]
    assert headers == ["Bearer hf_secret", ""]


def test_a_damaged_file_of_logins_is_named(tmp_path: Path) -> None:
    (tmp_path / "credentials.json").write_text("{")
    with pytest.raises(ConfigError, match=r"credentials\.json"):
        Credentials(tmp_path / "credentials.json", {}).find("quay.io")


def test_login_tries_and_keeps_and_logout_forgets(serve: StartServer, closed_registry: RealRegistry) -> None:
    server = serve(CORRAL_OFFLINE="0")
    host = closed_registry.host

    def corral(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "corral", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=server.environment, input=stdin)

    login = ("login", host, "--insecure", "-u", USER, "--password-stdin")
    wrong = corral(*login, stdin="wrong\n")
    assert (wrong.returncode, "unauthorized" in wrong.stderr) == (1, True)
    assert corral("login", host, stdin="x").returncode == 2
    done = corral(*login, stdin=PASSWORD + "\n")
    assert (done.returncode, done.stdout) == (0, f"kept the login for {host}\n"), done.stderr
    kept = server.data / "credentials.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    server.client.show("tiny")
    server.client.copy("tiny", f"{host}/me/tiny")
    assert list(server.client.push(f"{host}/me/tiny", insecure=True))[-1] == {"status": "success"}
    assert corral("logout", host).stdout == f"forgot the login for {host}\n"
    assert corral("logout", host).stdout == f"there is no login for {host}\n"
    failed = corral("push", "--insecure", f"{host}/me/tiny")
    assert (failed.returncode, f"corral login {host}" in failed.stderr) == (1, True)
    assert PASSWORD not in server.log()


def test_login_without_a_host_shows_the_key(serve: StartServer) -> None:
    server = serve()
    done = subprocess.run(
        [sys.executable, "-m", "corral", "login"], capture_output=True, text=True, env=server.environment
    )
    assert done.stdout.startswith("ssh-ed25519 AAAA")
    checked = subprocess.run(
        ["ssh-keygen", "-y", "-f", Path(server.environment["HOME"]) / ".ollama/id_ed25519"],
        capture_output=True,
        text=True,
    )
    assert checked.stdout.split()[:2] == done.stdout.split()[:2]


@pytest.mark.parametrize(("kept", "asked"), [("docker.io", "registry-1.docker.io"), ("hf.co", "huggingface.co")])
def test_a_login_is_good_for_all_names_of_a_registry(tmp_path: Path, kept: str, asked: str) -> None:
    credentials = Credentials(tmp_path / "credentials.json", {"HOME": str(tmp_path)})
    credentials.keep(kept, LOGIN)
    assert credentials.find(asked) == LOGIN
    assert credentials.forget(asked)
    assert credentials.find(kept) is None


async def test_a_login_for_an_address_says_that_a_host_is_wanted(store: Store) -> None:
    async with Transfers(store) as transfers:
        with pytest.raises(InvalidRequest, match=r'^"https://ghcr.io" is not the host of a registry; expected HOST'):
            await transfers.check_login("https://ghcr.io", Wish(credential=LOGIN))
