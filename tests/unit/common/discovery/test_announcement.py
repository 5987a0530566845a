"""Announcements: what a broker says of itself is read back, and what anybody else says is refused or bounded."""

from __future__ import annotations

from typing import Any, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.discovery.addresses import BrokerAddress
from common.discovery.announcement import (
    AT_A_TIME,
    MAX_ADDRESSES,
    MAX_FOUND,
    MAX_NAMES,
    SERVICE,
    Announcement,
    Candidates,
    instance_of,
    read_announcement,
)
from common.errors import ProtocolError

KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 33))
SAID = Announcement(5570, 5571, KEY)
AT = BrokerAddress("192.0.2.7", 5570, 5571, KEY)


def properties(**changed: Optional[bytes]) -> dict[bytes, Optional[bytes]]:
    said: dict[str, Any] = {**SAID.properties(), **changed}
    return {name.encode(): value.encode() if isinstance(value, str) else value for name, value in said.items()}


def read(*addresses: str, **changed: Optional[bytes]) -> list[BrokerAddress]:
    return read_announcement(SAID.instance, properties(**changed), addresses or ["192.0.2.7"])


def test_what_a_broker_announces_is_read_back() -> None:
    assert read() == [AT]


def test_it_says_its_ports_and_key_and_no_more() -> None:
    assert SAID.properties() == {"v": "1", "c": "5570", "w": "5571", "k": KEY.hex()}
    for name in (SAID.instance, SAID.host):
        assert name.partition(".")[0] == f"tessera-{KEY.hex()[:16]}"
    assert len(SAID.instance.partition(".")[0]) <= 63, "a label of DNS"
    assert SAID.instance.endswith(SERVICE)


def test_each_address_is_one_and_of_many_a_few_are_kept() -> None:
    many = [f"192.0.2.{number}" for number in range(200)]
    assert [broker.host for broker in read(*many)] == many[:MAX_ADDRESSES]
    assert [broker.host for broker in read("192.0.2.7", "192.0.2.7", "fd00::7")] == ["192.0.2.7", "fd00::7"]


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "::1", "0.0.0.0", "::", "224.0.0.251", "ff02::fb", "255.255.255.255"],  # noqa: S104 - read, not bound
)
def test_an_address_of_no_other_machine_is_passed_over(address: str) -> None:
    assert [broker.host for broker in read(address, "192.0.2.7")] == ["192.0.2.7"]
    with pytest.raises(ProtocolError, match="without an address"):
        read(address)


@pytest.mark.parametrize(
    "address", ["", "broker.lan", "fe80::1", "fe80::1%eth0", "192.0.2.7%1", "1.2.3", "192.0.2.7\n"]
)
def test_what_is_no_address_by_itself_is_passed_over(address: str) -> None:
    with pytest.raises(ProtocolError, match="without an address"):
        read(address)


@pytest.mark.parametrize(
    "port", [None, b"", b"0", b"-1", b"65536", b"05570", b"5570 ", b"5570.0", b"0x10", "\u0661".encode(), b"9" * 5000]
)
def test_a_port_that_is_none_is_refused(port: Optional[bytes]) -> None:
    for name in ("c", "w"):
        with pytest.raises(ProtocolError, match="without its two ports"):
            read(**{name: port})


@pytest.mark.parametrize(
    "key", [None, b"", KEY, KEY.hex()[:62].encode(), KEY.hex().encode() + b"00", KEY.hex().upper().encode(), b"x" * 64]
)
def test_a_key_of_another_form_is_refused(key: Optional[bytes]) -> None:
    with pytest.raises(ProtocolError, match="without a public key"):
        read(k=key)


@pytest.mark.parametrize("version", [None, b"", b"0", b"2", b"1 ", b"11"])
def test_another_version_is_refused(version: Optional[bytes]) -> None:
    with pytest.raises(ProtocolError, match="another version"):
        read(v=version)


def test_a_name_that_is_not_the_keys_is_refused() -> None:
    for instance in (instance_of(OTHER_KEY), "the broker." + SERVICE, "", "x" * 10_000):
        with pytest.raises(ProtocolError, match="not its key's"):
            read_announcement(instance, properties(), ["192.0.2.7"])


def test_very_many_properties_are_refused() -> None:
    more: dict[str, Optional[bytes]] = {letter: b"" for letter in "abdefghijlmno"}
    with pytest.raises(ProtocolError, match="17 properties"):
        read(**more)


@pytest.mark.one_python
@settings(max_examples=300)
@given(
    st.one_of(st.just(SAID.instance), st.text(max_size=300)),
    st.dictionaries(
        st.sampled_from([b"v", b"c", b"w", b"k", b"x"]),
        st.one_of(st.none(), st.binary(max_size=300), st.sampled_from([b"1", b"80", KEY.hex().encode()])),
    ),
    st.lists(st.one_of(st.text(max_size=60), st.ip_addresses().map(str)), max_size=40),
)
def test_anything_else_is_refused_or_has_the_form_it_must_have(
    instance: str, said: dict[bytes, Optional[bytes]], addresses: list[str]
) -> None:
    try:
        brokers = read_announcement(instance, said, addresses)
    except ProtocolError:
        return
    assert 1 <= len(brokers) <= MAX_ADDRESSES
    for broker in brokers:
        assert broker.host in addresses
        assert len(broker.public_key) == 32
        assert 1 <= broker.client_port <= 65535
        assert 1 <= broker.worker_port <= 65535


# --- how much is looked at


def numbered(number: int) -> str:
    return instance_of(number.to_bytes(32, "little"))


def test_an_address_is_given_once() -> None:
    candidates = Candidates()
    assert candidates.begin(SAID.instance)
    assert candidates.end(SAID.instance, [AT, AT]) == [AT]
    assert candidates.begin(SAID.instance), "it may have changed"
    assert not candidates.begin(SAID.instance.upper()), "it is being looked into"
    moved = BrokerAddress("192.0.2.8", 5570, 5571, KEY)
    assert candidates.end(SAID.instance, [AT, moved]) == [moved]


def test_who_looks_for_a_key_looks_into_no_other_announcement() -> None:
    candidates = Candidates([KEY])
    assert not any(candidates.begin(numbered(number)) for number in range(10_000))
    assert candidates.begin(SAID.instance)
    assert candidates.end(SAID.instance, [BrokerAddress("192.0.2.7", 1, 2, OTHER_KEY), AT]) == [AT]


def test_of_thousands_some_are_looked_into_and_a_few_are_given() -> None:
    candidates = Candidates()
    begun = [name for name in map(numbered, range(20_000)) if candidates.begin(name)]
    assert len(begun) == AT_A_TIME, "at a time"
    given = 0
    for number in range(20_000):
        name = numbered(number)
        if number >= AT_A_TIME and not candidates.begin(name):
            continue
        begun.append(name)
        given += len(candidates.end(name, [BrokerAddress("192.0.2.7", 1, 2, number.to_bytes(32, "little"))]))
    assert len(set(begun)) == MAX_NAMES
    assert given == MAX_FOUND
