"""What an invite says of its brokers: where they are at the moment when it is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

from broker.listening import ALL, CLIENT_PORT, WORKER_PORT, Listening, load, parse_listening_host
from broker.members import MemberList
from common.discovery.addresses import BrokerAddress, is_loopback, parse_host
from common.discovery.announcement import host_of
from common.errors import UsageError
from common.membership.invite import MAX_NAMED
from common.process.program import warn

SERVING_OPTIONS = ("host", "client_port", "worker_port", "announce")


def as_served(folder: Path, said: dict[str, Any], address: Optional[str]) -> Listening:
    """How the broker of the folder is served, or was last; what was `said` now of SERVING_OPTIONS comes before that."""
    served = load(folder)
    known = served or Listening(ALL, CLIENT_PORT, WORKER_PORT, announced=True)
    host = parse_listening_host(said["host"]) if "host" in said else known.host
    reached_at = parse_host(address) if address is not None else known.address
    ports = (said.get("client_port", known.client_port), said.get("worker_port", known.worker_port))
    if served is not None and ports != (served.client_port, served.worker_port):
        warn(
            f"warning: the invite names the ports {ports[0]} and {ports[1]}, and the broker listens at "
            f"{served.client_port} and {served.worker_port}"
        )
    announced = known.announced and said.get("announce", True) and not is_loopback(host)
    return Listening(host, *ports, announced, reached_at)


def named(listening: Listening, public_key: bytes, members: MemberList) -> list[BrokerAddress]:
    """What an invite names: this broker at each of its addresses, then the others; UsageError where there are none."""
    others = members.brokers()
    others.pop(public_key, None)
    hosts = listening.reached_at()[: max(1, MAX_NAMED - len(others))]
    if not hosts and not listening.announced:
        raise UsageError(
            "this machine has no network address now, so nobody could use the invite",
            advice="connect it to the network, or say with --address where others will reach it",
        )
    if not hosts:
        hosts = [host_of(public_key)]
        warn(
            "warning: this machine has no network address now. Who uses the invite looks for the broker on the LAN "
            "(mDNS), and finds it once it has one; --address says where others will reach it"
        )
    ours = [BrokerAddress(host, listening.client_port, listening.worker_port, public_key) for host in hosts]
    return ours + [BrokerAddress(a.host, a.client_port, a.worker_port, key) for key, a in others.items()]
