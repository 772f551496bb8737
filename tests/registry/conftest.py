"""Real servers on free ports: the CNCF's distribution as a registry, nginx as the storage that it may send clients to."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from corral.store import Store
from corral.store.manifest import MANIFEST_TYPE, Manifest


@dataclass
class RealRegistry:
    """Docker's registry, listening at ``host``."""

    host: str

    def request(self, method: str, path: str, body: bytes = b"", content_type: str = "") -> tuple[int, dict[str, str]]:
        connection = http.client.HTTPConnection(self.host)
        connection.request(method, path, body, {"Content-Type": content_type or "application/octet-stream"})
        response = connection.getresponse()
        response.read()
        connection.close()
        return response.status, dict(response.getheaders())

    def push(self, store: Store, manifest: Manifest, repository: str, tag: str = "latest") -> bytes:
        """Put a model of ``store`` into the registry; the manifest's bytes."""
        for layer in manifest.blobs:
            _, headers = self.request("POST", f"/v2/{repository}/blobs/uploads/")
            where = urlsplit(headers["Location"])
            path = f"{where.path}?{where.query}&digest={layer.digest}"
            status, _ = self.request("PUT", path, store.read_blob(layer.digest))
            assert status == 201
        data = manifest.serialise().rstrip()
        status, headers = self.request("PUT", f"/v2/{repository}/manifests/{tag}", data, MANIFEST_TYPE)
        assert status == 201
        assert headers["Docker-Content-Digest"] == "sha256:" + hashlib.sha256(data).hexdigest()
        return data


@contextmanager
def running_registry(folder: Path, **settings: dict[str, object]) -> Iterator[RealRegistry]:
    """An open registry, unless ``settings`` (sections of its configuration) say otherwise.

    Without the program the test is skipped, except where everything must be tested.
    """
    program = shutil.which("docker-registry")
    if program is None:
        if os.environ.get("CORRAL_TEST_EVERYTHING"):
            pytest.fail("docker-registry is not installed; make test installs it for the super-user")
        pytest.skip("docker-registry is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    document = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}, "delete": {"enabled": True}},
        **settings,
        "http": {"addr": f"127.0.0.1:{port}", **settings.get("http", {})},
    }
    config = folder / "registry.yml"
    config.write_text(json.dumps(document))
    with subprocess.Popen([program, "serve", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                assert process.poll() is None, "the registry ended"
                assert time.monotonic() < deadline, "the registry does not answer"
                time.sleep(0.02)
        try:
            yield RealRegistry(f"127.0.0.1:{port}")
        finally:
            process.terminate()


@pytest.fixture
def real_registry(tmp_path: Path) -> Iterator[RealRegistry]:
    """An open one."""
    with running_registry(tmp_path) as registry:
        yield registry


@dataclass
class Storage:
    """nginx at ``host``, which serves ranges of the files in ``folder``."""

    host: str
    folder: Path


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    """A folder that is served. Without nginx the test is skipped, except where everything must be tested."""
    program = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if program is None:
        if os.environ.get("CORRAL_TEST_EVERYTHING"):
            pytest.fail("nginx is not installed; make test installs it for the super-user")
        pytest.skip("nginx is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    home, folder = tmp_path / "nginx", tmp_path / "nginx" / "www"
    folder.mkdir(parents=True)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    (home / "nginx.conf").write_text(
        f"{'user root;' if os.geteuid() == 0 else ''} daemon off; master_process off; pid {home}/pid;"
        f"error_log {home}/error.log; events {{}} http {{ access_log off;"
        + "".join(f"{kind}_temp_path {home}/{kind};" for kind in kinds)
        + f"server {{ listen {host}; root {folder}; }} }}"
    )
    command = [program, "-e", home / "error.log", "-p", home, "-c", home / "nginx.conf"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", int(host.partition(":")[2]))).close()
                break
            except OSError:
                assert process.poll() is None, (home / "error.log").read_text()
                assert time.monotonic() < deadline, "nginx does not answer"
                time.sleep(0.02)
        yield Storage(host, folder)
        process.terminate()
