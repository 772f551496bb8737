"""Who may ask: the checks of Host and Origin that keep web pages of strangers away from a server on loopback.

A page in a browser can send requests to 127.0.0.1, directly or through a name that resolves there (DNS rebinding). So a
request with a foreign ``Origin``, or a ``Host`` that is not this machine, gets a bare 403. The rules and the lists are Ollama's.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

_LOCAL_HOSTS = ("localhost", "127.0.0.1", "0.0.0.0")  # noqa: S104
_APP_ORIGINS = ("app://*", "file://*", "tauri://*", "vscode-webview://*", "vscode-file://*")
# Of the ranges that Python calls private, those that people have at home.
_PRIVATE = tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")))
_LOCAL_SUFFIXES = (".localhost", ".local", ".internal")

ALLOW_METHODS = "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"
ALLOW_HEADERS = (
    "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta,X-Stainless-Arch,X-Stainless-Async,"
    "X-Stainless-Custom-Poll-Interval,X-Stainless-Helper-Method,X-Stainless-Lang,X-Stainless-Os,"
    "X-Stainless-Package-Version,X-Stainless-Poll-Helper,X-Stainless-Retry-Count,X-Stainless-Runtime,"
    "X-Stainless-Runtime-Version,X-Stainless-Timeout"
)
PREFLIGHT_MAX_AGE_S = "43200"


@dataclass(frozen=True, slots=True)
class Guard:
    """The checks for one server. ``loopback`` is whether it listens on loopback only, where Host matters."""

    origins: tuple[re.Pattern[str], ...]
    any_origin: bool
    loopback: bool

    @classmethod
    def for_server(cls, host: str, origins: Sequence[str]) -> Guard:
        """The checks for a server that listens on ``host`` and whose owner allows ``origins`` besides the local ones."""
        local = [
            f"{scheme}://{name}{port}" for scheme in ("http", "https") for name in _LOCAL_HOSTS for port in ("", ":*")
        ]
        patterns = [
            re.compile(".*".join(map(re.escape, o.split("*")))) for o in (*origins, *local, *_APP_ORIGINS) if o != "*"
        ]
        return cls(tuple(patterns), "*" in origins, is_loopback(host))

    def allows_origin(self, origin: str, host: str) -> bool:
        """Whether a page of ``origin`` may ask the server reached as ``host``."""
        return (
            self.any_origin
            or origin in (f"http://{host}", f"https://{host}")
            or any(pattern.fullmatch(origin) for pattern in self.origins)
        )

    def allows_host(self, host: str) -> bool:
        """Whether a request for ``host`` (the header's value) is meant for this machine."""
        if not self.loopback:
            return True
        address = _address(host)
        if address is None:
            return _is_local(host)
        known = address.is_loopback or address.is_unspecified or any(address in network for network in _PRIVATE)
        return known or str(address) in _own_addresses()

    def answers_options(self, host: str) -> bool:
        """Whether ``OPTIONS`` without an origin is answered before any route is looked for: this machine, by its name."""
        return self.loopback and _address(host) is None and _is_local(host)


def is_loopback(host: str) -> bool:
    """Whether a server that listens on ``host`` can be reached from this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(_without_port(host).strip("[]"))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_local(host: str) -> bool:
    name = _without_port(host).lower()
    return name in ("", "localhost", socket.gethostname().lower()) or name.endswith(_LOCAL_SUFFIXES)


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0] if host.count(":") == 1 else host


def _own_addresses() -> set[str]:
    return {entry.address.partition("%")[0] for entries in psutil.net_if_addrs().values() for entry in entries}
