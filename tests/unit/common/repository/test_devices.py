"""Questions of one moment to one device travel in one message, and whoever asked notices nothing of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Callable, Optional
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import IntegrityError, ProtocolError, TesseraError, UnreachableError
from common.link.replies import DeclinedError, Reply
from common.protocol.codec import MAX_HEADER, MAX_PAYLOAD, pack
from common.protocol.device_messages import BlockName, Describe, Described, Fetch, Fetched, Part, ShareName, Wanted
from common.protocol.messages import GRANTED, MAX_BATCH, Answer, Code
from common.protocol.operations import FETCH, H, R, Spec
from common.repository.devices import Description, Devices
from common.repository.latency import FIRST_LATE_AFTER, MIN_LATE_AFTER
from tests.support.memory_cluster import run
from tests.support.sample_images import chance

ONE, TWO = chance("device one", 16), chance("device two", 16)
ENCODING = bytes(range(16))
MESSAGE_BYTES = 1 << 20


def block_of(name: BlockName, length: int) -> bytes:
    return chance(f"{name.share} {name.segment}", length)


class FakeLink:
    """In place of `Link`: answers from what it is told, once it may."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, Any, int]] = []  # device, header, most bytes of the reply
        self.lengths: dict[tuple[int, int], int] = {}  # (share, segment) → bytes of the block
        self.alter: Callable[[Any, bytes], tuple[Any, bytes]] = lambda header, payload: (header, payload)
        self.error: Optional[TesseraError] = None
        self.may_answer = asyncio.Event()
        self.cancelled = 0

    async def request(self, operation: Spec[H, R], header: Any, *, device: bytes, reply_bytes: int) -> Reply[Any]:
        self.sent.append((device, header, reply_bytes))
        assert len(pack(header)) <= MAX_HEADER
        assert reply_bytes <= MAX_PAYLOAD
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        replied, payload = self.alter(*self._answer(header))
        assert isinstance(replied, operation.reply)
        return Reply(replied, memoryview(payload))

    def _answer(self, header: Any) -> tuple[Any, bytes]:
        if isinstance(header, Fetch):
            blocks = [block_of(name, self.lengths[name.share, name.segment]) for name in header.blocks]
            return Fetched(GRANTED, [Part(GRANTED, len(block)) for block in blocks]), b"".join(blocks)
        assert isinstance(header, Describe)
        lengths = [(10 + name.share, 20 if header.wanted is Wanted.RECIPE else 0) for name in header.shares]
        content = b"".join(chance(f"{m} {r}", m + r) for m, r in lengths)
        return Described(GRANTED, [(GRANTED, m, r) for m, r in lengths]), content


class Asking:
    """Questions through `Devices` over a fake link, all asked in one moment."""

    def __init__(self) -> None:
        self.link = FakeLink()
        link: Any = self.link
        self.devices = Devices(link)

    def block(self, device: bytes, share: int, segment: int = 0, length: int = 100) -> asyncio.Task[memoryview]:
        self.link.lengths[share, segment] = length
        name = BlockName(ENCODING, share, segment)
        return asyncio.ensure_future(self.devices.block(device, name, length))

    def describe(self, device: bytes, share: int, *, with_recipe: bool) -> asyncio.Task[Description]:
        name = ShareName(ENCODING, share)
        return asyncio.ensure_future(self.devices.description(device, name, 100, with_recipe=with_recipe))

    async def sent(self) -> list[tuple[bytes, Any, int]]:
        """What went out, once all that was asked has had its moment."""
        for _ in range(5):
            await asyncio.sleep(0)
        return self.link.sent

    async def outcomes(self, *tasks: asyncio.Task[Any]) -> list[Any]:
        self.link.may_answer.set()
        return list(await asyncio.gather(*tasks, return_exceptions=True))


@contextmanager
def patched_clock(later: float) -> Iterator[None]:
    """Within, it is so many seconds later."""
    loop = asyncio.get_running_loop()
    now = loop.time()
    with mock.patch.object(loop, "time", lambda: now + later):
        yield


