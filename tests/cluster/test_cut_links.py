"""Cables that are cut and machines that vanish without a goodbye, on a LAN without a default route.

A broker that is gone is noticed within ten seconds and used at its new address within twenty; whoever slept, or was cut
off, is back within five.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.namespaces import Host, HostUser, Lan, lan_in_namespaces
from tests.support.programs import feed, finish, held_in_mid_get, random_bytes, sha256_of, wait_until

NOTICE, RETURN, AWAKE = 10.0, 20.0, 5.0  # seconds, as promised
DEVICES = ["nas", "pi", "pc"]
MIB = 1 << 20
LOST, REGISTERED = "lost the broker at", "registered with the broker at"


class Home:
    """A broker, three devices and a client, each on a host of its own."""

    def __init__(self, lan: Lan) -> None:
        self._lan = lan
        self._addresses: dict[Host, str] = {}
        self.broker = self.host("broker")
        self.broker_process = self.start_broker(self.broker)
        self.devices = {name: self.host(name) for name in DEVICES}
        for name, host in self.devices.items():
            host.start("worker", "--name", name, TESSERA_JOIN=self.invite("worker"))
        self.client = self.host("client").user(TESSERA_PASSPHRASE="a passphrase for a LAN")
        for arguments in (["join"], ["vault", "create"]):
            ended = self.client.run("admin", *arguments, TESSERA_JOIN=self.invite("client"))
            assert ended.exit_code == 0, ended
        wait_until(lambda: self.count(REGISTERED) == len(DEVICES), "the devices")

    def host(self, name: str) -> Host:
        """One more machine, which is on the LAN."""
        host = self._lan.host(name)
        host.plug("eth0", f"{self.address(host)}/24")
        return host

    def start_broker(self, host: Host, **variables: str) -> subprocess.Popen[bytes]:
        process = host.start("broker", TESSERA_HOST=self.address(host), **variables)
        host.wait_logged("is announced on the LAN")
        return process

    def invite(self, role: str) -> str:
        ended = self.broker.user(TESSERA_HOST=self.address(self.broker)).run("broker", "invite", role)
        assert ended.exit_code == 0, ended
        return ended.lines[0]

    def address(self, host: Host) -> str:
        return self._addresses.setdefault(host, f"10.86.0.{11 + len(self._addresses)}")

    def count(self, words: str) -> int:
        return sum(host.log().count(words) for host in self.devices.values())

    def registered_at(self, host: Host) -> int:
        """How many times a device has registered with a broker there."""
        return self.count(f"{REGISTERED} tcp://{self.address(host)}:")

    def replace_broker(self) -> Host:
        """The broker's machine loses its power; another one gets its disk, and another address."""
        spare = self.host("spare")
        self.broker.cut()
        self.broker_process.kill()
        self.broker_process.wait()
        home = self.broker.user().environment["TESSERA_HOME"]
        self.broker_process = self.start_broker(spare, TESSERA_HOME=home)
        return spare


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with lan_in_namespaces(tmp_path) as lan:
        yield Home(lan)


def within(seconds: float, began: float) -> float:
    return began + seconds - time.monotonic()


def restored(user: HostUser, sha256: str, output: Path) -> bool:
    ended = user.restore(sha256, output=output)
    assert ended.exit_code == 0, ended
    return sha256_of(output.read_bytes()) == sha256


def test_a_broker_that_moves_in_mid_put_is_found_again_and_the_put_goes_on(home: Home, tmp_path: Path) -> None:
    content = random_bytes(96 * MIB)
    with home.client.started("producer", "--json", "-") as process:
        feed(process, content[: 64 * MIB])
        began = time.monotonic()
        spare = home.replace_broker()
        wait_until(lambda: home.count(LOST) == len(DEVICES), "all notice", within(NOTICE, began))
        wait_until(lambda: home.registered_at(spare) == len(DEVICES), "all are back", within(RETURN, began))
        ended = finish(process, content[64 * MIB :])
    assert ended.exit_code == 0, ended
    assert not ended.objects[0]["degraded"]
    assert restored(home.client, sha256_of(content), tmp_path / "out.bin")


def test_a_client_that_slept_in_mid_get_while_the_broker_moved_goes_on_when_it_wakes(
    home: Home, tmp_path: Path
) -> None:
    content = random_bytes(160 * MIB)
    stored = home.client.store_bytes(content)
    with held_in_mid_get(home.client, stored["sha256"], tmp_path / "got" / "out.bin", len(content)) as process:
        began = time.monotonic()
        spare = home.replace_broker()
        wait_until(lambda: home.registered_at(spare) == len(DEVICES), "all are back", within(RETURN, began))
        process.send_signal(signal.SIGCONT)
        ended = finish(process)
    assert ended.exit_code == 0, ended
    assert sha256_of((tmp_path / "got" / "out.bin").read_bytes()) == stored["sha256"]


def test_a_device_and_a_broker_are_back_as_soon_as_their_cables_are_in_again(home: Home, tmp_path: Path) -> None:
    stored = home.client.store_bytes(random_bytes(MIB))

    home.devices["nas"].cut()
    began = time.monotonic()
    wait_until(lambda: LOST in home.devices["nas"].log(), "the device notices", within(NOTICE, began))
    wait_until(lambda: "device nas is gone" in home.broker.log(), "the broker notices", within(NOTICE, began))
    home.devices["nas"].mend()
    wait_until(lambda: home.devices["nas"].log().count(REGISTERED) == 2, "the device is back", AWAKE)

    home.broker.cut()
    began, before = time.monotonic(), home.count(LOST)
    wait_until(lambda: home.count(LOST) == before + len(DEVICES), "all notice", within(NOTICE, began))
    home.broker.mend()
    assert restored(home.client, stored["sha256"], tmp_path / "out.bin"), "devices are expected, not taken for gone"
    wait_until(lambda: home.registered_at(home.broker) == 2 * len(DEVICES) + 1, "all are back", AWAKE)


def test_of_two_brokers_one_whose_cable_is_cut_holds_nobody_up(home: Home, tmp_path: Path) -> None:
    second, content = home.host("second"), random_bytes(96 * MIB)
    home.start_broker(second, TESSERA_JOIN=home.invite("broker"))
    wait_until(lambda: home.registered_at(second) == len(DEVICES), "all know the second")
    assert home.client.listed() == []  # so does the client

    with home.client.started("producer", "--json", "-") as process:
        feed(process, content[: 64 * MIB])
        began = time.monotonic()
        home.broker.cut()
        wait_until(lambda: home.count(LOST) == len(DEVICES), "all notice", within(NOTICE, began))
        ended = finish(process, content[64 * MIB :])
        assert time.monotonic() - began < RETURN
    assert ended.exit_code == 0, ended
    assert not ended.objects[0]["degraded"]
    home.broker.mend()
    wait_until(lambda: home.registered_at(home.broker) == 2 * len(DEVICES), "all are back", AWAKE)
    assert restored(home.client, sha256_of(content), tmp_path / "out.bin")
