"""A LAN as a home switch makes it, without gateway, default route or DNS: brokers are found, and invites work."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.discovery.addresses import BrokerAddress
from common.membership.identity import KeyPair, load_brokers
from common.membership.invite import Invite, decode_invite
from common.protocol.operations import Role
from tests.support.namespaces import Host, HostUser, Lan, lan_in_namespaces
from tests.support.programs import Ended, wait_until

CODE = re.compile(r"^(?:[A-Z2-7]{4}-){11}[A-Z2-7]{4}$", re.MULTILINE)
LISTENS = "broker listens at"


@pytest.fixture
def lan(tmp_path: Path) -> Iterator[Lan]:
    with lan_in_namespaces(tmp_path) as made:
        yield made


def invite(broker: HostUser, role: str, *options: str) -> tuple[str, Ended]:
    """An invite's line, and how the command ended."""
    ended = broker.run("broker", "invite", role, *options)
    assert ended.exit_code == 0, ended
    (line,) = ended.lines
    return line, ended


def hosts_of(line: str) -> list[str]:
    return [broker.host for broker in decode_invite(line).brokers]


def join(host: Host, invite: str) -> Ended:
    return host.user().run("admin", "join", TESSERA_JOIN=invite)


def devices(host: Host) -> list[str]:
    ended = host.user().run("admin", "status", "--json")
    return [] if ended.exit_code else [device["name"] for device in ended.objects[0]["devices"] if device["alive"]]


def test_without_a_gateway_the_broker_is_announced_and_both_invite_forms_work(lan: Lan) -> None:
    broker, laptop, nas = lan.host("broker"), lan.host("laptop"), lan.host("nas")
    broker.plug("eth0", "10.77.0.1/24")
    laptop.plug("eth0", "10.77.0.2/24")
    nas.plug("eth0", "10.77.0.3/24")
    broker.start("broker")
    broker.wait_logged("announced on the LAN at 10.77.0.1")
    line, _ = invite(broker.user(), "worker")
    assert hosts_of(line) == ["10.77.0.1"]
    nas.start("worker", "--name", "nas", TESSERA_JOIN=line)
    _, told = invite(broker.user(), "client")
    (code,) = CODE.findall(told.stderr)
    joined = join(laptop, code)
    assert joined.exit_code == 0, joined
    wait_until(lambda: devices(laptop) == ["nas"], "the device")


def test_a_broker_started_before_its_network_is_found_by_an_invite_made_before(lan: Lan) -> None:
    broker, laptop, late = lan.host("broker"), lan.host("laptop"), lan.host("late")
    laptop.plug("eth0", "10.77.0.2/24")
    late.plug("eth0", "10.77.0.3/24")
    broker.start("broker")
    broker.wait_logged("no network address yet")
    early, told = invite(broker.user(), "client")
    assert "no network address now" in told.stderr
    assert CODE.findall(told.stderr) == [], "a code would find nobody"
    broker.plug("eth0", "10.77.0.1/24")
    broker.wait_logged("announced on the LAN at 10.77.0.1")
    joined = join(laptop, early)
    assert joined.exit_code == 0, joined
    line, told = invite(broker.user(), "client")
    assert hosts_of(line) == ["10.77.0.1"]
    assert len(CODE.findall(told.stderr)) == 1
    assert "warning" not in told.stderr
    assert join(late, line).exit_code == 0
    known = load_brokers(laptop.user().home / "client" / "brokers.json")
    assert [each.host for each in known] == ["10.77.0.1"]


def test_without_an_address_and_unannounced_no_invite_is_made(lan: Lan) -> None:
    broker = lan.host("broker")
    broker.start("broker", "--no-announce")
    broker.wait_logged(LISTENS)
    refused = broker.user().run("broker", "invite", "client")
    assert refused.exit_code == 2, refused
    assert "no network address now" in refused.stderr
    assert "--address" in refused.stderr
    assert broker.user().run("broker", "invites").stdout == b"", "nothing is left of it"


def test_who_is_on_either_network_of_the_broker_joins_by_the_same_kind_of_line(lan: Lan) -> None:
    broker, upstairs, cellar = lan.host("broker"), lan.host("upstairs"), lan.host("cellar")
    broker.plug("eth0", "10.77.0.1/24")
    broker.plug("eth1", "10.78.0.1/24", network="b")
    upstairs.plug("eth0", "10.77.0.2/24")
    cellar.plug("eth0", "10.78.0.2/24", network="b")
    broker.start("broker", "--no-announce")
    broker.wait_logged(LISTENS)
    for host, address in ((upstairs, "10.77.0.1"), (cellar, "10.78.0.1")):
        line, _ = invite(broker.user(), "client")
        assert hosts_of(line) == ["10.77.0.1", "10.78.0.1"]
        joined = join(host, line)
        assert joined.exit_code == 0, joined
        assert address in joined.stdout.decode()


def test_an_invite_to_an_address_that_the_broker_has_left_still_lets_in(lan: Lan) -> None:
    broker, laptop = lan.host("broker"), lan.host("laptop")
    broker.plug("eth0", "10.77.0.1/24")
    laptop.plug("eth0", "10.77.0.2/24")
    broker.start("broker")
    broker.wait_logged("announced on the LAN at 10.77.0.1")
    line, _ = invite(broker.user(), "client")
    broker.set("address", "delete", "10.77.0.1/24", "dev", "eth0")
    broker.set("address", "add", "10.77.0.9/24", "dev", "eth0")
    broker.wait_logged("announced on the LAN at 10.77.0.9")
    joined = join(laptop, line)
    assert joined.exit_code == 0, joined
    assert hosts_of(invite(broker.user(), "client")[0]) == ["10.77.0.9"]
    broker.wait_logged("this broker is reached at 10.77.0.9 now")


def test_who_has_ipv6_only_joins_by_its_addresses_and_by_link_local_ones(lan: Lan) -> None:
    broker, laptop, tablet, nas = (lan.host(name) for name in ("broker", "laptop", "tablet", "nas"))
    broker.plug("eth0", "fd77::1/64")
    laptop.plug("eth0", "fd77::2/64")
    tablet.plug("eth0")
    nas.plug("eth0")
    broker.start("broker")
    broker.wait_logged(LISTENS)
    line, _ = invite(broker.user(), "client")
    assert hosts_of(line) == ["fd77::1"]
    assert join(laptop, line).exit_code == 0
    near = broker.link_local("eth0")
    line, _ = invite(broker.user(), "client", "--address", f"[{near}%eth0]")
    assert join(tablet, line).exit_code == 0
    line, _ = invite(broker.user(), "worker", "--address", near)
    nas.start("worker", "--name", "nas", TESSERA_JOIN=line)
    for host in (laptop, tablet):
        wait_until(lambda at=host: devices(at) == ["nas"], f"the device, seen from {host.namespace}")  # type: ignore[misc]


def test_a_joiner_that_has_no_way_to_the_broker_is_told_so(lan: Lan) -> None:
    stranger = lan.host("stranger")
    stranger.plug("eth0", "10.99.0.1/24")
    elsewhere = BrokerAddress("10.77.0.1", 5570, 5571, KeyPair.generate().public)
    refused = join(stranger, Invite(Role.CLIENT, [elsewhere], KeyPair.generate()).encode())
    assert refused.exit_code == 7, refused
    assert "tcp://10.77.0.1:5570 (there is no way there from this machine)" in refused.stderr
