"""A token server as Docker's registry wants one: signed tokens for whom it knows. Source: distribution's token specification."""

from __future__ import annotations

import base64
import datetime
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils
from cryptography.x509.oid import NameOID

ISSUER, SERVICE = "tokens of the test", "registry of the test"


@dataclass
class TokenServer:
    """Gives a token to ``header``, and to nobody else unless it is empty; ``asked`` are all ``Authorization`` headers."""

    bundle: Path  # the certificate that the registry trusts
    header: str = ""
    key: ed25519.Ed25519PublicKey | None = None  # instead of a header: whose signature it wants
    asked: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    forms: list[dict[str, str]] = field(default_factory=list)
    port: int = 0

    def __post_init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tokens")])
        now = datetime.datetime.now(datetime.UTC)
        self._certificate = (
            x509.CertificateBuilder(name, name, self._key.public_key(), x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.bundle.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    @property
    def settings(self) -> dict[str, object]:
        """The section of the registry's configuration."""
        realm = f"http://127.0.0.1:{self.port}/token"
        return {
            "token": {"realm": realm, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": str(self.bundle)},
        }

    def welcomes(self, header: str, url: str) -> bool:
        if self.key is None:
            return header == self.header
        public, _, signature = header.partition(":")
        if not signature or base64.b64decode(public)[-32:] != self.key.public_bytes_raw():
            return False
        nothing = "ZTNiMGM0NDI5OGZjMWMxNDlhZmJmNGM4OTk2ZmI5MjQyN2FlNDFlNDY0OWI5MzRjYTQ5NTk5MWI3ODUyYjg1NQ=="
        self.key.verify(base64.b64decode(signature), f"GET,{url},{nothing}".encode())
        return True

    def token(self, scopes: list[str]) -> str:
        access = [
            {"type": kind, "name": name, "actions": actions.split(",")}
            for kind, name, actions in (scope.split(":") for scope in scopes)
        ]
        der = self._certificate.public_bytes(serialization.Encoding.DER)
        header = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(der).decode()]}
        now = int(time.time())
        claims = {"iss": ISSUER, "sub": "me", "aud": SERVICE, "nbf": now - 60, "exp": now + 600, "iat": now, "jti": "1"}
        signed = f"{_part(header)}.{_part({**claims, 'access': access})}"
        r, s = utils.decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_url64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    @contextmanager
    def running(self) -> Iterator[TokenServer]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                header, query = self.headers.get("Authorization", ""), parse_qs(urlsplit(self.path).query)
                server.asked.append(header)
                server.paths.append(self.path)
                ok = server.welcomes(header, f"http://{self.headers['Host']}{self.path}")
                body = {"token": server.token(query.get("scope", []))} if ok else {"details": "no such user"}
                data = json.dumps(body).encode()
                self.send_response(200 if ok else 401)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                server.forms.append({name: values[0] for name, values in form.items()})
                token = server.token(form.get("scope", [""])[0].split())
                data = json.dumps({"access_token": token}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = httpd.server_port
        thread = threading.Thread(target=httpd.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield self
        finally:
            httpd.shutdown()
            thread.join()
            httpd.server_close()


def _url64(data: bytes) -> str:
    return re.sub("=+$", "", base64.urlsafe_b64encode(data).decode())


def _part(document: object) -> str:
    return _url64(json.dumps(document).encode())
