"""A segment goes to the broker once; what it codes wrongly is noticed by every device, and it is named."""

from __future__ import annotations

from typing import Any, Callable

import pytest

from broker.coding import Coding, DeviceRequest
from common.errors import IntegrityError
from common.process.events import Warned
from common.protocol.codec import pack_header
from common.protocol.envelope import Operation
from common.protocol.identifiers import BROKER
from common.protocol.messages import Acknowledged, Answer, AppendSegment, Code
from producer.broker_coding import BrokerCoding, CodeAt
from producer.distribution import ShareState
from producer.events import too_few
from tests.support.memory_cluster import run
from tests.unit.producer.test_distribution import SEGMENTS, K, N, Put

Alteration = Callable[[int, bytes], bytes]  # of a share's block


class Altering(Coding):
    """Codes right, and then passes on something else."""

    def __init__(self, alter: Alteration) -> None:
        super().__init__()
        self._alter = alter

    def appends(self, asked: AppendSegment, payload: memoryview) -> list[DeviceRequest]:
        parts = super().appends(asked, payload)
        return [
            part._replace(payload=self._alter(block.share, bytes(part.payload)))
            for part, block in zip(parts, asked.blocks)
        ]


def flipped(_share: int, block: bytes) -> bytes:
    return bytes([block[0] ^ 1]) + block[1:]


def flipped_parity(share: int, block: bytes) -> bytes:
    return flipped(share, block) if share >= K else block


def sent_to(put: Put, device: bytes, operation: Operation) -> int:
    return put.cluster.messages.count((device, operation))


def test_a_segment_is_sent_once_and_every_device_gets_its_block() -> None:
    put = Put(N)
    run(put.store())
    put.assert_all_stored()
    assert sent_to(put, BROKER, Operation.APPEND_SEGMENT) == SEGMENTS
    assert put.told == []


def test_coded_at_the_client_nothing_is_asked_of_the_broker() -> None:
    put = Put(N)
    put.distribution._broker_coding = BrokerCoding(put.told.append, CodeAt.CLIENT)
    run(put.store())
    put.assert_all_stored()
    assert sent_to(put, BROKER, Operation.APPEND_SEGMENT) == 0


def test_what_only_k_shares_need_is_sent_to_each() -> None:
    """It would be no less: with two devices away, say."""
    put = Put(K)
    run(put.store())
    put.assert_lost(*range(K, N))
    assert sent_to(put, BROKER, Operation.APPEND_SEGMENT) == 0


@pytest.mark.parametrize(
    "alter",
    [
        pytest.param(flipped_parity, id="wrong parity"),
        pytest.param(flipped, id="wrong blocks"),
        pytest.param(lambda share, block: bytes(len(block)) if share == 0 else block, id="one block of zeros"),
        pytest.param(lambda _, block: block[:-1], id="short blocks"),
        pytest.param(lambda _, block: block + b"\0", id="long blocks"),
    ],
)
def test_a_broker_that_codes_wrongly_is_named_and_everything_is_stored_right(alter: Alteration) -> None:
    put = Put(N)
    put.cluster.coding = Altering(alter)
    run(put.store())
    put.assert_all_stored()
    (warned,) = put.told
    assert isinstance(warned, Warned)
    assert put.cluster.address in warned.text
    assert "device-" in warned.text


def test_once_it_coded_wrongly_it_is_asked_to_code_no_more() -> None:
    put = Put(N)
    put.cluster.coding = Altering(flipped)
    run(put.store())
    assert sent_to(put, BROKER, Operation.APPEND_SEGMENT) == 1


def test_a_device_that_says_so_wrongly_ends_no_put() -> None:
    put = Put(N)
    put.cluster.devices[1].decline(Operation.APPEND, Code.MALFORMED)
    run(put.store())
    put.assert_all_stored()
    (warned,) = put.told
    assert isinstance(warned, Warned) and "device-2" in warned.text


def test_a_device_that_refuses_what_is_sent_alone_as_well_loses_its_share() -> None:
    put = Put(N)
    refusal = pack_header(Acknowledged(Answer(Code.MALFORMED, "the block does not have its digest")))
    put.cluster.devices[1].intercept(Operation.APPEND, lambda *_: (refusal, b""))
    run(put.store())
    put.assert_lost(1)
    assert put.distribution.lost_reasons() == {1: Code.MALFORMED}
    assert put.told == [], "the broker's blocks are no worse than ours"


def test_a_broker_that_alters_all_that_it_passes_on_stores_nothing_and_is_named() -> None:
    """Nothing wrong is committed: neither as the broker coded it nor as it was sent again."""
    put = Put(N)
    request = put.cluster.request

    async def altering(operation: Any, header: Any, **keywords: Any) -> Any:
        if operation.number is Operation.APPEND:
            keywords["payload"] = flipped(0, bytes(memoryview(keywords["payload"])))
        return await request(operation, header, **keywords)

    put.cluster.request = altering  # type: ignore[method-assign]
    run(put.store())
    assert put.distribution.count(ShareState.COMMITTED) == 0
    reasons = put.distribution.lost_reasons()
    assert set(reasons.values()) == {Code.MALFORMED}
    error = too_few("a.png", 0, N, reasons, K, put.cluster.address)
    assert isinstance(error, IntegrityError)
    assert put.cluster.address in str(error)


def test_few_refusals_do_not_name_the_broker() -> None:
    error = too_few("a.png", 2, 5, {2: Code.MALFORMED, 3: Code.GONE, 4: Code.GONE, 5: Code.GONE}, 4, "broker.lan")
    assert not isinstance(error, IntegrityError)
    assert "broker.lan" not in str(error)
