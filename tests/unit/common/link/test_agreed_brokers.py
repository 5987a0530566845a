"""Which brokers a worker is connected to, from what the brokers say of each other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from common.discovery.addresses import BrokerAddress
from common.link.broker_list import agreed

A, B, C = (BrokerAddress(f"{name}.lan", 5570, 5571, name.encode() * 32) for name in "abc")
a, b, c = A.public_key, B.public_key, C.public_key


def test_a_broker_that_is_named_is_one() -> None:
    assert agreed([A], {a: [A, B]}) == [A, B]
    assert agreed([A, B], {a: [A, B, C], b: [A, B]}) == [A, B, C]


def test_where_only_one_answers_its_word_is_all_there_is() -> None:
    assert agreed([A, B], {b: [B]}) == [B]
    assert agreed([A, B], {b: [A, B]}) == [A, B]


def test_a_revoked_broker_that_names_itself_is_none() -> None:
    assert agreed([A, B, C], {a: [A, B], b: [A, B], c: [A, B, C]}) == [A, B]


def test_a_broker_that_has_only_just_joined_and_knows_little_takes_none_away() -> None:
    assert agreed([A, B, C], {a: [A, B, C], b: [A, B, C], c: [A, C]}) == [A, B, C]


def test_before_anybody_answered_nothing_changes() -> None:
    assert agreed([A, B], {}) == [A, B]


def test_brokers_that_revoked_each_other_are_kept() -> None:
    assert agreed([A, B], {a: [A], b: [B]}) == [A, B]


def test_a_broker_that_answers_keeps_the_address_at_which_it_does() -> None:
    elsewhere = BrokerAddress("192.0.2.1", 1, 2, a)
    assert agreed([A], {a: [elsewhere]}) == [A]
    assert agreed([A, B], {a: [elsewhere, B], b: [elsewhere, B]}) == [A, B]


def test_a_broker_that_moved_and_is_not_reached_any_longer_has_its_new_address() -> None:
    elsewhere = BrokerAddress("192.0.2.1", 1, 2, b)
    assert agreed([A, B], {a: [A, elsewhere]}) == [A, elsewhere]


some = st.lists(st.sampled_from([A, B, C]), max_size=4)


@given(st.lists(st.sampled_from([A, B, C]), min_size=1, unique=True), st.dictionaries(st.sampled_from([a, b, c]), some))
def test_there_is_always_a_broker_left_and_none_twice(
    known: list[BrokerAddress], told: dict[bytes, list[BrokerAddress]]
) -> None:
    brokers = agreed(known, told)
    assert brokers
    assert len({broker.public_key for broker in brokers}) == len(brokers)
