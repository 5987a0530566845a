"""The window: requests go in the order in which they came, within both limits, and one that gives up takes nothing."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.link.window import Window


class Requests:
    """Requests at a window: who was admitted, in which order, and what is under way."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._sizes: dict[str, int] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.admitted: list[str] = []
        self.under_way: list[str] = []

    async def enter(self, name: str, size: int) -> None:
        self._sizes[name] = size
        self._tasks[name] = asyncio.create_task(self._enter(name, size))
        await settled()

    async def _enter(self, name: str, size: int) -> None:
        await self._window.enter(size)
        self.admitted.append(name)
        self.under_way.append(name)

    async def leave(self, name: str) -> None:
        self.under_way.remove(name)
        self._window.leave(self._sizes[name])
        await settled()

    def cancel(self, name: str) -> None:
        self._tasks[name].cancel()

    async def cancelled(self, name: str) -> None:
        self.cancel(name)
        with pytest.raises(asyncio.CancelledError):
            await self._tasks[name]

    @property
    def bytes_under_way(self) -> int:
        return sum(self._sizes[name] for name in self.under_way)

    @property
    def waiting(self) -> list[str]:
        return [name for name, task in self._tasks.items() if not task.done()]

    def leave_unawaited(self, name: str) -> None:
        self.under_way.remove(name)
        self._window.leave(self._sizes[name])


async def settled() -> None:
    """Every task that can go on has."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_so_many_requests_are_admitted_and_the_others_wait_their_turn() -> None:
    async def scenario() -> None:
        requests = Requests(Window(2, 1000))
        for name in "abcd":
            await requests.enter(name, 1)
        assert requests.admitted == ["a", "b"]
        await requests.leave("b")
        assert requests.admitted == ["a", "b", "c"]
        await requests.leave("a")
        assert requests.admitted == ["a", "b", "c", "d"]

    asyncio.run(scenario())


def test_so_many_bytes_are_admitted_and_not_one_more() -> None:
    async def scenario() -> None:
        requests = Requests(Window(10, 100))
        await requests.enter("a", 60)
        await requests.enter("b", 40)
        await requests.enter("c", 1)
        assert requests.admitted == ["a", "b"]
        await requests.leave("b")
        assert requests.admitted == ["a", "b", "c"]

    asyncio.run(scenario())


def test_a_small_request_does_not_pass_a_large_one_that_came_before() -> None:
    async def scenario() -> None:
        requests = Requests(Window(10, 100))
        await requests.enter("under way", 60)
        await requests.enter("large", 60)
        await requests.enter("small", 1)
        assert requests.admitted == ["under way"]
        await requests.leave("under way")
        assert requests.admitted == ["under way", "large", "small"]

    asyncio.run(scenario())


def test_a_request_larger_than_the_whole_credit_goes_alone() -> None:
    async def scenario() -> None:
        requests = Requests(Window(10, 100))
        await requests.enter("a", 1)
        await requests.enter("huge", 1000)
        await requests.enter("b", 1)
        assert requests.admitted == ["a"]
        await requests.leave("a")
        assert requests.admitted == ["a", "huge"]
        await requests.leave("huge")
        assert requests.admitted == ["a", "huge", "b"]

    asyncio.run(scenario())


def test_one_that_leaves_may_let_several_in() -> None:
    async def scenario() -> None:
        requests = Requests(Window(10, 100))
        await requests.enter("large", 100)
        for name in "abc":
            await requests.enter(name, 30)
        await requests.leave("large")
        assert requests.admitted == ["large", "a", "b", "c"]

    asyncio.run(scenario())


def test_one_that_gives_up_while_it_waits_takes_nothing_and_holds_up_nobody() -> None:
    async def scenario() -> None:
        requests = Requests(Window(1, 100))
        for name in "abc":
            await requests.enter(name, 100)
        await requests.cancelled("b")
        await requests.leave("a")
        assert requests.admitted == ["a", "c"]
        await requests.leave("c")
        await requests.enter("d", 100)
        assert requests.admitted == ["a", "c", "d"]

    asyncio.run(scenario())


def test_when_all_who_wait_give_up_the_window_is_free_again() -> None:
    async def scenario() -> None:
        requests = Requests(Window(1, 100))
        for name in "abc":
            await requests.enter(name, 100)
        await requests.cancelled("b")
        await requests.cancelled("c")
        await requests.leave("a")
        await requests.enter("d", 100)
        assert requests.admitted == ["a", "d"]

    asyncio.run(scenario())


def test_one_that_is_cancelled_in_the_moment_of_its_turn_gives_it_to_the_next() -> None:
    async def scenario() -> None:
        requests = Requests(Window(1, 100))
        for name in "abc":
            await requests.enter(name, 100)
        requests.leave_unawaited("a")  # it is now the turn of b, which has not run yet
        await requests.cancelled("b")
        await settled()
        assert requests.admitted == ["a", "c"]
        await requests.leave("c")
        await requests.enter("d", 100)
        assert requests.admitted == ["a", "c", "d"]

    asyncio.run(scenario())


@given(st.integers(1, 4), st.integers(1, 50), st.data())
def test_in_any_order_of_events_limits_and_order_hold_and_nobody_waits_for_ever(
    most_requests: int, credit: int, data: st.DataObject
) -> None:
    async def scenario() -> None:
        requests = Requests(Window(most_requests, credit))
        given_up = set()
        for number in range(data.draw(st.integers(1, 12))):
            event = data.draw(st.sampled_from(["enter", "enter", "leave", "cancel", "leave and cancel"]))
            if event == "enter":
                await requests.enter(f"{number:02}", data.draw(st.integers(0, 60)))
            if event.startswith("leave") and requests.under_way:
                requests.leave_unawaited(data.draw(st.sampled_from(requests.under_way)))
            if event.endswith("cancel") and requests.waiting:
                name = data.draw(st.sampled_from(requests.waiting))
                given_up.add(name)
                requests.cancel(name)
            await settled()
            assert len(requests.under_way) <= most_requests
            assert requests.bytes_under_way <= credit or len(requests.under_way) == 1
        while requests.under_way:
            await requests.leave(requests.under_way[0])
        assert requests.waiting == []
        assert requests.admitted == sorted(requests.admitted)
        assert not given_up & set(requests.admitted)

    asyncio.run(scenario())
