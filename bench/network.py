"""A LAN of hosts that are network namespaces on one bridge, each with a link of a set rate both ways (Linux, root)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from bench.sandbox import Sandbox, Site, sandbox
from common.errors import TesseraError

CLIENT, BROKER, DEVICES = "client", "broker", tuple(f"device-{number}" for number in range(1, 7))
HOSTS = (CLIENT, BROKER, *DEVICES)
_SUBNET, _FIRST = "10.77.0", 10
_BURST, _LATENCY = "512kb", "50ms"  # of the token buckets that set the rates


@dataclass(frozen=True)
class Rates:
    """Of each host's link, in Mbit/s. `client`: of the client's. `delay`: milliseconds that each link adds one way."""

    name: str
    all: int
    client: int
    delay: int = 0

    def of(self, host: str) -> int:
        return self.client if host == CLIENT else self.all


@dataclass(frozen=True)
class Traffic:
    """Bytes on a host's link, frames and all."""

    sent: int
    received: int

    def since(self, before: Traffic) -> Traffic:
        return Traffic(self.sent - before.sent, self.received - before.received)


@dataclass(frozen=True)
class Lan:
    """`hosts`: by name, where each host's programs run."""

    hosts: dict[str, Sandbox]

    @staticmethod
    def address(host: str) -> str:
        return f"{_SUBNET}.{_FIRST + HOSTS.index(host)}"

    @property
    def site(self) -> Site:
        """Where peers run."""
        return Site(self.hosts[CLIENT], self.hosts[BROKER], [self.hosts[name] for name in DEVICES])

    def within(self, host: str, command: Sequence[str]) -> list[str]:
        """The command that runs this one on a host."""
        return self.hosts[host].within(*command)

    def answers(self, host: str, port: int) -> bool:
        """Whether the client reaches a port of a host."""
        try:
            self.hosts[CLIENT].run("bash", "-c", f"exec 3<>/dev/tcp/{self.address(host)}/{port}")
        except TesseraError:
            return False
        return True

    def traffic(self, host: str) -> Traffic:
        """What went over a host's link so far."""
        (link,) = json.loads(self.hosts[host].run("ip", "-j", "-s", "link", "show", "eth0"))
        return Traffic(link["stats64"]["tx"]["bytes"], link["stats64"]["rx"]["bytes"])


@contextmanager
def lan(rates: Rates) -> Iterator[Lan]:
    """All hosts, which end with the block; TesseraError where this system has not what it takes."""
    if os.name != "posix" or os.geteuid() != 0:
        raise TesseraError("only root can make a LAN of network namespaces")
    with ExitStack() as stack:
        switch = stack.enter_context(sandbox())
        hosts = {name: stack.enter_context(sandbox(mounts=True, address=Lan.address(name))) for name in HOSTS}
        found = Lan(hosts)
        switch.run("ip", "link", "add", "bridge", "type", "bridge")
        switch.run("ip", "link", "set", "bridge", "up")
        for name, host in hosts.items():
            peer = ["peer", "name", "eth0", "netns", str(host.holder)]
            switch.run("ip", "link", "add", name, "type", "veth", *peer)
            switch.run("ip", "link", "set", name, "master", "bridge", "up")
            host.run("ip", "address", "add", f"{Lan.address(name)}/24", "dev", "eth0")
            host.run("ip", "link", "set", "eth0", "up")
            _limit(switch, name, rates.of(name), 0)
            _limit(host, "eth0", rates.of(name), rates.delay)
        yield found


def _limit(box: Sandbox, device: str, rate: int, delay: int) -> None:
    parent = ["root"]
    if delay:
        box.run("tc", "qdisc", "add", "dev", device, "root", "handle", "1:", "netem", "delay", f"{delay}ms")
        parent = ["parent", "1:"]
    bucket = ["tbf", "rate", f"{rate}mbit", "burst", _BURST, "latency", _LATENCY]
    box.run("tc", "qdisc", "add", "dev", device, *parent, *bucket)
