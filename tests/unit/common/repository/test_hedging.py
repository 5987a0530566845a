"""A late answer is asked of another share, too; the first good ones win, and slow devices are asked last."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Optional

import pytest

from common.repository.hedging import Choice, HedgedRequest, Holder
from tests.support.memory_cluster import run

DEVICES = [bytes([number]) * 16 for number in range(6)]
HOLDERS = [Holder(share, device) for share, device in enumerate(DEVICES)]
SOON = 0.01  # seconds after which a device that hangs is late here
NEVER = 1000.0


class Course:
    """Six devices: some hang until they are told to answer, some give nothing good; the others answer at once."""

    def __init__(self, *, hang: Collection[int] = (), bad: Collection[int] = (), slow: Collection[int] = ()) -> None:
        self.hung = {device: asyncio.Event() for device in hang}
        self._bad = bad
        self._slow = {DEVICES[device] for device in slow}
        self.asked: list[int] = []
        self.cancelled: list[int] = []

    def late_after(self, device: bytes) -> float:
        return SOON if DEVICES.index(device) in self.hung else NEVER  # whoever answers at once is never late

    def slow(self) -> set[bytes]:
        return self._slow

    def race(self, wanted: int, holders: Optional[list[Holder]] = None) -> HedgedRequest[Optional[str], str]:
        return HedgedRequest(wanted, Choice(wanted, holders or HOLDERS), self, self.ask, self.check)

    def ask(self, holder: Holder) -> asyncio.Future[Optional[str]]:
        return asyncio.ensure_future(self._answer(holder))

    def check(self, _holder: Holder, answer: asyncio.Future[Optional[str]]) -> Optional[str]:
        return answer.result()

    async def _answer(self, holder: Holder) -> Optional[str]:
        device = DEVICES.index(holder.device)
        self.asked.append(device)
        try:
            if device in self.hung:
                await self.hung[device].wait()
            return None if device in self._bad else f"answer {holder.share} of {device}"
        except asyncio.CancelledError:
            self.cancelled.append(device)
            raise


def answers(*shares: int) -> dict[int, str]:
    return {share: f"answer {share} of {share}" for share in shares}


def test_with_nobody_late_only_as_many_are_asked_as_are_wanted() -> None:
    async def race() -> None:
        course = Course()
        assert await course.race(3).run() == answers(0, 1, 2)
        assert course.asked == [0, 1, 2]

    run(race())


def test_where_one_hangs_another_is_asked_and_the_one_that_hung_is_given_up() -> None:
    async def race() -> None:
        course = Course(hang={1})
        assert await course.race(3).run() == answers(0, 2, 3)
        assert course.asked == [0, 1, 2, 3]
        await asyncio.sleep(0)
        assert course.cancelled == [1]

    run(race())


def test_where_two_hang_two_others_are_asked() -> None:
    async def race() -> None:
        course = Course(hang={0, 2})
        assert await course.race(3).run() == answers(1, 3, 4)

    run(race())


def test_a_second_choice_that_hangs_too_is_followed_by_the_next() -> None:
    async def race() -> None:
        course = Course(hang={1, 3, 4})
        assert await course.race(3).run() == answers(0, 2, 5)

    run(race())


def test_a_late_answer_still_counts_where_it_is_the_first() -> None:
    async def race() -> None:
        course = Course(hang={0, 1, 2, 3, 4, 5})
        task = asyncio.ensure_future(course.race(1).run())
        while len(course.asked) < 6:  # each was late, and the next one asked
            await asyncio.sleep(SOON)
        course.hung[0].set()
        assert await task == answers(0)
        await asyncio.sleep(0)
        assert sorted(course.cancelled) == [1, 2, 3, 4, 5]

    run(race())


def test_a_bad_answer_is_replaced_at_once() -> None:
    async def race() -> None:
        course = Course(bad={0, 1})
        assert await course.race(3).run() == answers(2, 3, 4)

    run(race())


def test_with_too_few_left_it_ends_with_what_it_has_and_says_how_many_there_were() -> None:
    async def race() -> None:
        course = Course(bad={1, 2, 3, 4, 5})
        contest = course.race(2)
        assert await contest.run() == answers(0)
        assert contest.had == 1

    run(race())


def test_what_hangs_still_may_answer_and_is_waited_for_where_it_is_needed() -> None:
    async def race() -> None:
        course = Course(hang={0}, bad={2, 3, 4, 5})
        task = asyncio.ensure_future(course.race(2).run())
        while len(course.asked) < 6:
            await asyncio.sleep(SOON)
        assert not task.done()
        course.hung[0].set()
        assert await task == answers(0, 1)

    run(race())


def test_slow_devices_are_asked_last() -> None:
    async def race() -> None:
        course = Course(slow={0, 2})
        assert await course.race(3).run() == answers(1, 3, 4)
        assert course.asked == [1, 3, 4]

    run(race())


def test_slow_devices_are_asked_where_nobody_else_is_left() -> None:
    async def race() -> None:
        course = Course(slow={0, 2, 3, 4})
        assert await course.race(3).run() == answers(0, 1, 5)
        assert course.asked == [1, 5, 0]

    run(race())


def test_a_slow_one_is_asked_only_once_one_is_late_twice_over() -> None:
    async def race() -> None:
        course = Course(hang={1}, slow={3, 4, 5})
        course.late_after = lambda device: 0.1 if device == DEVICES[1] else NEVER  # type: ignore[method-assign]
        loop = asyncio.get_running_loop()
        started = loop.time()
        assert await course.race(3).run() == answers(0, 2, 3)
        assert course.asked == [0, 1, 2, 3]
        assert loop.time() - started >= 0.2

    run(race())


def test_where_all_others_are_slow_one_that_hangs_is_not_waited_for_without_end() -> None:
    async def race() -> None:
        course = Course(hang={0}, bad={1}, slow={2, 3, 4, 5})
        assert await asyncio.wait_for(course.race(2).run(), 60) == answers(2, 3)

    run(race())


def test_another_copy_of_a_share_that_is_late_may_take_its_place() -> None:
    async def race() -> None:
        course = Course(hang={0})
        copy = Holder(0, DEVICES[5])
        contest = course.race(2, [HOLDERS[0], HOLDERS[1], copy])
        assert await contest.run() == {0: "answer 0 of 5", 1: "answer 1 of 1"}

    run(race())


def test_a_fault_in_judging_an_answer_ends_the_race_and_is_told_to_whoever_asked() -> None:
    async def race() -> None:
        course = Course(hang={1})

        def check(_holder: Holder, _answer: asyncio.Future[Optional[str]]) -> Optional[str]:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await HedgedRequest(2, Choice(2, HOLDERS), course, course.ask, check).run()
        await asyncio.sleep(0)
        assert course.cancelled == [1]

    run(race())


def test_an_answer_that_comes_in_the_moment_in_which_the_race_ends_is_judged() -> None:
    async def race() -> None:
        judged: list[int] = []
        futures: dict[Holder, asyncio.Future[Optional[str]]] = {}

        def ask(holder: Holder) -> asyncio.Future[Optional[str]]:
            futures[holder] = asyncio.get_running_loop().create_future()
            return futures[holder]

        def check(holder: Holder, answer: asyncio.Future[Optional[str]]) -> Optional[str]:
            judged.append(holder.share)
            return answer.result()

        task = asyncio.ensure_future(HedgedRequest(2, Choice(2, HOLDERS[:2]), Course(), ask, check).run())
        await asyncio.sleep(0)
        futures[HOLDERS[0]].set_result(None)  # not good, so that too few are left
        await asyncio.sleep(0)
        futures[HOLDERS[1]].set_result("good")
        assert await task == {1: "good"}
        assert judged == [0, 1]

    run(race())


def test_ending_the_race_gives_up_all_questions() -> None:
    async def race() -> None:
        course = Course(hang={0, 1, 2, 3, 4, 5})
        task = asyncio.ensure_future(course.race(2).run())
        while len(course.asked) < 2:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(0)
        assert sorted(course.cancelled) == sorted(course.asked)

    run(race())
