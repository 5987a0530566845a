"""Hosts as people write them, and the addresses at which others reach this machine.

These are all interfaces' addresses, since a LAN need not have a gateway, and a machine may be on two. That of the
default route comes first among equals.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Optional, Union

import msgspec

from common.errors import UsageError
from common.protocol.messages import KnownBroker
from common.protocol.operations import Role

_MAX_NAME = 253  # characters of a host name (RFC 1035)
_NAME = re.compile(r"[^\s/:%\[\],;@\\\x00-\x1f\x7f]+")
_NUMBERS = re.compile(r"[0-9.]+")
_WITH_PORT = re.compile(r"(?:[^:]+|\[.*\]):[0-9]*")
_UNIQUE_LOCAL = ipaddress.ip_network("fc00::/7")  # RFC 4193
# Bridges to virtual machines and containers, and tunnels: hardly where the devices of a LAN are.
_VIRTUAL = re.compile(
    r"(?i)docker|br-[0-9a-f]{12}$|veth|virbr|vmnet|vboxnet|vethernet|vmware|virtualbox|hyper-v|wsl|cni|flannel|cali|podman"
    r"|lxc|lxd|incus|tun|tap|wg|tailscale|zt|ppp|utun"
)
_Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]


def parse_host(text: str) -> str:
    """A host name or an address as people write it, IPv6 with brackets or without, link-local with its `%` and scope.

    An address is given back in its usual spelling, without brackets; an IPv4 address mapped to IPv6 as what it is.
    UsageError where it is neither, or has a port behind it.
    """
    host = text.strip()
    bracketed = host.startswith("[") and host.endswith("]")
    address = _as_address(host[1:-1] if bracketed else host)
    if address is not None and (":" in host or not bracketed):
        return str(address)
    if _WITH_PORT.fullmatch(host):
        raise UsageError(
            f"{host!r} has a port behind it; only the host is wanted here",
            advice="ports are chosen with --client-port and --worker-port",
        )
    if len(host) > _MAX_NAME or not _NAME.fullmatch(host) or _NUMBERS.fullmatch(host):
        raise UsageError(
            f"{host!r} is neither a host name nor an address",
            advice="write it like broker.lan, 192.168.1.5, fd00::5, or fe80::5%eth0 with the interface's name",
        )
    return host


def endpoint(host: str, port: int) -> str:
    """The libzmq endpoint of a host, as `parse_host` gives it, and a port."""
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


class BrokerAddress(msgspec.Struct, frozen=True):
    """A broker's host name or address, its two ports, its CURVE public key (32 bytes)."""

    host: str
    client_port: int
    worker_port: int
    public_key: bytes

    def endpoint(self, role: Role) -> str:
        return endpoint(self.host, self.port(role))

    def port(self, role: Role) -> int:
        return self.worker_port if role is Role.WORKER else self.client_port


def as_address(broker: KnownBroker) -> BrokerAddress:
    """A broker as a message names it."""
    return BrokerAddress(broker.host, broker.client_port, broker.worker_port, broker.public_key)


def unmapped(address: str) -> str:
    """The IPv4 address that an IPv6 socket knows as `::ffff:192.0.2.1`; any other as it is."""
    found = _as_address(address)
    return address if found is None else str(found)


def is_loopback(host: str) -> bool:
    """Whether a host is a loopback address, or localhost; other names are not looked up."""
    if host.lower().rstrip(".") == "localhost":
        return True
    address = _as_address(host)
    return address is not None and address.is_loopback


def is_wildcard(host: str) -> bool:
    """Whether listening at this host means at all addresses of the machine."""
    return host in ("0.0.0.0", "::", "*")  # noqa: S104 - compared, not bound


class Interface(NamedTuple):
    """A network interface: its names, and its addresses, in the system's order, IPv6 link-local ones with scope."""

    names: Sequence[str]
    addresses: Sequence[str]
    connected: bool = True  # unless the system says that it is down


