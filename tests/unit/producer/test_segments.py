"""The producer's buffers: never more memory than there is room, lent again, and to each in its turn."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from producer.encoding import Bytes
from producer.segments import Buffers

SEGMENT = 6 << 20  # bytes: six of them fit into the memory there is
PATIENCE = 20.0  # seconds


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, PATIENCE))


async def is_waiting(task: asyncio.Task[Bytes]) -> bool:
    """Whether it still waits, once everything that can go on has."""
    for _ in range(5):
        await asyncio.sleep(0)
    return not task.done()


def test_a_buffer_that_comes_back_is_lent_again() -> None:
    async def lend() -> None:
        buffers = Buffers(SEGMENT)
        first = await buffers.take(2)
        assert first.nbytes == 2 * SEGMENT
        buffers.give_back(first, 2)
        assert await buffers.take(2) is first

    run(lend())


def test_one_that_must_not_be_used_again_is_not() -> None:
    async def lend() -> None:
        buffers = Buffers(SEGMENT)
        first = await buffers.take()
        buffers.give_back(None)
        assert await buffers.take() is not first

    run(lend())


def test_who_wants_more_than_is_left_waits_and_is_served_before_those_who_came_later() -> None:
    async def lend() -> None:
        buffers = Buffers(SEGMENT)
        held = [await buffers.take() for _ in range(6)]
        batch = asyncio.create_task(buffers.take(2))
        stream = asyncio.create_task(buffers.take())
        assert await is_waiting(batch)
        buffers.give_back(held.pop())
        assert await is_waiting(batch)
        assert await is_waiting(stream), "the batch would wait for ever behind streams"
        buffers.give_back(held.pop())
        assert (await batch).nbytes == 2 * SEGMENT
        assert await is_waiting(stream)
        buffers.give_back(held.pop())
        await stream

    run(lend())


def test_of_large_segments_two_fit_at_least() -> None:
    async def lend() -> None:
        buffers = Buffers(64 << 20)
        await buffers.take()
        await buffers.take()
        assert await is_waiting(asyncio.create_task(buffers.take()))

    run(lend())


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([1, 2])), max_size=40))
def test_lent_and_kept_together_are_never_more_than_there_is_room_for(steps: list[tuple[bool, int]]) -> None:
    async def lend() -> None:
        buffers = Buffers(SEGMENT)
        lent: list[tuple[Bytes, int]] = []
        for is_taken, segments in steps:
            if is_taken and sum(size for _, size in lent) + segments <= 6:
                lent.append((await buffers.take(segments), segments))
            elif lent:
                buffers.give_back(*lent.pop(0))
            assert sum(size for _, size in lent) + buffers.kept_segments <= 6
            assert len({id(buffer) for buffer, _ in lent}) == len(lent), "one buffer is lent twice"

    run(lend())
