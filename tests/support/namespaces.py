"""Hosts of a LAN as network namespaces, on a switch that is one, too: with no gateway, no default route and no DNS.

Nothing of the machine's own network is touched. Whoever runs the tests must be root, and have iproute2.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import pytest

from cluster.local import program_command
from tests.support.programs import User, wait_until

_numbers = count()


def _ip(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [shutil.which("ip") or "", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


class Host:
    """One machine; its interfaces are named eth0, eth1, …"""

    def __init__(self, lan: Lan, name: str) -> None:
        self.namespace = lan.namespace(name)
        self._lan = lan
        self._name = name
        self.set("link", "set", "lo", "up")
        # Nobody else has its addresses: a link-local one is there at once, not after the second of looking for others.
        no_search = "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad"
        done = _ip("netns", "exec", self.namespace, "sh", "-c", no_search)
        assert done.returncode == 0, done.stderr

    def set(self, *arguments: str) -> None:
        """Run `ip` on this host; what must succeed."""
        done = _ip("-n", self.namespace, *arguments)
        assert done.returncode == 0, done.stderr

    def plug(self, interface: str, *addresses: str, network: str = "a") -> None:
        """Connect an interface, with these addresses (each with its prefix length), to a switch."""
        port = f"{self._name}-{interface}"
        switch = self._lan.switch(network)
        self.set("link", "add", interface, "type", "veth", "peer", "name", port, "netns", switch)
        for command in (["master", "br0"], ["up"]):
            done = _ip("-n", switch, "link", "set", port, *command)
            assert done.returncode == 0, done.stderr
        for address in addresses:
            self.set("address", "add", address, "dev", interface, "nodad")
        self.set("link", "set", interface, "up")
        wait_until(lambda: bool(self.link_local(interface)), f"{interface} of {self._name}")

    def cut(self, interface: str = "eth0", network: str = "a") -> None:
        """Pull the cable: no packet passes any more, and no connection is closed."""
        done = _ip("-n", self._lan.switch(network), "link", "set", f"{self._name}-{interface}", "nomaster")
        assert done.returncode == 0, done.stderr

    def mend(self, interface: str = "eth0", network: str = "a") -> None:
        """Plug the cable in again."""
        port = f"{self._name}-{interface}"
        done = _ip("-n", self._lan.switch(network), "link", "set", port, "master", "br0")
        assert done.returncode == 0, done.stderr

    def link_local(self, interface: str) -> str:
        """The interface's IPv6 link-local address, once it may be used; empty before."""
        shown = _ip("-n", self.namespace, "-6", "-brief", "address", "show", "dev", interface, "scope", "link").stdout
        waiting = _ip("-n", self.namespace, "-6", "address", "show", "dev", interface, "tentative").stdout
        return "" if waiting else next((w.partition("/")[0] for w in shown.split() if w.startswith("fe80:")), "")

    def user(self, **variables: str) -> HostUser:
        """Someone at this host, with a home there."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TESSERA_")}
        folder = self._lan.folder / self._name
        environment = {**inherited, "TESSERA_HOME": str(folder / "home"), **variables}
        return HostUser(self.namespace, environment, folder / "work")

    def start(self, program: str, *arguments: str, **variables: str) -> subprocess.Popen[bytes]:
        """A program that serves; its log is `log`."""
        command = ["ip", "netns", "exec", self.namespace, *program_command(program, *arguments)]
        environment = self.user(**variables).environment
        with open(self._lan.folder / f"{self._name}.log", "ab") as log:
            process = subprocess.Popen(command, env=environment, stderr=log, stdin=subprocess.DEVNULL)
        self._lan.running.callback(_end, process)
        return process

    def log(self) -> str:
        path = self._lan.folder / f"{self._name}.log"
        return path.read_text() if path.exists() else ""

    def wait_logged(self, words: str, times: int = 1) -> None:
        wait_until(lambda: self.log().count(words) >= times, f"{words!r} in the log of {self._name}", 40.0)


class HostUser(User):
    """A user whose programs run at a host."""

    def __init__(self, namespace: str, environment: Mapping[str, str], folder: Path) -> None:
        super().__init__(environment, folder)
        self._namespace = namespace

    @contextmanager
    def started(self, program: str, *arguments: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
        command = ["ip", "netns", "exec", self._namespace, *program_command(program, *arguments)]
        with self.started_as(command, subprocess.PIPE, **variables) as process:
            yield process


class Lan:
    """Switches, and the hosts on them; all that runs there ends with it."""

    def __init__(self, folder: Path, running: ExitStack) -> None:
        self.folder = folder
        self.running = running
        self._prefix = f"tessera-{os.getpid()}-{next(_numbers)}"
        self._switches: dict[str, str] = {}

    def namespace(self, name: str) -> str:
        namespace = f"{self._prefix}-{name}"
        done = _ip("netns", "add", namespace)
        assert done.returncode == 0, done.stderr
        self.running.callback(_ip, "netns", "delete", namespace)
        return namespace

    def switch(self, name: str) -> str:
        if name not in self._switches:
            namespace = self._switches[name] = self.namespace(f"switch-{name}")
            for command in (["add", "br0", "type", "bridge"], ["set", "br0", "up"]):
                done = _ip("-n", namespace, "link", *command)
                assert done.returncode == 0, done.stderr
        return self._switches[name]

    def host(self, name: str) -> Host:
        """A machine that is on no network yet."""
        (self.folder / name).mkdir()
        return Host(self, name)


@contextmanager
def lan_in_namespaces(folder: Path) -> Iterator[Lan]:
    """A LAN for one test; skips it where there can be none."""
    if sys.platform == "win32" or os.geteuid() != 0:
        pytest.skip("network namespaces are root's to make")
    if shutil.which("ip") is None:
        pytest.skip("this machine has no `ip` (iproute2)")
    with ExitStack() as running:
        lan = Lan(folder, running)
        probe = f"{lan._prefix}-probe"
        if (made := _ip("netns", "add", probe)).returncode != 0:
            pytest.skip(f"no network namespace can be made here: {made.stderr.strip()}")
        _ip("netns", "delete", probe)
        yield lan


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
