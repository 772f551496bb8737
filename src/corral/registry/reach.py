"""Which addresses a connection may go to. Pure.

Who sends a model's name sends the server to an address. A user of this machine may name any; somebody elsewhere must not be able
to ask what only this machine can reach: its own services, its network, and the addresses where clouds tell machines their secrets.
"""

from __future__ import annotations

import errno
import ipaddress
from enum import Enum
from urllib.parse import urlsplit

from corral.errors import RegistryError

_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: an IPv4 address in the last 32 bits
_COMPATIBLE = ipaddress.ip_network("::/96")  # RFC 4291: so too, of old
# Where clouds tell machines their secrets: AWS by IPv6, Alibaba, Azure.
_METADATA = {ipaddress.ip_address(address) for address in ("fd00:ec2::254", "100.100.100.200", "168.63.129.16")}

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


class Reach(Enum):
    """How far a connection may go."""

    EVERYWHERE = "everywhere"
    NETWORKS = "networks"  # private networks and this machine too, but nothing link-local
    INTERNET = "internet"  # addresses of the public internet alone


class OutOfReach(OSError):
    """The address may not be connected to. Its number stays when a client tries several addresses and sums up why none will do."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.EACCES, why)


def check(address: str, reach: Reach) -> None:
    """Raise `OutOfReach` if ``address``, an IP address as text, lies beyond ``reach``."""
    if reach is Reach.EVERYWHERE:
        return
    ip = _innermost(ipaddress.ip_address(address.partition("%")[0]))
    if ip.is_link_local or ip.is_multicast or (ip.version == 6 and ip.is_site_local) or ip in _METADATA:
        raise OutOfReach(
            f"{address} is a link-local address or one of a cloud's own services, which is not connected to for other machines"
        )
    if reach is Reach.INTERNET and not ip.is_global:
        raise OutOfReach(
            f"{address} is an address of a private network, which is not connected to for other machines; "
            "the owner of the server can allow it: CORRAL_PRIVATE_REGISTRIES=1 for models, CORRAL_FETCH_IMAGES=networks for images"
        )


def check_literal(url: str, reach: Reach) -> None:
    """As `check`, for the host of ``url`` if it is an address already. Raises `RegistryError`."""
    host = urlsplit(url).hostname or ""
    try:
        check(host, reach)
    except OutOfReach as exc:
        raise RegistryError(f"{host} is out of reach: {exc.strerror}") from exc
    except ValueError:
        if reach is Reach.INTERNET and (host == "localhost" or host.endswith(".localhost")):
            raise RegistryError(f"{host} is this machine itself, which is not connected to for others") from None


def _innermost(ip: Ip) -> Ip:
    """The IPv4 address inside an IPv6 one that stands for it."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    inside = ip.ipv4_mapped or ip.sixtofour
    if inside is None and (ip in _NAT64 or (ip in _COMPATIBLE and int(ip) > 1)):
        inside = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return inside or ip
