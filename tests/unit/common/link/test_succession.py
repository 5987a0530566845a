"""Which broker a client uses: each in its turn, and none that all others can do without."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import RefusedError
from common.finding.addresses import BrokerAddress
from common.link.succession import MAX_FOUND, Succession

A, B, C = (BrokerAddress(f"{name}.lan", 5570, 5571, name.encode() * 32) for name in "abc")
NO, NEVER = RefusedError("no"), RefusedError("never")


def test_brokers_are_taken_in_turn() -> None:
    succession = Succession([A, B, C])
    assert [succession.current, *(succession.advance() for _ in range(5))] == [A, B, C, A, B, C]


def test_it_is_over_when_all_refused() -> None:
    succession = Succession([A, B])
    succession.refused(NO)
    assert not succession.over
    assert succession.advance() == B
    assert not succession.over, "the second was not asked yet"
    succession.refused(NEVER)
    assert succession.over
    assert succession.refusal is NO


def test_a_session_with_one_is_a_reason_to_ask_the_others_again() -> None:
    succession = Succession([A, B])
    succession.refused(NO)
    succession.advance()
    succession.begun()
    succession.refused(NEVER)
    assert not succession.over
    assert succession.refusal is NEVER


def test_whoever_knows_one_broker_has_no_other_to_go_to() -> None:
    assert Succession([A]).alone
    assert not Succession([A, B]).alone


def test_a_broker_that_was_named_is_there_and_one_that_was_not_is_not() -> None:
    succession = Succession([A, B])
    succession.renew([A, C])
    assert succession.brokers == [A, C]


def test_brokers_that_were_known_before_keep_their_order() -> None:
    succession = Succession([B, A])
    succession.renew([A, B])
    assert succession.brokers == [B, A], "the one in use stays first"


def test_the_broker_in_use_keeps_the_address_that_it_answers_at() -> None:
    elsewhere = BrokerAddress("192.0.2.1", 1, 2, A.public_key)
    succession = Succession([A])
    succession.renew([elsewhere])
    assert succession.brokers == [A]


def test_another_broker_that_moved_is_known_by_its_new_address() -> None:
    moved = BrokerAddress("192.0.2.1", 1, 2, B.public_key)
    succession = Succession([A, B])
    succession.renew([moved, A])
    assert succession.brokers == [A, moved]


@pytest.mark.parametrize("named", [[], [A], [A, A, A]])
def test_whatever_is_named_the_broker_in_use_stays(named: list[BrokerAddress]) -> None:
    succession = Succession([A, B])
    succession.renew(named)
    assert succession.brokers == [A]


@given(st.lists(st.sampled_from([A, B, C]), min_size=1, unique=True), st.lists(st.sampled_from([A, B, C])))
def test_it_knows_the_named_and_the_one_in_use_each_once(
    known: list[BrokerAddress], named: list[BrokerAddress]
) -> None:
    succession = Succession(known)
    succession.renew(named)
    assert succession.current == known[0]
    assert len(succession.brokers) == len(set(named) | {known[0]})
    assert set(succession.brokers) == set(named) | {known[0]}


# --- addresses that were found


def at(host: str, broker: BrokerAddress = A) -> BrokerAddress:
    return BrokerAddress(host, 5570, 5571, broker.public_key)


def test_an_address_that_was_found_is_tried_next_beside_the_known_ones() -> None:
    succession = Succession([A, B])
    assert succession.add(at("found"))
    assert not succession.is_found
    assert [succession.advance() for _ in range(4)] == [at("found"), B, A, at("found")]
    assert succession.is_found


def test_of_many_that_are_found_a_few_are_tried_and_of_other_clusters_none() -> None:
    succession = Succession([A, B])
    assert not succession.add(at("found", C))
    assert not succession.add(A)
    assert [succession.add(at(f"host-{number}")) for number in range(100)].count(True) == MAX_FOUND
    assert len(succession.brokers) == 2 + MAX_FOUND
    assert {A, B} <= set(succession.brokers)


def test_an_address_that_turned_us_away_is_tried_no_more_and_refused_nothing() -> None:
    succession = Succession([A])
    succession.add(at("found"))
    succession.advance()
    assert succession.drop() == A
    assert succession.brokers == [A]
    assert not succession.over
    assert succession.refusal is None


def test_a_session_at_an_address_that_was_found_makes_it_the_brokers_and_forgets_the_others() -> None:
    succession = Succession([A, B])
    for host in ("lie", "found"):
        succession.add(at(host))
    assert succession.advance() == at("found")
    succession.begun()
    assert succession.brokers == [at("found"), B]
    assert not succession.is_found


def test_a_session_where_the_broker_is_known_forgets_what_was_found() -> None:
    succession = Succession([A, B])
    succession.add(at("lie"))
    succession.begun()
    assert succession.brokers == [A, B]
