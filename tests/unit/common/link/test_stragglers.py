"""Who answers nothing is waited for as long as the quicker half took, four times over, and a second at least."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from common.link.stragglers import LEAST, Stragglers

FOREVER = 30.0  # seconds


def after(*seconds: float) -> list[asyncio.Future[None]]:
    return [asyncio.ensure_future(asyncio.sleep(each)) for each in seconds]


def run(work: Coroutine[Any, Any, Any]) -> float:
    """How long that took, in seconds of a loop whose clock jumps to whatever is due next."""
    loop = asyncio.new_event_loop()
    now = 0.0
    loop.time = lambda: now  # type: ignore[method-assign]
    select = loop._selector.select  # type: ignore[attr-defined]

    def jump(timeout: float) -> Any:
        nonlocal now
        now += timeout or 0.0
        return select(0)

    loop._selector.select = jump  # type: ignore[attr-defined]
    try:
        loop.run_until_complete(work)
    finally:
        loop.close()
    return now


async def late_of(stragglers: Stragglers, tasks: list[asyncio.Future[None]], **options: Any) -> list[int]:
    late = await stragglers.late(tasks, **options)
    for task in tasks:
        task.cancel()
    return [number for number, task in enumerate(tasks) if task in late]


def test_where_all_answer_none_is_late() -> None:
    async def work() -> None:
        assert await late_of(Stragglers(), after(0.1, 0.2, 0.3)) == []
        assert await late_of(Stragglers(), []) == []

    assert run(work()) < 1


def test_one_that_answers_nothing_is_late_a_second_after_the_others() -> None:
    async def work() -> None:
        assert await late_of(Stragglers(), after(0.1, FOREVER, 0.1, 0.1)) == [1]

    assert LEAST <= run(work()) < 2 * LEAST


def test_where_the_others_need_their_time_it_has_four_times_as_much() -> None:
    async def work() -> None:
        assert await late_of(Stragglers(), after(2, 2, 2, 9)) == []
        assert await late_of(Stragglers(), after(2, 2, 2, 11)) == [3]

    run(work())


def test_the_quicker_half_is_waited_for_however_long_it_takes() -> None:
    async def work() -> None:
        assert await late_of(Stragglers(), after(FOREVER, FOREVER, FOREVER + 1)) == []

    run(work())


def test_few_are_measured_by_those_before() -> None:
    async def work() -> None:
        stragglers = Stragglers()
        assert await late_of(stragglers, after(0.1, 0.1, 0.1)) == []
        assert await late_of(stragglers, after(FOREVER), few=True) == [0]

    assert run(work()) < 2 * LEAST


def test_whoever_knows_when_it_is_enough_says_so() -> None:
    async def work() -> None:
        tasks = after(0.1, 0.1, 5, FOREVER)
        assert await late_of(Stragglers(), tasks, enough=lambda: tasks[2].done()) == [3]

    assert 24 < run(work()) < 26
