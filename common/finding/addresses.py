"""Whether others reach an address, and which is this machine's own."""

from __future__ import annotations

import ipaddress
import socket
from typing import Optional


def is_loopback(host: str) -> bool:
    """Whether a host is this machine and no other reaches it so; a name that has to be looked up is not."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_wildcard(host: str) -> bool:
    """Whether it stands for all of a machine's addresses, where one is listened at."""
    return host in ("0.0.0.0", "::", "*")  # noqa: S104 - compared, not bound


def own_address() -> Optional[str]:
    """The IPv4 address that others on the LAN most likely reach this machine at; None where it has no way out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # RFC 5737: sends nothing, only chooses the way out
        except OSError:
            return None
        return str(probe.getsockname()[0])
