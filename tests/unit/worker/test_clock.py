"""The wall clock is believed while it goes like a clock."""

from __future__ import annotations

import pytest

from tests.support.clocks import SetClock

TEN_YEARS = 10 * 365 * 24 * 3600.0


def test_a_clock_that_goes_is_trusted() -> None:
    clock = SetClock()
    for _ in range(100):
        clock.pass_time(300)
        assert clock.trusted()


def test_after_a_leap_ahead_it_is_not_trusted_for_an_hour_and_then_again() -> None:
    clock = SetClock()
    clock.wall += TEN_YEARS
    assert not clock.trusted()
    clock.pass_time(3599)
    assert not clock.trusted()
    clock.pass_time(2)
    assert clock.trusted()


def test_a_clock_that_is_put_right_within_the_hour_was_never_believed() -> None:
    clock = SetClock()
    for _ in range(5):
        clock.wall += TEN_YEARS
        assert not clock.trusted()
        clock.pass_time(600)
        assert not clock.trusted()
        clock.wall -= TEN_YEARS
        assert not clock.trusted(), "the hour is not over"
        clock.pass_time(4000)
        assert clock.trusted()


@pytest.mark.parametrize("leap", [-TEN_YEARS, -1.0, 1.0, 3600.0])
def test_a_leap_back_and_a_small_one_change_nothing(leap: float) -> None:
    clock = SetClock()
    clock.wall += leap
    assert clock.trusted()


def test_each_leap_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    clock = SetClock()
    clock.wall += TEN_YEARS
    for _ in range(3):
        clock.trusted()
    assert [record.message for record in caplog.records] == [
        f"the clock leapt ahead by {int(TEN_YEARS)} s; nothing is purged for an hour"
    ]


def test_many_small_leaps_in_a_short_time_are_one(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever sets the clock may also ask as often as they like."""
    clock = SetClock()
    clock.wall += 3000
    assert clock.trusted()
    clock.pass_time(1)
    clock.wall += 3000
    assert not clock.trusted()
