"""k and n: chosen by the number of live devices, unless the user says otherwise and the devices allow it."""

from __future__ import annotations

from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.coding.redundancy import DeviceCount, choose
from common.errors import NotEnoughError, UsageError


@pytest.mark.parametrize(
    ("live", "chosen"), [(3, (2, 3)), (4, (2, 4)), (5, (3, 5)), (6, (4, 6)), (7, (4, 6)), (64, (4, 6)), (500, (4, 6))]
)
def test_the_number_of_live_devices_decides(live: int, chosen: tuple[int, int]) -> None:
    assert choose(live) == chosen


@pytest.mark.parametrize("live", [0, 1, 2])
def test_fewer_than_three_devices_are_refused_with_what_is_needed(live: int) -> None:
    with pytest.raises(NotEnoughError, match=f"{live} of at least 3") as refusal:
        choose(live)
    assert "strengthen" in str(refusal.value.advice), "without redundancy, and until when"


@pytest.mark.parametrize(
    ("live", "listed", "k", "n", "chosen"),
    [
        pytest.param(2, 3, None, None, (2, 3), id="one of three is away"),
        pytest.param(3, 5, None, None, (3, 5), id="two of five are away"),
        pytest.param(5, 6, None, None, (4, 6), id="coded for all, although fewer would do"),
        pytest.param(3, 7, None, None, (2, 3), id="too few for the code of all: for those that are here"),
        pytest.param(6, 6, None, None, (4, 6), id="all are here"),
        pytest.param(4, 6, 3, 6, (3, 6), id="as was asked for"),
        pytest.param(2, 6, None, None, None, id="fewer than k are here"),
        pytest.param(2, 2, None, None, None, id="there never were three"),
    ],
)
def test_where_degraded_is_accepted_the_code_is_that_of_all_devices_on_the_list(
    live: int, listed: int, k: Optional[int], n: Optional[int], chosen: Optional[tuple[int, int]]
) -> None:
    devices = DeviceCount(live, listed)
    if chosen is None:
        with pytest.raises(NotEnoughError):
            devices.choose(k, n, accept_degraded=True)
    else:
        assert devices.choose(k, n, accept_degraded=True) == chosen


@pytest.mark.parametrize(
    ("live", "listed", "k", "n", "told"),
    [(2, 3, None, None, True), (4, 6, 3, 6, True), (1, 3, None, None, False), (2, 2, None, None, False)],
)
def test_a_refusal_names_accept_degraded_where_that_would_do(
    live: int, listed: int, k: Optional[int], n: Optional[int], told: bool
) -> None:
    with pytest.raises(NotEnoughError) as refusal:
        DeviceCount(live, listed).choose(k, n, accept_degraded=False)
    assert ("--accept-degraded" in str(refusal.value.advice)) is told


@pytest.mark.parametrize(
    ("live", "k", "n", "chosen"),
    [
        pytest.param(2, 2, 2, (2, 2), id="without redundancy, on request"),
        pytest.param(6, 3, 5, (3, 5), id="both given"),
        pytest.param(64, 64, 64, (64, 64), id="the most there can be"),
        pytest.param(10, 5, None, (5, 7), id="k alone"),
        pytest.param(6, 5, None, (5, 6), id="k alone, of few devices"),
        pytest.param(10, None, 3, (2, 3), id="n = 3 alone"),
        pytest.param(10, None, 4, (2, 4), id="n = 4 alone"),
        pytest.param(10, None, 10, (8, 10), id="n alone"),
    ],
)
def test_what_the_user_gave_stays(live: int, k: Optional[int], n: Optional[int], chosen: tuple[int, int]) -> None:
    assert choose(live, k, n) == chosen


@pytest.mark.parametrize(
    ("k", "n"), [(0, 2), (-1, None), (3, 2), (2, 65), (65, None), (2, 0), (None, 0), (None, -3), (None, 65)]
)
def test_a_k_and_n_that_do_not_go_together_are_refused(k: Optional[int], n: Optional[int]) -> None:
    with pytest.raises(UsageError, match="2 ≤ k ≤ n ≤ 64"):
        choose(100, k, n)


@pytest.mark.parametrize(("k", "n"), [(1, 1), (1, 3), (1, None), (None, 1), (None, 2)])
def test_a_whole_image_on_one_device_is_refused(k: Optional[int], n: Optional[int]) -> None:
    with pytest.raises(UsageError, match="whole image on one device"):
        choose(6, k, n)


@pytest.mark.parametrize(("k", "n"), [(4, 6), (None, 6), (2, 6), (5, None), (4, None)])
def test_more_shares_than_live_devices_are_refused_by_the_number_of_devices(k: Optional[int], n: Optional[int]) -> None:
    with pytest.raises(NotEnoughError, match="3 are alive"):
        choose(3, k, n)


@given(
    st.integers(0, 100),
    st.none() | st.integers(-2, 70),
    st.none() | st.integers(-2, 70),
)
def test_a_choice_is_possible_on_these_devices_and_keeps_what_was_given(
    live: int, k: Optional[int], n: Optional[int]
) -> None:
    try:
        chosen_k, chosen_n = choose(live, k, n)
    except (UsageError, NotEnoughError):
        return
    assert 2 <= chosen_k <= chosen_n <= min(live, 64)
    assert k in (None, chosen_k)
    assert n in (None, chosen_n)


@pytest.mark.parametrize(
    ("k", "n", "live", "listed", "weak"),
    [
        pytest.param(2, 3, 3, 3, False, id="as strong as three devices allow"),
        pytest.param(2, 3, 3, 5, False, id="the others are not here now"),
        pytest.param(2, 3, 4, 4, True, id="a fourth device came"),
        pytest.param(2, 2, 3, 3, True, id="stored without redundancy"),
        pytest.param(2, 2, 2, 2, False, id="two devices allow no better"),
        pytest.param(2, 4, 6, 6, False, id="other numbers, as many devices may be lost"),
        pytest.param(3, 9, 9, 9, False, id="stronger than it need be, as was asked for"),
        pytest.param(4, 6, 5, 6, False, id="one is away, and comes back"),
        pytest.param(4, 6, 5, 5, True, id="one is gone for good: its share has no place"),
    ],
)
def test_an_image_is_weak_where_more_devices_might_be_lost_were_it_stored_now(
    k: int, n: int, live: int, listed: int, weak: bool
) -> None:
    assert DeviceCount(live, listed).could_be_stronger(k, n) is weak
