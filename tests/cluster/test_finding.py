"""A broker on this machine's LAN address: found by who has its code, and found again where it moved to."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from cluster.local import program_command
from common.discovery.addresses import own_addresses
from common.membership.identity import load_brokers
from tests.support.ports import own_base_port
from tests.support.programs import User, wait_until

CODE = re.compile(r"^(?:[A-Z2-7]{4}-){11}[A-Z2-7]{4}$", re.MULTILINE)
ANNOUNCED = "is announced on the LAN"


def lan_address() -> str:
    """This machine's address on a network where it hears itself by multicast; skips where there is none."""
    own = next((address for address in own_addresses() if ":" not in address), None)
    if own is None:
        pytest.skip("this machine has no network but its own loopback")
    group, interface = "224.0.0.251", socket.inet_aton(own)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", 0))
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + interface)
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
            probe.settimeout(2.0)
            probe.sendto(b"heard?", (group, probe.getsockname()[1]))
            probe.recv(16)
        except OSError as error:
            pytest.skip(f"no multicast at {own}: {error}")
    return own


class Lan:
    """A broker that listens at the LAN's address, and what else the test starts; each with a home of its own."""

    def __init__(self, folder: Path, running: ExitStack) -> None:
        self.folder = folder
        self.address = lan_address()
        self.port = own_base_port()
        self._running = running

    def environment(self, home: str, **variables: str) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TESSERA_")}
        ports = {
            "TESSERA_CLIENT_PORT": str(self.port),
            "TESSERA_WORKER_PORT": str(self.port + 1),
            "TESSERA_LANE_PORT": "0",
        }
        home_and_host = {"TESSERA_HOME": str(self.folder / home), "TESSERA_HOST": self.address}
        return {**inherited, **ports, **home_and_host, **variables}

    def start(self, program: str, home: str, *arguments: str, **variables: str) -> subprocess.Popen[bytes]:
        """Its log is `HOME.log`."""
        with open(self.folder / f"{home}.log", "ab") as log:
            process = subprocess.Popen(
                program_command(program, *arguments), env=self.environment(home, **variables), stderr=log
            )
        self._running.callback(end, process)
        return process

    def log(self, home: str) -> str:
        path = self.folder / f"{home}.log"
        return path.read_text() if path.exists() else ""

    def start_broker(self) -> subprocess.Popen[bytes]:
        before = self.log("broker").count(ANNOUNCED)
        process = self.start("broker", "broker")
        wait_until(lambda: self.log("broker").count(ANNOUNCED) > before, "the announcement")
        return process

    def user(self, home: str, **variables: str) -> User:
        return User(self.environment(home, **variables), self.folder / f"{home}-work")

    def code(self, role: str) -> str:
        ended = self.user("broker").run("broker", "invite", role)
        assert ended.exit_code == 0, ended
        assert [line[:8] for line in ended.lines] == ["tessera-"], "stdout is the line, for scripts"
        (code,) = CODE.findall(ended.stderr)
        return str(code)


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


@pytest.fixture
def lan(tmp_path: Path) -> Iterator[Lan]:
    with ExitStack() as running:
        yield Lan(tmp_path, running)


def devices(user: User) -> Mapping[str, bool]:
    ended = user.run("admin", "status", "--json")
    return {} if ended.exit_code else {device["name"]: device["alive"] for device in ended.objects[0]["devices"]}


def refusal_of(user: User, code: str) -> tuple[int, str, float]:
    began = time.monotonic()
    ended = user.run("admin", "join", TESSERA_JOIN=code)
    return ended.exit_code, ended.stderr, time.monotonic() - began


def test_a_device_and_a_client_join_by_codes_and_find_the_broker_where_it_moved_to(lan: Lan) -> None:
    broker = lan.start_broker()
    client, code = lan.user("client"), lan.code("client")
    wrong = code[:-1] + ("A" if code[-1] != "A" else "B")
    assert refusal_of(client, wrong)[:2] == (2, mistyped())
    joined = client.run("admin", "join", TESSERA_JOIN=code.lower().replace("-", ""))
    assert joined.exit_code == 0, joined
    assert refusal_of(lan.user("late"), code)[0] == 6, "it works once, in either form"
    lan.start("worker", "nas", "--name", "nas", TESSERA_JOIN=lan.code("worker"))
    wait_until(lambda: devices(client) == {"nas": True}, "the device")

    broker.terminate()
    broker.wait()
    before = lan.port
    while lan.port == before:
        lan.port = own_base_port()
    lan.start_broker()
    wait_until(lambda: devices(client) == {"nas": True}, "both at the new address")
    for place in ("client/client", "nas/store"):
        known = load_brokers(lan.folder / place / "brokers.json")
        assert [(each.host, each.client_port) for each in known] == [(lan.address, lan.port)]


def mistyped(program: str = "admin") -> str:
    advice = "compare it with what `broker.py invite` printed: its whole line, or the code of 12 groups below it"
    return f"{program}: this is no invite: it has a typing error\n  {advice}\n"


def test_a_silent_broker_gives_no_code_and_is_not_found(lan: Lan) -> None:
    before = lan.start_broker()
    code = lan.code("client")
    before.terminate()
    before.wait()
    announced = lan.log("broker").count(ANNOUNCED)
    process = lan.start("broker", "broker", TESSERA_ANNOUNCE="0")
    wait_until(lambda: lan.log("broker").count("broker listens at") == 2, "the silent broker")
    invited = lan.user("broker").run("broker", "invite", "client")
    assert invited.exit_code == 0
    assert CODE.findall(invited.stderr) == []
    exit_code, said, seconds = refusal_of(lan.user("client"), code)
    assert exit_code == 7
    assert "not found on the LAN" in said
    assert "paste the whole line" in said
    assert seconds < 10
    assert process.poll() is None
    assert lan.log("broker").count(ANNOUNCED) == announced
