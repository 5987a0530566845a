"""Of a put and a prune that are held and killed anywhere, what a snapshot names is there; and what would be without.

CI tries a part of the cases. All of them, in some minutes: TESSERA_SWEEP=1 python -m pytest tests/unit/snapshots
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from admin import prune_plans, pruning
from producer import run as run_of_producer
from tests.unit.snapshots.sweep import Failed, Ground, ground, sweep

PUT_PRUNE, PUT_PUT = ("put", "prune"), ("put", "put")  # who is held, who is killed
PRUNE_PUT, PRUNE_PRUNE = ("prune", "put"), ("prune", "prune")
# In CI: the messages before which one is held, and before which one is killed.
STEPS = {PUT_PRUNE: (1, 9), PUT_PUT: (1, 3), PRUNE_PUT: (2, 9), PRUNE_PRUNE: (2, 15)}


@pytest.fixture(scope="module")
def prepared() -> Iterator[Ground]:
    with ground() as made:
        yield made


def steps_of(case: tuple[str, str]) -> tuple[int, int]:
    return (1, 1) if "TESSERA_SWEEP" in os.environ else STEPS[case]


@pytest.mark.parametrize("case", STEPS, ids=lambda case: f"{case[0]} held, {case[1]} killed")
def test_what_a_snapshot_names_is_there_wherever_one_is_held_and_killed(
    prepared: Ground, case: tuple[str, str]
) -> None:
    outcomes = sweep(prepared, *case, *steps_of(case))
    assert {outcome.put_ended_well for outcome in outcomes} == {True, False}, "either is not tried at all"


class NoPlan:
    async def stands(self) -> bool:
        return True

    async def end(self, trash_days: int) -> None:
        pass

    async def remove(self) -> None:
        pass


async def no_plan(*_: object) -> Any:
    return NoPlan()


async def not_pruning(*_: object) -> bool:
    return False


async def nothing(*_: object, **__: object) -> None:
    pass


def announced_late(announce: Any) -> Any:
    """The plan is kept once the snapshots have been read."""

    async def later(*arguments: Any) -> Any:
        class Late(NoPlan):
            plan: Any = None

            async def stands(self) -> bool:
                self.plan = await announce(*arguments)
                return True

            async def end(self, trash_days: int) -> None:
                plan = self.plan or await announce(*arguments)
                await plan.end(trash_days)

        return Late()

    return later


async def removed_early(plan: prune_plans.PrunePlan) -> bool:
    await plan.remove()
    return True


WITHOUT: dict[str, tuple[tuple[str, str], list[tuple[Any, str, Any]]]] = {
    "a plan": (PRUNE_PRUNE, [(pruning, "announce", no_plan), (run_of_producer, "_is_pruning", not_pruning)]),
    "a put that looks for plans": (PRUNE_PRUNE, [(run_of_producer, "_is_pruning", not_pruning)]),
    "looks at what snapshots came": (PRUNE_PUT, [(pruning, "_new", lambda *_: [])]),
    "taking back": (PRUNE_PRUNE, [(pruning, "undelete_named", nothing)]),
    "a plan from before the look": (PRUNE_PRUNE, [(pruning, "announce", announced_late(prune_plans.announce))]),
    "a plan until all is deleted": (PRUNE_PRUNE, [(prune_plans.PrunePlan, "stands", removed_early)]),
    "a plan in the trash": (PUT_PUT, [(prune_plans.PrunePlan, "end", lambda plan, _: plan.remove())]),
    "a put that looks again": (PUT_PRUNE, [(run_of_producer, "_require_there", nothing)]),
}


@pytest.mark.parametrize("left_out", WITHOUT)
def test_it_would_not_be_without(prepared: Ground, left_out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case, changes = WITHOUT[left_out]
    for where, name, other in changes:
        monkeypatch.setattr(where, name, other)
    with pytest.raises(Failed):
        sweep(prepared, *case, *STEPS[case])
