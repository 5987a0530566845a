"""Hosts as people write them, and which of a machine's addresses others are told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.discovery.addresses import (
    Interface,
    endpoint,
    interfaces,
    is_loopback,
    own_addresses,
    parse_host,
    reachable,
    unmapped,
    with_scopes,
)
from common.errors import UsageError

LO = Interface(["lo"], ["127.0.0.1", "::1"])
DOCKER = Interface(["docker0"], ["172.17.0.1"])
WIFI = Interface(["wlan0"], ["192.168.1.7", "2001:db8::7", "fe80::7%wlan0"])
CABLE = Interface(["eth0"], ["10.0.0.7", "fd00::7", "fe80::8%eth0"])


@pytest.mark.parametrize(
    ("written", "host"),
    [
        ("broker.lan", "broker.lan"),
        (" broker ", "broker"),
        ("Büro-Rechner.local", "Büro-Rechner.local"),
        ("192.0.2.7", "192.0.2.7"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("[FD00:0::5]", "fd00::5"),
        ("fe80::5%eth0", "fe80::5%eth0"),
        ("[fe80::5%12]", "fe80::5%12"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
    ],
)
def test_a_host_is_read_as_people_write_it(written: str, host: str) -> None:
    assert parse_host(written) == host
    assert parse_host(host) == host


@pytest.mark.parametrize(
    "written",
    ["", " ", "a b", "broker/lan", "192.0.2.256", "1.2.3", "[broker]", "[192.0.2.7]", "[::1", "::1]", ":::", "a" * 254],
)
def test_what_is_no_host_is_refused(written: str) -> None:
    with pytest.raises(UsageError, match="neither a host name nor an address"):
        parse_host(written)


@pytest.mark.parametrize("written", ["broker.lan:5570", "192.0.2.7:5570", "[::1]:5570", "broker:"])
def test_a_port_behind_a_host_is_refused_with_where_it_belongs(written: str) -> None:
    with pytest.raises(UsageError, match="has a port behind it") as caught:
        parse_host(written)
    assert "--client-port" in str(caught.value.advice)


@given(st.text(max_size=60))
def test_any_other_text_is_refused_or_read_back_alike(text: str) -> None:
    try:
        host = parse_host(text)
    except UsageError:
        return
    assert parse_host(host) == host


@given(st.ip_addresses(v=6))
def test_an_ipv6_address_has_brackets_only_where_a_port_follows(address: object) -> None:
    host = parse_host(f"[{address}]")
    if ":" in host:
        assert endpoint(host, 5570) == f"tcp://[{host}]:5570"
    assert parse_host(str(address)) == host


def test_a_peer_that_came_by_ipv4_is_called_by_that_address() -> None:
    assert unmapped("::ffff:192.0.2.7") == "192.0.2.7"
    assert unmapped("fd00::7") == "fd00::7"
    assert unmapped("what else there is") == "what else there is"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost", "LOCALHOST.", "::ffff:127.0.0.1"])
def test_what_is_this_machine_alone_is_known(host: str) -> None:
    assert is_loopback(host)


# --- which addresses others are told


def test_each_network_gives_its_address_and_that_of_the_way_out_comes_first() -> None:
    assert reachable([LO, CABLE, WIFI]) == ["10.0.0.7", "192.168.1.7"]
    assert reachable([LO, CABLE, WIFI], "192.168.1.7") == ["192.168.1.7", "10.0.0.7"]


def test_a_network_for_containers_is_told_only_where_there_is_no_other() -> None:
    assert reachable([LO, DOCKER, WIFI], "172.17.0.1") == ["192.168.1.7"]
    assert reachable([LO, DOCKER]) == ["172.17.0.1"]
    assert reachable([LO, DOCKER._replace(names=["vEthernet (WSL)", "{846EE342}"]), WIFI]) == ["192.168.1.7"]


def test_an_interface_without_a_cable_is_told_only_where_there_is_no_other() -> None:
    assert reachable([CABLE._replace(connected=False), WIFI]) == ["192.168.1.7"]
    assert reachable([CABLE._replace(connected=False)]) == ["10.0.0.7"]


def test_link_local_addresses_are_told_only_where_there_are_no_others() -> None:
    alone = Interface(["eth1"], ["169.254.7.7", "fe80::9%eth1"])
    assert reachable([alone, CABLE]) == ["10.0.0.7"]
    assert reachable([LO, alone]) == ["169.254.7.7"]
    assert reachable([LO, Interface(["eth1"], ["fe80::9%eth1"])]) == ["fe80::9%eth1"]


def test_where_there_is_ipv6_only_one_of_its_addresses_is_told_a_local_one_first() -> None:
    assert reachable([Interface(["eth0"], ["fe80::8%eth0", "2001:db8::8", "fd00::8"])]) == ["fd00::8"]


def test_a_machine_without_a_network_has_none() -> None:
    assert reachable([LO]) == reachable([]) == []


def test_this_machine_tells_none_but_addresses_of_its_interfaces() -> None:
    has = [address for interface in interfaces() for address in interface.addresses]
    assert set(own_addresses()) <= set(has)
    assert not any(is_loopback(address) for address in own_addresses())


# --- link-local addresses, whose scope is each machine's own


def test_a_link_local_address_is_tried_at_each_interface_unless_its_scope_is_here() -> None:
    assert with_scopes("fe80::1", [LO, CABLE, WIFI]) == ["fe80::1%eth0", "fe80::1%wlan0"]
    assert with_scopes("fe80::1%enp3s0", [LO, CABLE]) == ["fe80::1%eth0"]
    assert with_scopes("fe80::1%wlan0", [CABLE, WIFI]) == ["fe80::1%wlan0"]
    assert with_scopes("fe80::1", [LO]) == ["fe80::1"]


@pytest.mark.parametrize("host", ["192.0.2.7", "fd00::7", "broker.lan", "169.254.7.7"])
def test_any_other_host_is_tried_as_it_is(host: str) -> None:
    assert with_scopes(host, [CABLE, WIFI]) == [host]
