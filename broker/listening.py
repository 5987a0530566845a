"""Where a broker listens, and where others reach it: as its options say, and as the machine's interfaces are now.

The process that serves writes it beside the list of members, so that the commands, which are processes of their own,
make invites to the broker that there is:

    serving.json    {"host": "*", "client_port": 5570, "worker_port": 5571, "announced": true, "address": null,
                     "lane_port": 5572}
"""

from __future__ import annotations

import json
import logging
import socket
from pathlib import Path
from typing import Annotated, Optional

import msgspec

from broker.members import Address
from common.discovery.addresses import (
    interfaces,
    is_loopback,
    is_wildcard,
    own_addresses,
    parse_host,
    reachable,
    unmapped,
)
from common.discovery.announcement import host_of
from common.errors import IntegrityError, UsageError
from common.files import read_limited, write_private
from common.protocol.messages import HostName, Port

log = logging.getLogger(__name__)

CLIENT_PORT, WORKER_PORT, LANE_PORT = 5570, 5571, 5572  # unless chosen otherwise
ALL = "*"  # IPv4 and IPv6, as far as the machine has them
_MAX_FILE = 1 << 16


class Listening(msgspec.Struct, frozen=True):
    """`host`: an address, a host name, an interface's name, or `*`. `address`: where others reach it, if said."""

    host: HostName
    client_port: Port
    worker_port: Port
    announced: bool = False  # whether the LAN is told
    address: Optional[Annotated[str, msgspec.Meta(min_length=1, max_length=255)]] = None
    lane_port: Optional[Annotated[int, msgspec.Meta(ge=0, le=65535)]] = None  # 0: any; None: all stays with CURVE

    def bound(self) -> list[str]:
        """The addresses to listen at; UsageError where the host is no name and no interface that is known now."""
        return [ALL] if self.host in (ALL, "::") else _addresses_of(self.host)

    def reached_at(self) -> list[str]:
        """The hosts at which others most likely reach it now, the likeliest first; none while there is no network."""
        if self.address is not None:
            return [self.address]
        if is_wildcard(self.host):
            return own_addresses()
        found = [interface for interface in interfaces() if self.host in interface.names]
        return reachable(found) or _addresses_of(self.host) if found else [self.host]

    def announced_at(self) -> list[str]:
        """The addresses at which it may be announced now, of which none is this machine's alone."""
        try:
            found = own_addresses() if is_wildcard(self.host) else _addresses_of(self.host)
        except UsageError:
            return []
        return [address for address in found if not is_loopback(address) and "%" not in address]

    def entry(self, public_key: bytes, known: Optional[Address] = None) -> Address:
        """What the list of members says of where it is: as before, if others still reach it there.

        While there is no network, the name under which its announcement can be looked up.
        """
        hosts = self.reached_at() or [host_of(public_key)]
        host = known.host if known is not None and known.host in hosts else hosts[0]
        return Address(host, self.client_port, self.worker_port)


def _addresses_of(host: str) -> list[str]:
    """The addresses of an interface or of a host name; an address itself."""
    found = [address for each in interfaces() if host in each.names for address in each.addresses]
    if found:
        return found
    try:
        resolved = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise UsageError(
            f"{host!r} is no address, no interface of this machine and no name that it knows",
            advice="choose another --host, or leave it out to listen at all addresses",
        ) from None
    if ":" in host:
        return [host]  # with its scope, if it has one
    return list(dict.fromkeys(unmapped(str(each[4][0])) for each in resolved))


def parse_listening_host(text: str) -> str:
    """What --host may be: an interface's name, or as `parse_host`; `*` for all addresses."""
    host = text.strip()
    if host == ALL or any(host in interface.names for interface in interfaces()):
        return host
    return parse_host(host)


def save(folder: Path, listening: Listening) -> None:
    """Tell the commands how the broker of this folder is served now."""
    write_private(folder / "serving.json", json.dumps(msgspec.to_builtins(listening), indent=1).encode())


def load(folder: Path) -> Optional[Listening]:
    """How the broker of this folder is served, or was last; None where that is not known."""
    try:
        return msgspec.json.decode(read_limited(folder / "serving.json", _MAX_FILE), type=Listening)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, IntegrityError) as error:
        log.warning("%s is damaged and counts for nothing: %s", folder / "serving.json", error)
        return None
