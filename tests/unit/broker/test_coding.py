"""What a client sends once for all shares of a segment: each device gets its block, and each answers for itself."""

from __future__ import annotations

import gc
import weakref
from typing import Any, Callable, Optional

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.coding import Coding
from broker.credit import CREDIT, REPEAT_AFTER, REQUESTS
from broker.rights import Standing
from broker.sessions import Outgoing
from broker.strikes import STRIKES
from common.coding.recipe import digest
from common.erasure import ErasureCode
from common.errors import ProtocolError
from common.protocol.codec import MAX_PAYLOAD, pack_header, unpack_header
from common.protocol.device_messages import Append, Store, Stored
from common.protocol.envelope import Envelope, Kind, Operation
from common.protocol.messages import (
    GRANTED,
    MAX_CODED_SHARES,
    NOWHERE,
    Answer,
    AppendSegment,
    Code,
    CodedBlock,
    CodedImage,
    CodedStore,
    StoreSegments,
)
from tests.support.sample_broker import SampleBroker, SamplePeer, code, is_for, only, replies, requests
from tests.support.sample_images import chance

K, N, LENGTH = 4, 6, 96
DATA = chance("segment", K * LENGTH)


def coded(k: int, n: int, data: bytes) -> list[bytes]:
    """All n blocks, as the client makes them."""
    blocks = list(np.frombuffer(data, np.uint8).reshape(k, -1))
    parity = [np.empty(len(data) // k, np.uint8) for _ in range(n - k)]
    ErasureCode(k, n).encode(blocks, parity)
    return [block.tobytes() for block in [*blocks, *parity]]


def asking(blocks: list[bytes], devices: dict[int, bytes], k: int = K, segment: int = 7) -> AppendSegment:
    """Some blocks of a segment for devices, by share; a request id tells its share."""
    of = [CodedBlock(share, device, bytes([share]) * 16, digest(blocks[share])) for share, device in devices.items()]
    return AppendSegment(b"e" * 16, segment, k, len(blocks), of)


class Cluster:
    def __init__(self) -> None:
        self.broker = SampleBroker()
        self.devices = [self.broker.worker(f"device {number}") for number in range(N)]
        self.client = self.broker.client()
        self.blocks = coded(K, N, DATA)
        self.asked = asking(self.blocks, {share: device.device for share, device in enumerate(self.devices)})

    def send(self, asked: Optional[AppendSegment] = None, data: bytes = DATA) -> list[Outgoing]:
        return self.client.ask(Operation.APPEND_SEGMENT, asked or self.asked, data)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def check_append(message: Outgoing, device: SamplePeer, block: bytes, share: int) -> None:
    assert is_for(message, device)
    assert message.envelope.operation is Operation.APPEND
    assert unpack_header(message.header, Append) == Append(b"e" * 16, share, 7, digest(block))
    assert bytes(message.payload) == block


def test_every_device_gets_its_block_as_if_the_client_had_sent_it(cluster: Cluster) -> None:
    sent = cluster.send()
    assert len(sent) == N
    for share, message in enumerate(sent):
        check_append(message, cluster.devices[share], cluster.blocks[share], share)
        alone = cluster.client.ask(
            Operation.APPEND,
            Append(b"e" * 16, share, 8, digest(cluster.blocks[share])),
            cluster.blocks[share],
            device=cluster.devices[share].device,
            credit=LENGTH,
            request_id=message.envelope.request_id[::-1][:-1] + b"+",
        )
        ours = message.envelope._replace(request_id=b"")
        assert ours == only(alone).envelope._replace(request_id=b"")


def test_each_answer_comes_back_by_itself_under_the_id_that_the_client_chose(cluster: Cluster) -> None:
    for share, message in reversed(list(enumerate(cluster.send()))):
        passed = only(cluster.devices[share].reply(message))
        assert is_for(passed, cluster.client)
        assert (passed.envelope.operation, passed.envelope.request_id) == (Operation.APPEND, bytes([share]) * 16)
        assert passed.envelope.peer == cluster.devices[share].device


def test_shares_that_are_left_out_are_sent_to_nobody(cluster: Cluster) -> None:
    sent = cluster.send(asking(cluster.blocks, {5: cluster.devices[0].device, 1: cluster.devices[3].device}))
    assert len(sent) == 2
    check_append(sent[0], cluster.devices[0], cluster.blocks[5], 5)
    check_append(sent[1], cluster.devices[3], cluster.blocks[1], 1)


def test_a_device_that_is_gone_costs_its_block_only(cluster: Cluster) -> None:
    asked = asking(cluster.blocks, {0: b"?" * 16, 1: cluster.devices[1].device})
    sent = cluster.send(asked)
    assert code(replies(sent)) is Code.BUSY or code(replies(sent)) is Code.GONE
    assert only(replies(sent)).envelope.request_id == bytes(16)
    check_append(only(requests(sent)), cluster.devices[1], cluster.blocks[1], 1)


def test_what_comes_twice_is_passed_on_once_a_second_and_has_its_credit_once(cluster: Cluster) -> None:
    assert len(cluster.send()) == N
    assert cluster.send() == []
    cluster.broker.now += REPEAT_AFTER
    for device in cluster.devices:
        device.report()
    assert len(requests(cluster.send())) == N


# --- credit


def test_every_block_counts_as_a_request_and_with_its_bytes(cluster: Cluster) -> None:
    for turn in range(REQUESTS // N):
        renamed = [
            msgspec.structs.replace(each, request_id=bytes([100 + turn, each.share]) * 8)
            for each in cluster.asked.blocks
        ]
        assert len(requests(cluster.send(msgspec.structs.replace(cluster.asked, blocks=renamed)))) == N
    more = cluster.send()
    assert len(requests(more)) == REQUESTS % N
    assert {code([refusal]) for refusal in replies(more)} == {Code.BUSY}


def test_so_many_bytes_wait_that_a_client_has_credit_for_and_no_more(cluster: Cluster) -> None:
    data = bytes(MAX_PAYLOAD)
    blocks, sent = coded(K, N, data), 0
    for turn in range(4):
        asked = asking(blocks, {share: device.device for share, device in enumerate(cluster.devices)})
        renamed = [
            msgspec.structs.replace(each, request_id=bytes([100 + turn, each.share]) * 8) for each in asked.blocks
        ]
        passed = requests(cluster.send(msgspec.structs.replace(asked, blocks=renamed), data))
        sent += sum(memoryview(message.payload).nbytes for message in passed)
    assert sent == CREDIT


def test_no_block_keeps_the_memory_of_the_others(cluster: Cluster) -> None:
    """A device that does not read keeps what counts against the credit, and not the whole segment."""

    class Whole(bytearray):
        pass

    whole = Whole(DATA)
    gone = weakref.ref(whole)
    blocks = [part.payload for part in Coding().appends(cluster.asked, memoryview(whole))]
    del whole
    gc.collect()
    assert gone() is None
    assert [bytes(block) for block in blocks] == cluster.blocks
    owners = {id(memoryview(block).obj) for block in blocks}
    assert len(owners) == N
    assert all(memoryview(memoryview(block).obj).nbytes == LENGTH for block in blocks)


# --- what does not fit


@pytest.mark.parametrize(
    ("asked", "data"),
    [
        pytest.param({}, DATA[:-1], id="not k blocks"),
        pytest.param({}, DATA[: 4 * K], id="not whole units"),
        pytest.param({}, b"", id="nothing"),
        pytest.param({"k": 7, "n": 6}, DATA, id="k over n"),
        pytest.param({"n": 5}, DATA, id="a share that there is not"),
        pytest.param({"times": 2}, DATA, id="a share twice"),
        pytest.param({"times": 0}, DATA, id="no share"),
    ],
)
def test_a_segment_that_does_not_fit_its_code_is_refused_whole_and_counts(
    cluster: Cluster, asked: dict[str, int], data: bytes
) -> None:
    changed = dict(asked)
    blocks = cluster.asked.blocks * changed.pop("times", 1)
    for strike in range(STRIKES):
        refusal = cluster.send(msgspec.structs.replace(cluster.asked, blocks=blocks, **changed), data)
        assert code(refusal) is Code.MALFORMED, strike
    assert cluster.send() == [], "it broke the protocol again and again"


def test_codes_that_take_long_to_make_are_not_made(cluster: Cluster) -> None:
    n = MAX_CODED_SHARES + 1
    asked = msgspec.structs.replace(cluster.asked, n=n)
    assert code(cluster.client.send(*_frames(asked, DATA))) is Code.MALFORMED


def _frames(asked: AppendSegment, data: bytes) -> list[bytes]:
    return [Envelope(Kind.REQUEST, Operation.APPEND_SEGMENT, b"r" * 16).encode(), pack_header(asked), data]


def test_a_client_that_is_banned_for_one_block_has_no_other_passed_on(cluster: Cluster) -> None:
    same = [msgspec.structs.replace(each, request_id=b"s" * 16) for each in cluster.asked.blocks]
    sent = cluster.send(msgspec.structs.replace(cluster.asked, blocks=same))
    assert len(requests(sent)) == 1, "one request id for two requests"
    assert cluster.send() == []


def test_a_client_without_a_vault_has_nothing_coded() -> None:
    cluster = Cluster()
    cluster.client = cluster.broker.client(None)
    assert {code([refusal]) for refusal in cluster.send()} == {Code.NOT_ALLOWED}


@pytest.mark.one_python
@given(st.integers(2, MAX_CODED_SHARES).flatmap(lambda n: st.tuples(st.integers(2, n), st.just(n))), st.data())
def test_of_every_code_the_blocks_are_those_that_the_client_made(code_of: tuple[int, int], data: st.DataObject) -> None:
    k, n = code_of
    length = 32 * data.draw(st.integers(1, 4))
    content = chance("content", k * length)
    blocks = coded(k, n, content)
    shares = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=n, unique=True))
    asked = asking(blocks, {share: b"d" * 16 for share in shares}, k)
    parts = _CODING.appends(asked, memoryview(content))
    assert [bytes(part.payload) for part in parts] == [blocks[share] for share in shares]


_CODING = Coding()


@pytest.mark.one_python
@given(st.integers(2, 16), st.integers(2, 16), st.binary(max_size=200), st.lists(st.integers(0, 63), max_size=8))
def test_whatever_comes_is_coded_or_refused(k: int, n: int, content: bytes, shares: list[int]) -> None:
    of = [CodedBlock(share, b"d" * 16, b"r" * 16, b"x" * 32) for share in shares or [0]]
    try:
        parts = _CODING.appends(AppendSegment(b"e" * 16, 0, k, n, of), memoryview(content))
    except ProtocolError:
        return
    assert sum(memoryview(part.payload).nbytes for part in parts) == len(of) * (len(content) // k)


# --- small images, whole


SMALL = [b"a" * K * 32, chance("small", K * 96), chance("larger", K * (40 << 10))]  # the data blocks of each image
SAID = [b"first commitment", b"second", b"third"]


class Images(Cluster):
    """Three images of one segment, on devices in another order each."""

    def __init__(self) -> None:
        super().__init__()
        self.coded = [coded(K, N, data) for data in SMALL]
        self.places = [bytes(range(N)), bytes([5, 4, 3, 2, 1, 0]), bytes([0, NOWHERE, 2, 3, NOWHERE, 1])]
        images = [
            CodedImage(bytes([number]) * 16, len(blocks[0]), len(said), places)
            for number, (blocks, said, places) in enumerate(zip(self.coded, SAID, self.places))
        ]
        stores = [CodedStore(device.device, bytes([place]) * 16) for place, device in enumerate(self.devices)]
        self.whole = StoreSegments(K, N, stores, images)
        self.content = b"".join(data + said for data, said in zip(SMALL, SAID))

    def store(self, asked: Optional[StoreSegments] = None, content: Optional[bytes] = None) -> list[Outgoing]:
        return self.client.ask(
            Operation.STORE_SEGMENTS, asked or self.whole, self.content if content is None else content
        )


@pytest.fixture
def images() -> Images:
    return Images()


def test_every_device_gets_the_shares_that_are_for_it_as_one_store(images: Images) -> None:
    sent = images.store()
    assert len(sent) == N
    for place, message in enumerate(sent):
        assert is_for(message, images.devices[place])
        assert (message.envelope.operation, message.envelope.request_id) == (Operation.STORE, bytes([place]) * 16)
        assert message.envelope.account != bytes(16), "it counts for who stores it"
        parts = unpack_header(message.header, Store).parts(memoryview(message.payload))
        expected = [
            (number, share)
            for number, places in enumerate(images.places)
            for share in range(N)
            if places[share] == place
        ]
        assert [(whole.encoding_id[0], whole.share) for whole, _, _ in parts] == expected
        for whole, block, said in parts:
            assert bytes(block) == images.coded[whole.encoding_id[0]][whole.share]
            assert bytes(said) == SAID[whole.encoding_id[0]]
            assert (whole.k, whole.n) == (K, N)


def test_each_device_answers_for_its_own_shares(images: Images) -> None:
    sent = images.store()
    for place in (4, 0):
        passed = only(images.devices[place].reply(sent[place], Stored(GRANTED, [Answer(Code.NO_ROOM)] * 2)))
        assert is_for(passed, images.client)
        assert (passed.envelope.request_id, passed.envelope.peer) == (bytes([place]) * 16, images.devices[place].device)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda whole: {"stores": whole.stores[:5]}, id="a share for a device that is not named"),
        pytest.param(lambda whole: {"stores": [*whole.stores, whole.stores[0]]}, id="a device that gets nothing"),
        pytest.param(lambda whole: {"images": whole.images[:2]}, id="more content than images"),
        pytest.param(lambda whole: {"images": [], "stores": []}, id="nothing"),
        pytest.param(lambda whole: {"n": 5}, id="a place too many"),
        pytest.param(lambda whole: {"k": 7}, id="k over n"),
    ],
)
def test_images_that_do_not_fit_are_refused_whole(
    images: Images, change: Callable[[StoreSegments], dict[str, Any]]
) -> None:
    refusal = images.store(msgspec.structs.replace(images.whole, **change(images.whole)))
    assert code(refusal) is Code.MALFORMED


def test_no_message_becomes_more_than_a_client_may_have_under_way() -> None:
    """A commitment is repeated for each share: of four MiB sixteen times as much could be made."""
    images = [CodedImage(b"e" * 16, 32, MAX_PAYLOAD - 64, bytes(16))]
    asked = StoreSegments(2, 16, [CodedStore(b"d" * 16, b"r" * 16)], images)
    with pytest.raises(ProtocolError, match="under way"):
        _CODING.stores(asked, memoryview(bytes(MAX_PAYLOAD)))
    spread = msgspec.structs.replace(images[0], places=bytes(range(16)))
    stores = [CodedStore(bytes([number]) * 16, bytes([number]) * 16) for number in range(16)]
    with pytest.raises(ProtocolError, match="under way"):
        _CODING.stores(StoreSegments(2, 16, stores, [spread]), memoryview(bytes(MAX_PAYLOAD)))


def test_what_an_add_only_client_may_not_commit_goes_to_nobody() -> None:
    cluster = Images()
    cluster.client = cluster.broker.client(standing=Standing.ADD_ONLY)
    assert {code([refusal]) for refusal in cluster.store()} == {Code.NOT_ALLOWED}, "what cannot be read, for one"
