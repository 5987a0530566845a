"""Which broker a client uses: each in its turn, and none that all others can do without."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.discovery.addresses import BrokerAddress
from common.errors import RefusedError
from common.link.broker_list import MAX_FOUND, BrokerList

A, B, C = (BrokerAddress(f"{name}.lan", 5570, 5571, name.encode() * 32) for name in "abc")
NO, NEVER = RefusedError("no"), RefusedError("never")


def test_brokers_are_taken_in_turn() -> None:
    brokers = BrokerList([A, B, C])
    assert [brokers.current, *(brokers.advance() for _ in range(5))] == [A, B, C, A, B, C]


def test_it_is_over_when_all_refused() -> None:
    brokers = BrokerList([A, B])
    brokers.refused(NO)
    assert not brokers.over
    assert brokers.advance() == B
    assert not brokers.over, "the second was not asked yet"
    brokers.refused(NEVER)
    assert brokers.over
    assert brokers.refusal is NO


def test_a_session_with_one_is_a_reason_to_ask_the_others_again() -> None:
    brokers = BrokerList([A, B])
    brokers.refused(NO)
    brokers.advance()
    brokers.begun()
    brokers.refused(NEVER)
    assert not brokers.over
    assert brokers.refusal is NEVER


def test_whoever_knows_one_broker_has_no_other_to_go_to() -> None:
    assert BrokerList([A]).alone
    assert not BrokerList([A, B]).alone


def test_a_broker_that_was_named_is_there_and_one_that_was_not_is_not() -> None:
    brokers = BrokerList([A, B])
    brokers.renew([A, C])
    assert brokers.brokers == [A, C]


def test_brokers_that_were_known_before_keep_their_order() -> None:
    brokers = BrokerList([B, A])
    brokers.renew([A, B])
    assert brokers.brokers == [B, A], "the one in use stays first"


def test_the_broker_in_use_keeps_the_address_that_it_answers_at() -> None:
    elsewhere = BrokerAddress("192.0.2.1", 1, 2, A.public_key)
    brokers = BrokerList([A])
    brokers.renew([elsewhere])
    assert brokers.brokers == [A]


def test_another_broker_that_moved_is_known_by_its_new_address() -> None:
    moved = BrokerAddress("192.0.2.1", 1, 2, B.public_key)
    brokers = BrokerList([A, B])
    brokers.renew([moved, A])
    assert brokers.brokers == [A, moved]


def test_a_broker_that_was_known_at_two_addresses_is_known_at_the_one_that_is_named() -> None:
    elsewhere = BrokerAddress("192.0.2.1", 1, 2, B.public_key)
    brokers = BrokerList([A, B, elsewhere])
    brokers.renew([A, B])
    assert brokers.brokers == [A, B]


@pytest.mark.parametrize("named", [[], [A], [A, A, A]])
def test_whatever_is_named_the_broker_in_use_stays(named: list[BrokerAddress]) -> None:
    brokers = BrokerList([A, B])
    brokers.renew(named)
    assert brokers.brokers == [A]


@given(st.lists(st.sampled_from([A, B, C]), min_size=1, unique=True), st.lists(st.sampled_from([A, B, C])))
def test_it_knows_the_named_and_the_one_in_use_each_once(
    known: list[BrokerAddress], named: list[BrokerAddress]
) -> None:
    brokers = BrokerList(known)
    brokers.renew(named)
    assert brokers.current == known[0]
    assert len(brokers.brokers) == len(set(named) | {known[0]})
    assert set(brokers.brokers) == set(named) | {known[0]}


# --- addresses that were found


def at(host: str, broker: BrokerAddress = A) -> BrokerAddress:
    return BrokerAddress(host, 5570, 5571, broker.public_key)


def test_an_address_that_was_found_is_tried_next_beside_the_known_ones() -> None:
    brokers = BrokerList([A, B])
    assert brokers.add(at("found"))
    assert not brokers.is_found
    assert [brokers.advance() for _ in range(4)] == [at("found"), B, A, at("found")]
    assert brokers.is_found


def test_of_many_that_are_found_a_few_are_tried_and_of_other_clusters_none() -> None:
    brokers = BrokerList([A, B])
    assert not brokers.add(at("found", C))
    assert not brokers.add(A)
    assert [brokers.add(at(f"host-{number}")) for number in range(100)].count(True) == MAX_FOUND
    assert len(brokers.brokers) == 2 + MAX_FOUND
    assert {A, B} <= set(brokers.brokers)


def test_an_address_that_turned_us_away_is_tried_no_more_and_refused_nothing() -> None:
    brokers = BrokerList([A])
    brokers.add(at("found"))
    brokers.advance()
    assert brokers.drop() == A
    assert brokers.brokers == [A]
    assert not brokers.over
    assert brokers.refusal is None


def test_a_session_at_an_address_found_makes_it_the_brokers_in_place_of_others() -> None:
    brokers = BrokerList([A, B])
    for host in ("lie", "found"):
        brokers.add(at(host))
    assert brokers.advance() == at("found")
    brokers.begun()
    assert brokers.brokers == [at("found"), B]
    assert not brokers.is_found


def test_a_session_where_the_broker_is_known_forgets_what_was_found() -> None:
    brokers = BrokerList([A, B])
    brokers.add(at("lie"))
    brokers.begun()
    assert brokers.brokers == [A, B]
