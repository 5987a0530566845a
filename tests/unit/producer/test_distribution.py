"""The shares of one image on their devices: a device that fails costs its share only, and the share moves."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from typing import Any, Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import ProtocolError, TesseraError
from common.link.stragglers import LEAST
from common.protocol.codec import pack
from common.protocol.envelope import Operation
from common.protocol.messages import Code
from common.protocol.operations import COMMIT
from producer.broker_coding import BrokerCoding, CodeAt
from producer.distribution import MOVES, Distribution, SentShare, ShareState
from producer.encoding import EncodedSegment
from tests import ROOT
from tests.support.memory_cluster import ClusterDevice, MemoryCluster, run, stored_blocks
from tests.support.sample_images import EncodedImage, chance, encode, segment_size

K, N, SEGMENTS = 2, 4, 5
SOON = 10.0  # seconds; a device has twenty to open a share, and sixty to commit it
IMAGE = encode(chance("image", SEGMENTS * segment_size(K, N) - 30), K, N)
Fault = Callable[[ClusterDevice], None]


class Put:
    """One image on its way to the devices of a cluster in memory, in the steps of `producer.stream`."""

    code_at = CodeAt.BROKER

    def __init__(self, devices: int, image: EncodedImage = IMAGE) -> None:
        self.cluster = MemoryCluster(devices)
        self.image = image
        self.told: list[object] = []
        self.distribution = Distribution(
            self.cluster.link,
            image.code,
            image.slicing,
            image.encoding_id,
            [*self.cluster.ids, *[None] * image.code.n][: image.code.n],
            Code.NO_ROOM,
            self.cluster.name_of,
            broker_coding=BrokerCoding(self.told.append, self.code_at),
        )

    async def store(self) -> None:
        share_bytes = self.image.recipe.share_bytes
        distribution = self.distribution
        await distribution.open(share_bytes)
        for segment in range(len(self.image.blocks)):
            await distribution.append(self.encoded(segment))
        await distribution.move_lost(self.image.recipe)
        await distribution.commit(pack(self.image.signed))
        await distribution.move_lost(self.image.recipe)
        await distribution.commit(pack(self.image.signed))

    def encoded(self, segment: int) -> EncodedSegment:
        blocks = [np.frombuffer(block, np.uint8) for block in self.image.blocks[segment]]
        digests = [self.image.recipe.digest_of(segment, i) for i in range(len(blocks))]
        return EncodedSegment(segment, blocks, digests, np.concatenate(blocks[: self.image.code.k]))

    def assert_all_stored(self) -> None:
        """Every share is committed on one device, the one that it says, with exactly its blocks."""
        committed: set[bytes] = set()
        for share in self.distribution.shares:
            assert share.state is ShareState.COMMITTED
            rows = [row[share.index] for row in self.image.blocks]
            assert stored_blocks(self.cluster, self.image.encoding_id, share.index) == rows
            assert share.device is not None
            device = self.cluster.device(share.device)
            assert device.shares[self.image.encoding_id, share.index].commitment is not None
            committed.add(share.device)
        assert len(committed) == len(self.distribution.shares), "two shares on one device"

    def assert_lost(self, *shares: int) -> None:
        """These shares are lost, and all others committed."""
        states = {share.index: share.state for share in self.distribution.shares}
        assert {index for index, state in states.items() if state is ShareState.LOST} == set(shares)
        assert {index for index, state in states.items() if state is ShareState.COMMITTED} == {
            index for index in states if index not in shares
        }


@pytest.fixture(autouse=True, scope="module", params=CodeAt, ids=lambda code_at: code_at.value)
def code_at(request: pytest.FixtureRequest) -> Iterator[None]:
    """All of this holds wherever parity is made."""
    Put.code_at = request.param
    yield
    Put.code_at = CodeAt.BROKER


def test_each_share_goes_to_its_device() -> None:
    put = Put(N)
    run(put.store())
    put.assert_all_stored()
    assert [share.device for share in put.distribution.shares] == put.cluster.ids


def dies(operation: Operation, at: int = 1) -> Fault:
    return lambda device: device.die(operation, at)


def declines(operation: Operation, code: Code, at: int = 1) -> Fault:
    return lambda device: device.decline(operation, code, at)


def talks_nonsense(operation: Operation, at: int = 1) -> Fault:
    return lambda device: device.fail(operation, lambda: ProtocolError("a message of 9 frames"), at)


FAULTS = [
    pytest.param(dies(Operation.OPEN), id="dies at open"),
    pytest.param(declines(Operation.OPEN, Code.NO_ROOM), id="has no room"),
    pytest.param(talks_nonsense(Operation.OPEN), id="talks nonsense at open"),
    pytest.param(dies(Operation.APPEND, 1), id="dies at the first block"),
    pytest.param(dies(Operation.APPEND, SEGMENTS), id="dies at the last block"),
    pytest.param(declines(Operation.APPEND, Code.NO_ROOM, 3), id="is full in the middle"),
    pytest.param(declines(Operation.APPEND, Code.READ_ONLY, 3), id="goes read-only in the middle"),
    pytest.param(talks_nonsense(Operation.APPEND, 2), id="talks nonsense in the middle"),
    pytest.param(dies(Operation.COMMIT), id="dies at commit"),
    pytest.param(declines(Operation.COMMIT, Code.FAULT), id="cannot sync"),
    pytest.param(talks_nonsense(Operation.COMMIT), id="talks nonsense at commit"),
]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("share", [0, K, N - 1])
def test_the_share_of_a_device_that_fails_moves_to_a_spare_one_block_by_block(fault: Fault, share: int) -> None:
    put = Put(N + 1)
    fault(put.cluster.devices[share])
    run(put.store())
    put.assert_all_stored()
    assert put.distribution.shares[share].device == put.cluster.ids[N]


@pytest.mark.parametrize("fault", FAULTS)
def test_without_a_spare_device_the_share_stays_lost_and_the_others_are_committed(fault: Fault) -> None:
    put = Put(N)
    fault(put.cluster.devices[1])
    run(put.store())
    put.assert_lost(1)


@pytest.mark.parametrize("operation", [Operation.OPEN, Operation.APPEND, Operation.COMMIT])
def test_the_share_of_a_device_that_answers_nothing_moves_long_before_its_timeout(operation: Operation) -> None:
    put = Put(N + 1)
    put.cluster.devices[1].silent = {operation, Operation.FETCH}
    started = time.monotonic()
    run(put.store())
    assert time.monotonic() - started < SOON
    put.assert_all_stored()
    assert put.distribution.shares[1].device == put.cluster.ids[N]


def test_a_spare_device_that_takes_none_of_several_blocks_is_followed_by_the_next() -> None:
    put = Put(N + 2)
    for number in (1, N):
        put.cluster.devices[number].silent = {Operation.APPEND, Operation.FETCH}
    run(put.store())
    put.assert_all_stored()
    assert put.distribution.shares[1].device == put.cluster.ids[N + 1]


def test_a_late_device_that_answers_while_others_are_looked_for_keeps_its_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put = Put(N + 1)
    request, find_others = put.cluster.link.request, put.distribution._other_places
    looked_for = False

    async def late_at_commit(operation: Any, *arguments: Any, **options: Any) -> Any:
        while operation is COMMIT and options["device"] == put.cluster.ids[1] and not looked_for:
            await asyncio.sleep(0)
        return await request(operation, *arguments, **options)

    async def answered_meanwhile(wanted: int) -> int:
        nonlocal looked_for
        looked_for = looked_for or bool(wanted)
        while wanted and put.distribution.shares[1].state is ShareState.OPEN:
            await asyncio.sleep(0)
        return await find_others(wanted)

    monkeypatch.setattr(put.cluster.link, "request", late_at_commit)
    monkeypatch.setattr(put.distribution, "_other_places", answered_meanwhile)
    run(put.store())
    put.assert_all_stored()
    assert put.distribution.shares[1].device == put.cluster.ids[1]


def test_of_two_that_answer_nothing_as_many_shares_move_as_there_are_others() -> None:
    put = Put(N + 2)
    for device in put.cluster.devices[:2]:
        device.silent = {Operation.OPEN}
    started = time.monotonic()
    run(put.store())
    assert time.monotonic() - started < SOON
    put.assert_all_stored()


def test_without_a_spare_device_one_that_is_only_slow_is_waited_for() -> None:
    put = Put(N)
    slow = put.cluster.devices[1]
    slow.silent = {Operation.OPEN}

    async def store() -> None:
        storing = asyncio.ensure_future(put.distribution.open(put.image.recipe.share_bytes))
        await asyncio.sleep(1.5 * LEAST)
        assert not storing.done()
        storing.cancel()

    run(store())
    assert put.distribution.shares[1].state is ShareState.PLACED


def test_a_device_that_failed_is_not_tried_again() -> None:
    put = Put(N)
    put.cluster.devices[1].decline(Operation.APPEND, Code.NO_ROOM, 3)  # this once; it would say yes the next time
    run(put.store())
    put.assert_lost(1)
    assert put.cluster.devices[1].asked[Operation.OPEN] == 1


def test_a_device_that_declined_is_told_to_forget_what_came_so_far() -> None:
    put = Put(N + 1)
    put.cluster.devices[1].decline(Operation.APPEND, Code.READ_ONLY, 3)
    run(put.store())
    assert put.cluster.devices[1].shares == {}


def test_as_many_shares_move_as_there_are_spare_devices() -> None:
    put = Put(N + 1)
    for device in put.cluster.devices[:2]:
        device.die(Operation.APPEND, 4)
    run(put.store())
    put.assert_lost(1)
    assert put.distribution.lost_reasons() == {1: Code.GONE}


def test_a_spare_device_that_fails_too_is_followed_by_the_next() -> None:
    put = Put(N + 2)
    put.cluster.devices[1].die(Operation.APPEND, 2)
    put.cluster.devices[N].die(Operation.APPEND, 3)
    run(put.store())
    put.assert_all_stored()
    assert put.distribution.shares[1].device == put.cluster.ids[N + 1]


def test_a_device_that_dies_while_read_back_is_replaced_by_another_source() -> None:
    put = Put(N + 1)
    put.cluster.devices[N - 1].die(Operation.APPEND, 2)
    put.cluster.devices[0].decline(Operation.FETCH, Code.DAMAGED, 1)
    run(put.store())
    put.assert_all_stored()


def test_a_block_read_back_that_is_not_the_one_sent_is_never_used() -> None:
    put = Put(N + 1)
    put.cluster.devices[N - 1].die(Operation.COMMIT)

    async def store() -> None:
        await put.distribution.open(put.image.recipe.share_bytes)
        for segment in range(SEGMENTS):
            await put.distribution.append(put.encoded(segment))
        put.cluster.devices[0].lies = True
        put.distribution.shares[N - 1].move(ShareState.LOST)
        await put.distribution.move_lost(put.image.recipe)
        put.cluster.devices[0].lies = False
        await put.distribution.commit(pack(put.image.signed))

    run(store())
    put.assert_all_stored()


def test_nothing_moves_when_fewer_than_k_shares_are_left() -> None:
    put = Put(N + 2)
    for device in put.cluster.devices[: N - K + 1]:
        device.die(Operation.APPEND, 2)
    run(put.store())
    assert put.distribution.count(ShareState.LOST) == N - K + 1
    assert all(device.asked[Operation.OPEN] == 0 for device in put.cluster.devices[N:])


def test_shares_that_were_given_no_device_begin_as_lost_for_want_of_room() -> None:
    put = Put(N - 1)
    assert put.distribution.lost_reasons() == {N - 1: Code.NO_ROOM}
    run(put.store())
    put.assert_lost(N - 1)


def test_append_says_whether_every_block_was_acknowledged() -> None:
    """Whoever owns the buffer may use it again only then."""
    put = Put(N)
    put.cluster.devices[2].die(Operation.APPEND, 2)

    async def append() -> list[bool]:
        await put.distribution.open(0)
        return [await put.distribution.append(put.encoded(segment)) for segment in range(3)]

    assert run(append()) == [True, False, True]


def test_abandon_leaves_nothing_on_the_devices_that_are_there() -> None:
    put = Put(N)

    async def abandon() -> None:
        await put.distribution.open(0)
        await put.distribution.append(put.encoded(0))
        put.cluster.devices[0].die(Operation.ABANDON)
        await put.distribution.abandon()

    run(abandon())
    assert [device.shares for device in put.cluster.devices[1:]] == [{}] * (N - 1)


def test_abandon_leaves_alone_what_was_committed() -> None:
    put = Put(N)

    async def store() -> None:
        await put.store()
        await put.distribution.abandon()

    run(store())
    put.assert_all_stored()


_KINDS = st.sampled_from(["dies", "declines", "talks nonsense"])
_STEPS = st.sampled_from([Operation.OPEN, Operation.APPEND, Operation.COMMIT, Operation.FETCH])


@pytest.mark.one_python
@given(st.lists(st.tuples(st.integers(0, 5), _STEPS, st.integers(1, SEGMENTS), _KINDS), max_size=4))
@settings(max_examples=150)
def test_whatever_fails_each_committed_share_is_right_and_on_a_device_of_its_own(
    faults: list[tuple[int, Operation, int, str]],
) -> None:
    put = Put(6)
    kinds = {"dies": dies, "talks nonsense": talks_nonsense}
    for device, operation, at, kind in faults:
        fault = kinds[kind](operation, at) if kind in kinds else declines(operation, Code.FAULT, at)
        fault(put.cluster.devices[device])
    run(put.store())
    committed = [share for share in put.distribution.shares if share.state is ShareState.COMMITTED]
    assert len({share.device for share in committed}) == len(committed)
    for share in committed:
        held = put.cluster.device(share.device or b"").shares[put.image.encoding_id, share.index]
        assert held.commitment is not None
        assert [held.blocks[segment] for segment in range(SEGMENTS)] == [row[share.index] for row in put.image.blocks]


# --- the states of a share

DRAWN = {
    (before, after): why
    for before, after, why in re.findall(
        r"^ +(\w+) --> (\w+): (.+)$", (ROOT / "docs/architecture.md").read_text(encoding="utf-8"), re.MULTILINE
    )
}


def test_the_page_draws_the_table() -> None:
    assert {(before.value, after.value): why for (before, after), why in MOVES.items()} == DRAWN


@pytest.mark.parametrize("before", list(ShareState))
@pytest.mark.parametrize("after", list(ShareState))
def test_a_share_moves_only_as_the_page_says(before: ShareState, after: ShareState) -> None:
    share = SentShare(3, bytes(16), Code.NO_ROOM)
    share.state = before
    if (before.value, after.value) in DRAWN:
        share.move(after)
        assert share.state is after
    else:
        with pytest.raises(TesseraError, match=f"from {before.value} to {after.value}"):
            share.move(after)
        assert share.state is before
