"""A broker that is gone without a goodbye is noticed within ten seconds, whatever it said last."""

from __future__ import annotations

import pytest

from common.link.connection import LIMIT, Silence

NEVER = float("-inf")


@pytest.fixture
def silence() -> Silence:
    silence = Silence()
    silence.begin(100.0)
    return silence


def test_the_limit_is_the_promised_one_with_time_left_to_connect_anew() -> None:
    assert LIMIT <= 8.0


def test_a_broker_that_is_heard_now_and_then_is_there(silence: Silence) -> None:
    for now in range(101, 200, 5):
        assert not silence.is_over(now, NEVER)
        silence.heard(now)


def test_a_broker_that_never_says_a_word_is_given_up(silence: Silence) -> None:
    assert not silence.is_over(100.0 + LIMIT - 0.1, NEVER)
    assert silence.is_over(100.0 + LIMIT, NEVER)


def test_where_there_is_no_connection_nobody_is_silent(silence: Silence) -> None:
    silence.end()
    silence.heard(101.0)
    assert not silence.is_over(1000.0, NEVER)


def test_a_new_connection_has_all_the_time_again(silence: Silence) -> None:
    silence.end()
    silence.begin(1000.0)
    assert not silence.is_over(1001.0, NEVER)
    assert silence.is_over(1000.0 + LIMIT, NEVER)


def test_after_standing_still_a_broker_that_is_gone_is_given_up_within_three_seconds(silence: Silence) -> None:
    silence.heard(104.0)
    assert not silence.is_over(105.0, woke=105.0)
    assert silence.is_over(107.5, woke=105.0)


def test_what_waited_here_while_this_program_stood_still_shows_nothing(silence: Silence) -> None:
    silence.heard(104.0)
    assert not silence.is_over(105.0, woke=105.0)
    silence.heard(105.1)
    assert silence.is_over(107.5, woke=105.0)


def test_a_broker_that_goes_on_after_this_program_stood_still_is_there(silence: Silence) -> None:
    assert not silence.is_over(105.0, woke=105.0)
    silence.heard(106.0)
    assert not silence.is_over(111.9, woke=105.0)


def test_standing_still_before_the_connection_stood_is_nothing_to_it(silence: Silence) -> None:
    silence.begin(200.0)
    assert not silence.is_over(203.0, woke=199.0)