def names(header: Fetch) -> list[tuple[int, int]]:
    return [(name.share, name.segment) for name in header.blocks]


def test_questions_of_one_moment_to_one_device_travel_together() -> None:
    async def ask() -> None:
        asking = Asking()
        tasks = [asking.block(ONE, share) for share in range(5)]
        ((device, header, reply_bytes),) = await asking.sent()
        assert (device, names(header), reply_bytes) == (ONE, [(share, 0) for share in range(5)], 500)
        blocks = await asking.outcomes(*tasks)
        assert [bytes(block) for block in blocks] == [block_of(BlockName(ENCODING, s, 0), 100) for s in range(5)]

    run(ask())


def test_questions_to_different_devices_do_not() -> None:
    async def ask() -> None:
        asking = Asking()
        tasks = [asking.block(device, share) for share, device in enumerate([ONE, TWO, ONE, TWO])]
        sent = await asking.sent()
        assert [(device, names(header)) for device, header, _ in sent] == [
            (ONE, [(0, 0), (2, 0)]),
            (TWO, [(1, 0), (3, 0)]),
        ]
        blocks = await asking.outcomes(*tasks)
        assert [bytes(block) for block in blocks] == [block_of(BlockName(ENCODING, s, 0), 100) for s in range(4)]

    run(ask())


def test_questions_of_different_kinds_do_not() -> None:
    async def ask() -> None:
        asking = Asking()
        block = asking.block(ONE, 1)
        whole, alone = asking.describe(ONE, 2, with_recipe=True), asking.describe(ONE, 3, with_recipe=False)
        sent = [header for _, header, _ in await asking.sent()]
        assert [type(header) for header in sent] == [Fetch, Describe, Describe]
        assert [header.wanted for header in sent[1:]] == [Wanted.RECIPE, Wanted.MAPPING]
        _, described, mapping_only = await asking.outcomes(block, whole, alone)
        content = chance("12 20", 32)
        assert described == Description(content[:12], content[12:])
        assert mapping_only == Description(chance("13 0", 13), b"")

    run(ask())


def test_while_a_message_is_under_way_later_questions_wait_and_travel_together() -> None:
    async def ask() -> None:
        asking = Asking()
        tasks = []
        for share in range(5):
            tasks.append(asking.block(ONE, share))
            assert len(await asking.sent()) == 1
        tasks.append(asking.block(TWO, 5))
        assert len(await asking.sent()) == 2, "another device's do not wait"
        blocks = await asking.outcomes(*tasks)
        assert [bytes(block) for block in blocks] == [block_of(BlockName(ENCODING, s, 0), 100) for s in range(6)]
        assert [names(header) for _, header, _ in asking.link.sent[2:]] == [[(share, 0) for share in range(1, 5)]]

    run(ask())


def test_questions_that_fill_a_message_wait_for_nothing() -> None:
    async def ask() -> None:
        asking = Asking()
        tasks = []
        for share in range(6):
            tasks.append(asking.block(ONE, share, length=MESSAGE_BYTES))
            assert len(await asking.sent()) == share + 1
        await asking.outcomes(*tasks)

    run(ask())


def test_where_a_device_does_not_answer_what_waits_for_it_hears_so_at_once() -> None:
    async def ask() -> None:
        asking = Asking()
        tasks = []
        for share in range(4):
            tasks.append(asking.block(ONE, share))
            await asking.sent()
        asking.link.error = UnreachableError("no answer")
        errors = await asking.outcomes(*tasks)
        assert [type(error) for error in errors] == [UnreachableError] * 4
        assert len(asking.link.sent) == 1

    run(ask())


def test_a_question_that_nobody_waits_for_any_more_is_not_sent() -> None:
    async def ask() -> None:
        asking = Asking()
        tasks = []
        for share in range(4):
            tasks.append(asking.block(ONE, share))
            await asking.sent()
        tasks[2].cancel()
        await asking.outcomes(*tasks)
        assert [names(header) for _, header, _ in asking.link.sent] == [[(0, 0)], [(1, 0), (3, 0)]]

    run(ask())


