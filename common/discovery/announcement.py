"""What a broker announces on the LAN, and how announcements are parsed, within bounds. Pure.

    instance   tessera-<first 16 hexadecimal digits of the broker's public key>
    type       _tessera._tcp.local.
    SRV        tessera-<the same>.local., the port for clients
    TXT        v=1  c=<port for clients>  w=<port for workers>  k=<public key, 64 hexadecimal digits>

It names no machine, member or person. Instance and host name follow from the key: they reveal nothing more, and a
search for a known key resolves no others.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from common.discovery.addresses import BrokerAddress
from common.errors import ProtocolError
from common.protocol.identifiers import CURVE_KEY_SIZE

SERVICE = "_tessera._tcp.local."
MAX_ADDRESSES = 4  # of one announcement; the rest is ignored
AT_A_TIME = 32  # announcements resolved at a time
MAX_NAMES = 1000  # announcements resolved in one search
MAX_FOUND = 64  # addresses that one search gives
_VERSION = b"1"
_NAMED = 16  # hexadecimal digits of the public key
_PORT = re.compile(rb"[1-9][0-9]{0,4}")
_KEY = re.compile(rb"[0-9a-f]{%d}" % (2 * CURVE_KEY_SIZE))
_MAX_PROPERTIES = 16


@dataclass(frozen=True)
class Announcement:
    """The ports at which the broker with this public key (32 bytes) listens."""

    client_port: int
    worker_port: int
    public_key: bytes

    @property
    def instance(self) -> str:
        return instance_of(self.public_key)

    @property
    def host(self) -> str:
        return f"{host_of(self.public_key)}."

    def properties(self) -> dict[str, str]:
        """The TXT record."""
        return {"v": "1", "c": str(self.client_port), "w": str(self.worker_port), "k": self.public_key.hex()}


def instance_of(public_key: bytes) -> str:
    """The name under which the broker with this public key announces itself."""
    return f"tessera-{public_key.hex()[:_NAMED]}.{SERVICE}"


def host_of(public_key: bytes) -> str:
    """The name by which a machine that resolves names of mDNS finds the broker with this public key."""
    return f"tessera-{public_key.hex()[:_NAMED]}.local"


def read_announcement(
    instance: str, properties: Mapping[bytes, Optional[bytes]], addresses: Sequence[str]
) -> list[BrokerAddress]:
    """The broker that is announced, once for each address at which it may be reached, at most four.

    ProtocolError where it is malformed, or of another version.
    """
    if len(properties) > _MAX_PROPERTIES:
        raise ProtocolError(f"an announcement of {len(properties)} properties")
    if properties.get(b"v") != _VERSION:
        raise ProtocolError("an announcement of another version")
    client_port, worker_port = _port(properties.get(b"c")), _port(properties.get(b"w"))
    key = properties.get(b"k")
    if key is None or _KEY.fullmatch(key) is None:
        raise ProtocolError("an announcement without a public key")
    public_key = bytes.fromhex(key.decode("ascii"))
    if instance.lower() != instance_of(public_key):
        raise ProtocolError("an announcement under a name that is not its key's")
    hosts = list(dict.fromkeys(host for host in addresses[: 4 * MAX_ADDRESSES] if _is_reachable(host)))
    if not hosts:
        raise ProtocolError("an announcement without an address")
    return [BrokerAddress(host, client_port, worker_port, public_key) for host in hosts[:MAX_ADDRESSES]]


def _port(text: Optional[bytes]) -> int:
    if text is None or _PORT.fullmatch(text) is None or int(text) > 65535:
        raise ProtocolError("an announcement without its two ports")
    return int(text)


def _is_reachable(text: str) -> bool:
    """Whether it is an address at which others reach one machine: no name, no multicast, none that needs a scope."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    zoned = "%" in text or (address.version == 6 and address.is_link_local)
    nowhere = address.is_unspecified or address.is_reserved or address.is_multicast or address.is_loopback
    return not (zoned or nowhere)


class Candidates:
    """Which announcements are resolved: a bounded number, however many there are."""

    def __init__(self, keys: Optional[Collection[bytes]] = None) -> None:
        """`keys`: the public keys of the brokers that are wanted; None for any broker's."""
        self._keys = None if keys is None else frozenset(keys)
        self._instances = None if keys is None else frozenset(instance_of(key) for key in keys)
        self._looked_into: set[str] = set()
        self._under_way: set[str] = set()
        self._given: set[BrokerAddress] = set()

    def begin(self, instance: str) -> bool:
        """Whether to resolve an announcement that was seen."""
        name = instance.lower()
        if self._instances is not None and name not in self._instances:
            return False
        if name in self._under_way or len(self._under_way) >= AT_A_TIME:
            return False
        if name not in self._looked_into and len(self._looked_into) >= MAX_NAMES:
            return False
        self._looked_into.add(name)
        self._under_way.add(name)
        return True

    def end(self, instance: str, brokers: Collection[BrokerAddress] = ()) -> list[BrokerAddress]:
        """It was resolved to these; returns those that are new."""
        self._under_way.discard(instance.lower())
        new: list[BrokerAddress] = []
        for broker in brokers:
            wanted = self._keys is None or broker.public_key in self._keys
            if wanted and broker not in self._given and len(self._given) < MAX_FOUND:
                self._given.add(broker)
                new.append(broker)
        return new