def interfaces() -> list[Interface]:
    """The network interfaces of this machine as they are now."""
    import ifaddr

    found = []
    for adapter in ifaddr.get_adapters():
        # Windows knows scopes by number only.
        scope = str(adapter.index) if sys.platform == "win32" else adapter.name
        addresses = [ip.ip if isinstance(ip.ip, str) else _scoped(ip.ip[0], scope) for ip in adapter.ips]
        names = list(dict.fromkeys([adapter.nice_name, adapter.name, *(ip.nice_name for ip in adapter.ips)]))
        found.append(Interface(names, addresses, _is_connected(adapter.name)))
    return found


def own_addresses() -> list[str]:
    """The addresses at which others on the LAN most likely reach this machine, the likeliest first."""
    return reachable(interfaces(), _default_source())


def reachable(found: Iterable[Interface], default_source: Optional[str] = None) -> list[str]:
    """Of these interfaces the addresses that others most likely reach, in that order; pure.

    Those of real interfaces that are connected; others only where there are none. Of each its IPv4 addresses, or else
    one of IPv6. Link-local ones only where there are no others. `default_source`, that of the default route, comes
    before its equals.
    """
    ranked: list[tuple[bool, int, bool, str]] = []
    for interface in found:
        unlikely = not interface.connected or any(_VIRTUAL.match(name) for name in interface.names)
        usable = [(kind, a) for a in interface.addresses if (kind := _kind(a)) is not None]
        best = min((kind for kind, _ in usable), default=0)
        of_best = [address for kind, address in usable if kind == best]
        ranked += [
            (unlikely, best, a != default_source, a) for a in (of_best if best in (_IPV4, _IPV4_LINK) else of_best[:1])
        ]
    ranked.sort(key=lambda each: each[:3])
    likely = [each for each in ranked if not each[0]] or ranked
    routable = [each for each in likely if each[1] < _IPV4_LINK]
    return [address for *_, address in routable or likely]


_IPV4, _IPV6_LOCAL, _IPV6, _IPV4_LINK, _IPV6_LINK = range(5)  # the likelier, the lower


def _kind(text: str) -> Optional[int]:
    """Which of the above an address is; None for one that no other machine reaches."""
    address = _as_address(text)
    if address is None or address.is_loopback or address.is_unspecified or address.is_multicast:
        return None
    if address.version == 4:
        return _IPV4_LINK if address.is_link_local else _IPV4
    if address.is_link_local:
        return _IPV6_LINK
    return _IPV6_LOCAL if address in _UNIQUE_LOCAL else _IPV6


def with_scopes(host: str, found: Iterable[Interface]) -> list[str]:
    """Where to try a host from a machine with these interfaces: itself, but for IPv6 link-local addresses.

    A scope holds on one machine only: an address whose scope is no interface here is tried at each that has IPv6.
    """
    address = _as_address(host)
    if not isinstance(address, ipaddress.IPv6Address) or not address.is_link_local:
        return [host]
    bare = str(address).partition("%")[0]
    own = [a for each in found for a in each.addresses if _kind(a) == _IPV6_LINK]
    scopes = list(dict.fromkeys(a.partition("%")[2] for a in own))
    if address.scope_id in scopes:
        return [host]
    return [f"{bare}%{scope}" for scope in scopes] or [host]


def _as_address(text: str) -> Optional[_Address]:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped


def _scoped(address: str, scope: str) -> str:
    return f"{address}%{scope}" if _kind(address) == _IPV6_LINK else address


def _is_connected(name: str) -> bool:
    """Whether the system does not say that an interface is down; only Linux is asked."""
    if sys.platform != "linux":
        return True
    try:
        return Path("/sys/class/net", name.partition(":")[0], "operstate").read_text(encoding="ascii").strip() != "down"
    except (OSError, ValueError):
        return True


def _default_source() -> Optional[str]:
    """The IPv4 address that the system sends from where it has a default route."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # RFC 5737: sends nothing, only chooses the route
        except OSError:
            return None
        return str(probe.getsockname()[0])
