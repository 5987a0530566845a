"""When a device is late, by what it needed lately: pure, so any course of time can be played through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.repository.latency import FIRST_LATE_AFTER, MIN_LATE_AFTER, SLOW_AFTER, SLOW_FOR, Latencies, Latency

ONE, TWO = bytes(16), bytes([1]) * 16
seconds = st.floats(0, 100)


def answered_in(latency: Latency, *times: float, start: float = 0.0) -> float:
    """Requests one after the other, each answered after so long; when the last was."""
    now = start
    for each in times:
        asked = latency.asked(now)
        now += each
        latency.answered(asked, now)
    return now


def test_a_device_that_is_not_known_is_given_half_a_second() -> None:
    assert Latency().late_after == FIRST_LATE_AFTER == 0.5


@given(st.lists(st.floats(0, 0.01), min_size=1))
def test_a_fast_device_is_late_after_a_quarter_of_a_second_and_not_before(times: list[float]) -> None:
    latency = Latency()
    answered_in(latency, *times)
    assert latency.late_after == MIN_LATE_AFTER == 0.25


@given(st.floats(0.5, 30))
def test_a_device_that_always_takes_long_is_not_late_for_that(usual: float) -> None:
    latency = Latency()
    answered_in(latency, *[usual] * 30)
    assert usual < latency.late_after < 1.2 * usual + MIN_LATE_AFTER


def test_timeout_follows_smoothed_time_and_deviation_as_rfc_6298_has_it() -> None:
    latency = Latency()
    answered_in(latency, 0.4)
    assert latency.late_after == pytest.approx(0.4 + 4 * 0.2)
    answered_in(latency, 0.8)
    deviation = 0.75 * 0.2 + 0.25 * 0.4
    assert latency.late_after == pytest.approx(0.4 + 0.125 * 0.4 + 4 * deviation)


def test_a_device_is_slow_from_the_moment_when_an_answer_is_late_until_it_is_here() -> None:
    latency = Latency()
    asked = latency.asked(10.0)
    assert not latency.is_slow(10.5)
    assert latency.is_slow(10.6)
    assert latency.is_slow(100.0)
    latency.answered(asked, 100.0)
    assert not latency.is_slow(100.0)


def test_a_device_whose_request_was_given_up_is_not_slow_for_it() -> None:
    latency = Latency()
    asked = latency.asked(10.0)
    latency.given_up(asked)
    assert not latency.is_slow(20.0)
    assert latency.late_after == FIRST_LATE_AFTER


def late_in_a_row(latency: Latency, count: int, start: float = 0.0) -> float:
    now = start
    for _ in range(count):
        asked = latency.asked(now)
        now = asked.late_at + 0.1
        latency.answered(asked, now)
    return now


def test_a_device_that_was_late_again_and_again_stays_slow_for_a_while() -> None:
    latency = Latency()
    now = late_in_a_row(latency, SLOW_AFTER)
    assert latency.is_slow(now)
    assert latency.is_slow(now + SLOW_FOR - 0.1)
    assert not latency.is_slow(now + SLOW_FOR)


def test_a_device_that_was_late_once_or_twice_does_not() -> None:
    latency = Latency()
    now = late_in_a_row(latency, SLOW_AFTER - 1)
    assert not latency.is_slow(now)


def test_an_answer_in_time_forgives_what_was_late_before() -> None:
    latency = Latency()
    now = late_in_a_row(latency, SLOW_AFTER - 1)
    now = answered_in(latency, 0.0, start=now)
    assert not latency.is_slow(late_in_a_row(latency, SLOW_AFTER - 1, start=now))


def test_requests_that_hang_together_count_once() -> None:
    latency = Latency()
    together = [latency.asked(0.0) for _ in range(2 * SLOW_AFTER)]
    for number, asked in enumerate(together):
        latency.answered(asked, 5.0 + number / 100)
    assert not latency.is_slow(6.0)


@given(st.lists(st.tuples(st.sampled_from(["ask", "answer", "give up"]), st.floats(0, 10))))
def test_patience_has_its_lower_bound_and_nothing_under_way_means_not_late(
    course: list[tuple[str, float]],
) -> None:
    latency, now, under_way = Latency(), 0.0, []
    for what, passed in course:
        now += passed
        if what == "ask":
            under_way.append(latency.asked(now))
        elif under_way:
            asked = under_way.pop(0)
            (latency.answered if what == "answer" else latency.given_up)(asked, *([now] if what == "answer" else []))
        assert latency.late_after >= MIN_LATE_AFTER
        if any(asked.late_at < now for asked in under_way):
            assert latency.is_slow(now)
    for asked in under_way:
        latency.given_up(asked)
    assert not latency.is_slow(now + SLOW_FOR)


def test_each_device_is_judged_by_its_own_answers() -> None:
    latencies = Latencies()
    latencies.of(ONE).asked(0.0)
    answered_in(latencies.of(TWO), 0.01)
    assert latencies.slow(5.0) == {ONE}
    assert latencies.of(TWO).late_after < latencies.of(ONE).late_after
