"""Where a worker tries its brokers: what was found is tried in turn with what is known, and never in its place."""

from __future__ import annotations

import msgspec

from common.discovery.addresses import BrokerAddress
from common.link.broker_list import MAX_FOUND, BrokerAddresses

A = BrokerAddress("192.0.2.1", 5570, 5571, b"a" * 32)
B = BrokerAddress("192.0.2.2", 5570, 5571, b"b" * 32)


def at(host: str, broker: BrokerAddress = A) -> BrokerAddress:
    return msgspec.structs.replace(broker, host=host)


def test_without_anything_found_the_brokers_are_tried_where_they_are_known() -> None:
    assert BrokerAddresses([A, B]).following([A, B]) == [A, B]


def test_the_known_address_and_those_found_are_tried_in_turn() -> None:
    addresses = BrokerAddresses([A, B])
    assert addresses.heard(at("192.0.2.7"))
    assert addresses.heard(at("192.0.2.8"))
    tried, hosts = [A, B], []
    for _ in range(6):
        tried = addresses.following(tried)
        assert tried[1] == B
        hosts.append(tried[0].host)
    assert hosts == ["192.0.2.7", "192.0.2.8", "192.0.2.1"] * 2


def test_of_very_many_addresses_the_newest_are_tried_and_the_known_one_always() -> None:
    addresses = BrokerAddresses([A])
    assert all(addresses.heard(at(f"host-{number}")) for number in range(1000))
    tried, hosts = [A], set()
    for _ in range(50):
        tried = addresses.following(tried)
        hosts.add(tried[0].host)
    assert hosts == {A.host, *(f"host-{number}" for number in range(1000 - MAX_FOUND, 1000))}


def test_another_clusters_broker_and_what_is_known_already_are_no_news() -> None:
    addresses = BrokerAddresses([A])
    assert not addresses.heard(B)
    assert not addresses.heard(A)
    assert addresses.heard(at("192.0.2.7"))
    assert not addresses.heard(at("192.0.2.7"))
    assert addresses.known == [A]


def test_an_address_is_known_once_the_broker_was_reached_there() -> None:
    addresses = BrokerAddresses([A, B])
    moved = at("192.0.2.7")
    addresses.heard(moved)
    addresses.heard(at("192.0.2.8"))
    assert not addresses.is_known(moved)
    assert addresses.reached(moved)
    assert addresses.is_known(moved)
    assert not addresses.reached(moved), "that is no news"
    assert addresses.known == [moved, B]
    assert addresses.following([moved, B]) == [moved, B], "the others are forgotten"


def test_of_a_broker_that_left_the_cluster_nothing_is_tried_any_more() -> None:
    addresses = BrokerAddresses([A, B])
    addresses.heard(at("192.0.2.7", B))
    addresses.renew([A])
    assert addresses.known == [A]
    assert not addresses.heard(at("192.0.2.8", B))
    assert not addresses.reached(B)
