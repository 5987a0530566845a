"""Which snapshots a policy keeps, in restic's words."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admin.retention import Policy, reasons_to_keep
from common.vault.snapshot import Snapshot
from consumer.snapshots import KeptSnapshot

NS = 1_000_000_000
HOUR = 3600 * NS
START = 1_767_225_600 * NS  # 2026-01-01 00:00 UTC, a Thursday


def local(nanoseconds: int) -> datetime:
    return datetime.fromtimestamp(nanoseconds // NS, timezone.utc)


def taken(number: int, at: int, label: str = "photos", failed: int = 0) -> KeptSnapshot:
    snapshot = Snapshot(
        taken_at=at,
        host="h",
        user="u",
        label=label,
        paths=[],
        root=bytes(32),
        k=2,
        n=3,
        files=1,
        folders=0,
        size=1,
        failed=failed,
        skipped=0,
        nonce=bytes(16),
    )
    return KeptSnapshot(number.to_bytes(32, "big"), snapshot)


def kept(snapshots: list[KeptSnapshot], policy: Policy) -> list[int]:
    """The numbers of those that are kept."""
    reasons = reasons_to_keep(snapshots, policy, local)
    return [int.from_bytes(sha256, "big") for sha256, why in reasons.items() if why]


HOURLY = [taken(number, START + number * HOUR) for number in range(100)]  # four days and four hours


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Policy(last=3), [97, 98, 99]),
        (Policy(hourly=2), [98, 99]),
        (Policy(daily=2), [95, 99]),
        (Policy(daily=100), [23, 47, 71, 95, 99]),
        (Policy(weekly=2), [95, 99]),  # the week ends with Sunday, the fourth
        (Policy(monthly=5), [99]),
        (Policy(yearly=5), [99]),
        (Policy(within=7200), [97, 98, 99]),
        (Policy(last=1, daily=2), [95, 99]),
    ],
)
def test_a_policy_keeps_the_newest_of_each(policy: Policy, expected: list[int]) -> None:
    assert kept(HOURLY, policy) == expected


def test_each_label_is_looked_at_by_itself() -> None:
    other = taken(1000, START, "documents")
    assert kept([*HOURLY, other], Policy(last=1)) == [99, 1000]


def test_a_snapshot_that_lacks_some_stands_for_no_day_that_has_a_complete_one() -> None:
    snapshots = [taken(1, START), taken(2, START + HOUR, failed=3)]
    assert kept(snapshots, Policy(daily=1)) == [1]
    assert kept(snapshots, Policy(last=1)) == [2]
    assert kept(snapshots[1:], Policy(daily=1)) == [2], "better than none"


@given(
    st.lists(st.tuples(st.integers(0, 3000), st.sampled_from("ab"), st.booleans()), max_size=30),
    st.builds(Policy, *[st.integers(0, 4)] * 6, st.none() | st.floats(0, 1e6)),
)
def test_a_policy_keeps_something_of_each_label_and_more_where_it_asks_for_more(
    drawn: list[tuple[int, str, bool]], policy: Policy
) -> None:
    snapshots = [taken(n, START + at * HOUR, label, failed) for n, (at, label, failed) in enumerate(drawn)]
    here = set(kept(snapshots, policy))
    if policy:
        assert {snapshots[number].snapshot.label for number in here} == {label for _, label, _ in drawn}
    more = Policy(policy.last + 1, policy.hourly + 1, policy.daily + 1, 1, 1, 1, policy.within)
    if policy.weekly <= 1 and policy.monthly <= 1 and policy.yearly <= 1:
        assert here <= set(kept(snapshots, more))
