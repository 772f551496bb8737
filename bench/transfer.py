"""What pulling costs over what it must do: one large blob by Corral, by ``curl``, and its hash by ``sha256sum``, in turns.

    python bench/transfer.py            a blob of 2 GB from nginx on loopback, three rounds
    python bench/transfer.py --quick    256 MB, one round
    python bench/transfer.py --json     the last line is one JSON object of all figures

Needs nginx and curl. The registry is nginx too: a manifest and a blob are files to it. Corral pulls in a process of its own, whose
memory is watched; the mark is the larger of the two others, as a pull has to do both.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path

from corral.names import ModelName
from corral.registry import Transfers, Wish
from corral.store import Store
from corral.store.manifest import CONFIG_TYPE, MANIFEST_TYPE, MediaType

BLOCK = 1 << 20
NAME = "bench/large"


def make_registry(folder: Path, size: int) -> str:
    """A registry's files below ``folder``; the digest of its one large blob."""
    blobs = folder / "v2" / NAME / "blobs"
    blobs.mkdir(parents=True)
    manifests = folder / "v2" / NAME / "manifests"
    manifests.mkdir()
    block, hasher, raw = os.urandom(BLOCK), hashlib.sha256(), blobs / "raw"
    with raw.open("wb") as file:
        for number in range(size // BLOCK):
            data = number.to_bytes(8, "little") + block[8:]
            hasher.update(data)
            file.write(data)
    digest = f"sha256:{hasher.hexdigest()}"
    raw.rename(blobs / digest)
    config = b"{}"
    config_digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
    (blobs / config_digest).write_bytes(config)
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": CONFIG_TYPE, "digest": config_digest, "size": len(config)},
        "layers": [{"mediaType": MediaType.MODEL, "digest": digest, "size": size // BLOCK * BLOCK}],
    }
    (manifests / "latest").write_text(json.dumps(document))
    return digest


@contextmanager
def nginx(folder: Path) -> Iterator[str]:
    """nginx that serves ``folder``; its host."""
    program = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if program is None:
        sys.exit("this bench needs nginx; on Debian: apt-get install nginx-light")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    user = "user root;" if os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(
        f"{user} daemon off; worker_processes 2; pid {folder}/nginx.pid; error_log {folder}/error.log;"
        f"events {{}} http {{ access_log off; sendfile on; default_type application/octet-stream;"
        f"client_body_temp_path {folder}/tmp; proxy_temp_path {folder}/tmp; fastcgi_temp_path {folder}/tmp;"
        f"uwsgi_temp_path {folder}/tmp; scgi_temp_path {folder}/tmp;"
        f"server {{ listen {host}; root {folder}; }} }}"
    )
    process = subprocess.Popen([program, "-c", config, "-p", folder], stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", int(host.partition(":")[2]))).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "error.log").read_text()
                time.sleep(0.02)
        yield host
    finally:
        process.terminate()
        process.wait()


async def pull(root: Path, name: str) -> None:
    """Pull and print seconds and the most memory it took, in MB."""
    began = time.perf_counter()
    async with (
        Transfers(Store(root)) as transfers,
        aclosing(transfers.pull(ModelName.parse(name), Wish(insecure=True))) as steps,
    ):
        async for _ in steps:
            pass
    seconds = time.perf_counter() - began
    print(json.dumps({"s": seconds, "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000}))


def timed(*command: str | Path) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller blob, one round")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument("--pull", nargs=2, metavar=("STORE", "NAME"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.pull:
        asyncio.run(pull(Path(arguments.pull[0]), arguments.pull[1]))
        return
    size, rounds = ((256 << 20), 1) if arguments.quick else ((2000 << 20), 3)
    with tempfile.TemporaryDirectory(prefix="corral-bench-") as temporary:
        folder = Path(temporary)
        digest = make_registry(folder / "www", size)
        taken: dict[str, list[float]] = {"curl": [], "sha256sum": [], "corral": []}
        memory, target = 0.0, folder / "curl"
        with nginx(folder / "www") as host:
            for _ in range(rounds):
                url = f"http://{host}/v2/{NAME}/blobs/{digest}"
                taken["curl"].append(timed("curl", "--silent", "--fail", "--output", target, url))
                taken["sha256sum"].append(timed("sha256sum", target))
                target.unlink()
                root = folder / "store"
                command = [sys.executable, __file__, "--pull", str(root), f"{host}/{NAME}"]
                said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                taken["corral"].append(said["s"])
                memory = max(memory, said["mb"])
                shutil.rmtree(root)
    medians = {name: statistics.median(seconds) for name, seconds in taken.items()}
    ratios = [c / max(a, b) for a, b, c in zip(taken["curl"], taken["sha256sum"], taken["corral"], strict=True)]
    ratio = statistics.median(ratios)
    print(f"| a blob of {size / 1e9:.2f} GB | s | MB/s |\n| --- | --- | --- |")
    for name, seconds in medians.items():
        print(f"| {name} | {seconds:.2f} | {size / 1e6 / seconds:,.0f} |")
    print(f"\nCorral takes {ratio:.2f} times the larger of the two others, and {memory:.0f} MB of memory at most")
    if arguments.json:
        print(json.dumps({"bytes": size, "seconds": taken, "median_s": medians, "ratio": ratio, "memory_mb": memory}))


if __name__ == "__main__":
    main()