@given(st.lists(st.tuples(st.sampled_from([ONE, TWO]), st.integers(1, MESSAGE_BYTES + 1000)), max_size=200))
def test_messages_keep_within_limits_and_every_question_travels_once(questions: list[tuple[bytes, int]]) -> None:
    async def ask() -> None:
        asking = Asking()
        # A share and a segment tell the questions apart; a share's index is below 64.
        tasks = [asking.block(device, i % 64, i // 64, length) for i, (device, length) in enumerate(questions)]
        at_first = len(await asking.sent())
        blocks = await asking.outcomes(*tasks)
        assert [len(block) for block in blocks] == [length for _, length in questions]
        sent = asking.link.sent
        assert {device for device, _, _ in sent[:at_first]} == {device for device, _ in questions}
        for _, header, reply_bytes in sent:
            assert 1 <= len(header.blocks) <= MAX_BATCH
            assert reply_bytes == sum(asking.link.lengths[name] for name in names(header))
            assert reply_bytes <= MESSAGE_BYTES or len(header.blocks) == 1
        travelled = sorted((device, segment * 64 + share) for device, h, _ in sent for share, segment in names(h))
        assert travelled == sorted((device, i) for i, (device, _) in enumerate(questions))

    run(ask())


def test_a_full_message_is_followed_by_the_next() -> None:
    async def ask() -> None:
        asking = Asking()
        tasks = [asking.block(ONE, share % 64, share // 64) for share in range(MAX_BATCH + 1)]
        assert [len(header.blocks) for _, header, _ in await asking.sent()] == [MAX_BATCH]
        for index, block in enumerate(await asking.outcomes(*tasks)):
            assert bytes(block) == block_of(BlockName(ENCODING, index % 64, index // 64), 100)
        assert [len(header.blocks) for _, header, _ in asking.link.sent] == [MAX_BATCH, 1]

    run(ask())


def test_one_answer_that_is_no_concerns_one_question_only() -> None:
    async def ask() -> None:
        asking = Asking()

        def refuse_the_second(header: Fetched, payload: bytes) -> tuple[Fetched, bytes]:
            parts = [header.parts[0], Part(Answer(Code.DAMAGED, "rotten")), header.parts[2]]
            return Fetched(GRANTED, parts), payload[:100] + payload[200:]

        asking.link.alter = refuse_the_second
        first, second, third = await asking.outcomes(*(asking.block(ONE, share) for share in range(3)))
        assert bytes(first) == block_of(BlockName(ENCODING, 0, 0), 100)
        assert bytes(third) == block_of(BlockName(ENCODING, 2, 0), 100)
        assert isinstance(second, DeclinedError)
        assert (second.code, second.device, second.exit_code) == (Code.DAMAGED, ONE, IntegrityError.exit_code)

    run(ask())


def test_a_question_that_a_busy_device_refused_is_asked_again_until_its_time_is_over() -> None:
    async def ask() -> None:
        asking = Asking()

        def refuse_the_last(header: Fetched, payload: bytes) -> tuple[Fetched, bytes]:
            if len(header.parts) == 1 and not over:
                return header, payload
            parts = [*header.parts[:-1], Part(Answer(Code.BUSY), 0)]
            return Fetched(GRANTED, parts), payload[:-100]

        over = False
        asking.link.alter = refuse_the_last
        blocks = await asking.outcomes(*(asking.block(ONE, share) for share in range(3)))
        assert [bytes(block) for block in blocks] == [block_of(BlockName(ENCODING, s, 0), 100) for s in range(3)]
        assert [names(header) for _, header, _ in asking.link.sent] == [[(0, 0), (1, 0), (2, 0)], [(2, 0)]]
        over, sent = True, asking.link.sent
        waiting, before = asking.block(ONE, 3), len(sent)
        while len(sent) < before + 2:  # it was busy by then: its time begins with that
            await asyncio.sleep(0)
        with patched_clock(later=FETCH.timeout + 1):
            (error,) = await asking.outcomes(waiting)
        assert isinstance(error, DeclinedError)
        assert error.code is Code.BUSY

    run(ask())


FETCH_LIES: dict[str, Callable[[Fetched, bytes], tuple[Fetched, bytes]]] = {
    "a part less": lambda header, payload: (Fetched(GRANTED, header.parts[:-1]), payload[:-100]),
    "a part more": lambda header, payload: (Fetched(GRANTED, [*header.parts, Part(GRANTED, 0)]), payload),
    "no parts": lambda header, payload: (Fetched(GRANTED, []), b""),
    "a byte less": lambda header, payload: (header, payload[:-1]),
    "a byte more": lambda header, payload: (header, payload + b"\0"),
    "no payload": lambda header, payload: (header, b""),
}


@pytest.mark.parametrize("lie", FETCH_LIES.values(), ids=list(FETCH_LIES))
def test_a_reply_that_does_not_answer_what_was_asked_is_a_protocol_error_for_all(
    lie: Callable[[Fetched, bytes], tuple[Fetched, bytes]],
) -> None:
    async def ask() -> None:
        asking = Asking()
        asking.link.alter = lie
        outcomes = await asking.outcomes(*(asking.block(ONE, share) for share in range(3)))
        assert [type(outcome) for outcome in outcomes] == [ProtocolError] * 3

    run(ask())


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([], id="none"),
        pytest.param([(GRANTED, 10, 20)], id="a part less"),
        pytest.param([(GRANTED, 10, 20)] * 3, id="a part more"),
        pytest.param([(GRANTED, 10, 20), (GRANTED, 11, 21)], id="another length"),
        pytest.param([(GRANTED, 10, 20), (GRANTED, 41, -10)], id="a length below zero"),
        pytest.param([(GRANTED, -10, 40), (GRANTED, 11, 20)], id="a length below zero, first"),
        pytest.param([(GRANTED, 100, -70), (GRANTED, 11, 20)], id="lengths that cross"),
    ],
)
def test_a_description_that_does_not_answer_the_question_is_an_error_for_all(
    parts: list[tuple[Answer, int, int]],
) -> None:
    async def ask() -> None:
        asking = Asking()
        asking.link.alter = lambda header, payload: (Described(GRANTED, parts), payload)
        outcomes = await asking.outcomes(*(asking.describe(ONE, share, with_recipe=True) for share in range(2)))
        assert [type(outcome) for outcome in outcomes] == [ProtocolError] * 2

    run(ask())


def test_a_device_that_is_gone_is_gone_for_all_who_asked() -> None:
    async def ask() -> None:
        asking = Asking()
        asking.link.error = DeclinedError(Answer(Code.GONE), ONE)
        outcomes = await asking.outcomes(*(asking.block(ONE, share) for share in range(3)))
        assert [outcome.code for outcome in outcomes] == [Code.GONE] * 3

    run(ask())


def test_whoever_goes_away_does_not_cost_the_others_their_answers() -> None:
    async def ask() -> None:
        asking = Asking()
        tasks = [asking.block(ONE, share) for share in range(3)]
        await asking.sent()
        tasks[1].cancel()
        first, second, third = await asking.outcomes(*tasks)
        assert bytes(first) == block_of(BlockName(ENCODING, 0, 0), 100)
        assert isinstance(second, asyncio.CancelledError)
        assert bytes(third) == block_of(BlockName(ENCODING, 2, 0), 100)

    run(ask())


def test_whoever_goes_away_before_the_message_is_sent_does_not_either() -> None:
    async def ask() -> None:
        asking = Asking()
        tasks = [asking.block(ONE, share) for share in range(2)]
        await asyncio.sleep(0)  # asked, and not sent yet
        tasks[0].cancel()
        first, second = await asking.outcomes(*tasks)
        assert isinstance(first, asyncio.CancelledError)
        assert bytes(second) == block_of(BlockName(ENCODING, 1, 0), 100)

    run(ask())


def test_a_device_is_slow_while_its_answer_is_late_even_when_nobody_wants_it() -> None:
    async def ask() -> None:
        asking = Asking()
        task = asking.block(ONE, 0)
        await asking.sent()
        task.cancel()
        late = asking.devices.late_after(ONE)
        assert asking.devices.slow() == set()
        with patched_clock(later=late + 0.1):
            assert asking.devices.slow() == {ONE}
        assert asking.link.cancelled == 0, "it would hold its place at the broker without anybody knowing"
        await asking.outcomes()
        await asking.sent()
        assert asking.devices.slow() == set()

    run(ask())


def test_the_time_of_an_answer_is_what_makes_the_next_one_late() -> None:
    async def ask() -> None:
        asking = Asking()
        assert asking.devices.late_after(ONE) == FIRST_LATE_AFTER
        await asking.outcomes(asking.block(ONE, 0), asking.describe(TWO, 1, with_recipe=True))
        assert asking.devices.late_after(ONE) == asking.devices.late_after(TWO) == MIN_LATE_AFTER

    run(ask())


def test_when_the_asking_itself_is_stopped_nobody_waits_for_ever() -> None:
    async def ask() -> None:
        asking = Asking()
        tasks = [asking.block(ONE, share) for share in range(2)]
        await asking.sent()
        others = asyncio.all_tasks() - {asyncio.current_task(), *tasks}
        exchange = [task for task in others if "_exchange" in repr(task.get_coro())]
        for task in exchange:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] * 2
        assert asking.link.cancelled == 1

    run(ask())


def test_blocks_that_are_asked_for_together_travel_at_once_and_in_full_messages() -> None:
    async def ask() -> None:
        asking = Asking()
        alone = [asking.block(ONE, 63, segment) for segment in range(3)]  # under way: what comes now waits for none
        await asking.sent()
        wanted = [BlockName(ENCODING, share, 7) for share in range(MAX_BATCH)]
        wanted += [BlockName(ENCODING, 0, segment) for segment in range(10, 13)]
        lengths = [100] * MAX_BATCH + [MESSAGE_BYTES // 2] * 3
        asking.link.lengths.update({(n.share, n.segment): length for n, length in zip(wanted, lengths)})
        answers = asking.devices.blocks(ONE, wanted, lengths)
        sent = (await asking.sent())[1:]
        assert [len(header.blocks) for _, header, _ in sent] == [MAX_BATCH, 2, 1]
        assert [reply_bytes for *_, reply_bytes in sent] == [100 * MAX_BATCH, MESSAGE_BYTES, MESSAGE_BYTES // 2]
        await asking.outcomes(*alone)
        blocks = [bytes(block) for block in await answers if isinstance(block, memoryview)]
        assert blocks == [block_of(name, length) for name, length in zip(wanted, lengths)]

    run(ask())


def test_blocks_that_do_not_come_are_each_an_error_in_their_place() -> None:
    async def ask() -> None:
        asking = Asking()
        declined = Part(Answer(Code.NOT_FOUND), 0)
        asking.link.lengths.update({(share, 0): 10 for share in range(3)})
        asking.link.alter = lambda header, payload: (
            Fetched(GRANTED, [header.parts[0], declined, header.parts[2]]),
            payload[:10] + payload[20:],
        )
        asking.link.may_answer.set()
        wanted = [BlockName(ENCODING, share, 0) for share in range(3)]
        first, second, third = await asking.devices.blocks(ONE, wanted, [10, 10, 10])
        assert isinstance(first, memoryview) and first == block_of(wanted[0], 10)
        assert isinstance(third, memoryview) and third == block_of(wanted[2], 10)
        assert isinstance(second, DeclinedError) and second.code is Code.NOT_FOUND
        for error in (UnreachableError("gone"), ProtocolError("nonsense")):
            asking.link.error = error
            assert await asking.devices.blocks(ONE, wanted, [10, 10, 10]) == [error] * 3

    run(ask())
