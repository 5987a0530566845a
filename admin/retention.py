"""Which snapshots a policy keeps, in restic's words. Pure.

Each label's snapshots are looked at by themselves, the newest first. `last`: so many of the newest; `hourly` and the
like: the newest of each of the last hours (days, …) that have any, by this machine's clock; `within`: all that were
taken in this time before the newest. A snapshot is kept for any of these. One that is incomplete stands for no hour or
day while there is a complete one of its label: it may lack what that one has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Optional

from consumer.snapshots import KeptSnapshot

_NS = 1_000_000_000
_PERIODS: dict[str, Callable[[datetime], tuple[int, ...]]] = {
    "hourly": lambda moment: (moment.year, moment.month, moment.day, moment.hour),
    "daily": lambda moment: (moment.year, moment.month, moment.day),
    "weekly": lambda moment: tuple(moment.isocalendar())[:2],
    "monthly": lambda moment: (moment.year, moment.month),
    "yearly": lambda moment: (moment.year,),
}


@dataclass(frozen=True)
class Policy:
    """How many of each are kept; `within` in seconds. One that keeps nothing is none."""

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    within: Optional[float] = None

    def __bool__(self) -> bool:
        return self != Policy()


def reasons_to_keep(
    snapshots: Sequence[KeptSnapshot], policy: Policy, local: Callable[[int], datetime]
) -> dict[bytes, list[str]]:
    """Snapshot's SHA-256 → why it is kept; nothing: it is forgotten. `local`: the time of so many ns since 1970."""
    kept: dict[bytes, list[str]] = {each.sha256: [] for each in snapshots}
    for label in dict.fromkeys(each.snapshot.label for each in snapshots):
        own = [each for each in snapshots if each.snapshot.label == label]
        own.sort(key=lambda each: (each.snapshot.taken_at, each.sha256), reverse=True)
        _keep(own, policy, local, kept)
    return kept


def _keep(
    newest_first: list[KeptSnapshot],
    policy: Policy,
    local: Callable[[int], datetime],
    kept: dict[bytes, list[str]],
) -> None:
    for each in newest_first[: policy.last]:
        kept[each.sha256].append("last")
    if policy.within is not None:
        since = newest_first[0].snapshot.taken_at - policy.within * _NS
        for each in newest_first:
            if each.snapshot.taken_at >= since:
                kept[each.sha256].append("within")
    complete = [each for each in newest_first if each.snapshot.complete] or newest_first
    for name, period_of in _PERIODS.items():
        seen: list[tuple[int, ...]] = []
        for each in complete:
            period = period_of(local(each.snapshot.taken_at))
            if len(seen) < getattr(policy, name) and period not in seen:
                seen.append(period)
                kept[each.sha256].append(name)
