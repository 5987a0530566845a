"""What a worker answers to those who read, and to what nobody should send."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from common.protocol.codec import MAX_PAYLOAD, pack, pack_header, unpack
from common.protocol.device_messages import (
    Amend,
    Commit,
    Commitment,
    Describe,
    Fetch,
    HeldFor,
    Inspect,
    ListSuperseded,
    ShareName,
    SignedCommitment,
    SupersededList,
    Wanted,
)
from common.protocol.envelope import Operation
from common.protocol.messages import Acknowledged, AnnouncedShare, Code
from tests.support.sample_shares import OWNER, STRANGER, Sample, damage, held_by, lying, sample, sign
from tests.support.spoken_worker import (
    OF_A_WORKER,
    SHARE,
    Worker,
    append,
    block_names,
    commit,
    only,
    small,
    store_whole,
    whole,
)
from worker.service import Answered


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    worker = Worker(tmp_path / "store")
    yield worker
    worker.disk.arm()
    worker.store.close()


# --- reading


def test_blocks_are_fetched_in_the_order_asked_for_and_missing_ones_named(worker: Worker) -> None:
    encoding = sample(segments=3)
    worker.put(encoding)
    wanted = [*block_names(encoding, 2, 7, 0), *block_names(sample("unknown"), 0), *block_names(encoding, 1)]
    codes, payload = worker.fetch(*wanted)
    assert codes == [Code.GRANTED, Code.NOT_FOUND, Code.GRANTED, Code.NOT_FOUND, Code.GRANTED]
    assert payload == b"".join(encoding.blocks[segment][SHARE] for segment in (2, 0, 1))


def test_one_block_is_fetched_as_it_is(worker: Worker) -> None:
    encoding = sample()
    worker.put(encoding)
    assert worker.fetch(*block_names(encoding, 1)) == ([Code.GRANTED], encoding.blocks[1][SHARE])


def test_nothing_is_fetched_of_nothing(worker: Worker) -> None:
    assert worker.fetch() == ([], b"")
    assert worker.describe() == ([], b"")


def test_a_damaged_block_is_named_and_the_others_come(worker: Worker) -> None:
    encoding = sample()
    worker.put(encoding)
    path, offset, _ = lying(worker.store, encoding, SHARE)
    at = path.read_bytes().index(encoding.blocks[1][SHARE], offset) - offset
    damage(worker.store, encoding, SHARE, at, b"x" * 64)
    codes, payload = worker.fetch(*block_names(encoding, 0, 1, 2))
    assert codes == [Code.GRANTED, Code.DAMAGED, Code.GRANTED]
    assert payload == encoding.blocks[0][SHARE] + encoding.blocks[2][SHARE]


@pytest.mark.parametrize("encoding", [sample(), sample("large", segments=2, block_size=300 << 10)])
def test_a_disk_that_cannot_read_is_an_answer(worker: Worker, encoding: Sample) -> None:
    worker.put(encoding)
    worker.store._packs.close()  # the one that it writes would be open
    worker.disk.arm(always={"open": errno.EMFILE})
    assert worker.fetch(*block_names(encoding, 0)) == ([Code.FAULT], b"")
    assert worker.describe(ShareName(encoding.encoding_id, SHARE)) == ([(Code.FAULT, 0, 0)], b"")
    worker.disk.arm()
    assert worker.fetch(*block_names(encoding, 0))[0] == [Code.GRANTED], "a process with too many files proves nothing"
    assert held_by(worker.store)[encoding.key(SHARE)].sound


def test_a_reply_holds_no_more_than_a_payload_may(worker: Worker) -> None:
    mebibyte = 2**20
    encoding = sample(segments=6, k=2, n=2, block_size=mebibyte, last=5)
    worker.put(encoding)
    worker.fetch(*block_names(encoding, 5))
    worker.disk.arm()
    codes, payload = worker.fetch(*block_names(encoding, 0, 1, 2, 3, 4, 5))
    assert codes == [Code.GRANTED] * 4 + [Code.BUSY] * 2
    assert worker.disk.calls == ["read_at"] * 4, "what has no room is not even read"
    assert len(payload) == MAX_PAYLOAD
    codes, payload = worker.fetch(*block_names(encoding, 5, 0, 1, 2, 3, 4))
    assert codes == [Code.GRANTED] * 4 + [Code.BUSY] * 2
    assert payload.startswith(encoding.blocks[5][SHARE])


def test_what_lies_beside_shares_is_described_with_the_recipe_or_without(worker: Worker) -> None:
    one, other = sample("one"), sample("other")
    for encoding in (one, other):
        worker.put(encoding)
    names = [ShareName(e.encoding_id, SHARE) for e in (one, sample("unknown"), other)]
    parts, payload = worker.describe(*names)
    recipe = len(one.commitment.recipe)
    assert parts == [(Code.GRANTED, 100, recipe), (Code.NOT_FOUND, 0, 0), (Code.GRANTED, 100, recipe)]
    assert payload == b"".join(e.commitment.mapping + e.commitment.recipe for e in (one, other))
    parts, payload = worker.describe(*names, wanted=Wanted.MAPPING)
    assert parts == [(Code.GRANTED, 100, 0), (Code.NOT_FOUND, 0, 0), (Code.GRANTED, 100, 0)]
    assert payload == one.commitment.mapping + other.commitment.mapping
    parts, payload = worker.describe(*names, wanted=Wanted.COMMITMENT)
    signed = [pack(encoding.signed()) for encoding in (one, other)]
    assert parts == [(Code.GRANTED, len(signed[0]), 0), (Code.NOT_FOUND, 0, 0), (Code.GRANTED, len(signed[1]), 0)]
    assert payload == b"".join(signed)


def test_a_share_being_stored_is_not_described(worker: Worker) -> None:
    encoding = sample()
    worker.stage(encoding)
    assert worker.describe(ShareName(encoding.encoding_id, SHARE)) == ([(Code.NOT_FOUND, 0, 0)], b"")


# --- what nobody should send


@pytest.mark.parametrize("operation", [o for o in Operation if o not in (*OF_A_WORKER, Operation.APPROVERS)])
def test_what_is_not_for_a_worker_is_malformed(worker: Worker, operation: Operation) -> None:
    assert only(worker.send(operation, pack([])), Acknowledged).answer.code is Code.MALFORMED


@pytest.mark.parametrize("operation", OF_A_WORKER)
@pytest.mark.parametrize("header", [b"", b"\xc1", b"\x90", b"\x80", b"\xdd\xff\xff\xff\xff", bytes(5000)])
def test_a_malformed_header_is_answered(worker: Worker, operation: Operation, header: bytes) -> None:
    assert only(worker.send(operation, header), Acknowledged).answer.code is Code.MALFORMED


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x90", pack(["o" * 32, b"", b"", b"d" * 32])])
def test_a_malformed_commitment_is_answered(worker: Worker, payload: bytes) -> None:
    encoding = sample()
    worker.stage(encoding)
    assert worker.ask(Operation.COMMIT, Commit(encoding.encoding_id, SHARE), payload) is Code.MALFORMED


def test_a_commitment_without_a_recipe_is_answered(worker: Worker) -> None:
    encoding = sample()
    worker.stage(encoding)
    no_recipe = pack(encoding.signed(recipe=b"no recipe"))
    assert worker.ask(Operation.COMMIT, Commit(encoding.encoding_id, SHARE), no_recipe) is Code.CONFLICT


def valid_requests() -> list[tuple[Operation, bytes, bytes]]:
    encoding, other = sample(), small("whole")
    named = ShareName(encoding.encoding_id, SHARE)
    asked: list[tuple[Operation, msgspec.Struct, bytes]] = [
        (Operation.OPEN, encoding.opening(SHARE), b""),
        *(append(encoding, segment) for segment in range(3)),
        commit(encoding),
        store_whole(whole(other), whole(small("whole too"))),
        (Operation.ABANDON, named, b""),
        (Operation.FETCH, Fetch(block_names(encoding, 0, 1)), b""),
        (Operation.DESCRIBE, Describe([named]), b""),
        (Operation.PROGRESS, named, b""),
        (Operation.INSPECT, Inspect(*encoding.key(SHARE), 30), b""),
        (Operation.CHECK, named, b""),
        (Operation.DISCARD, named, b""),
        (Operation.DELETE, encoding.deletion(), b""),
        (Operation.UNDELETE, encoding.undeletion(), b""),
    ]
    return [(operation, pack_header(header), payload) for operation, header, payload in asked]


@st.composite
def mangled_requests(draw: st.DrawFn) -> list[tuple[Operation, bytes, bytes]]:
    """Requests of a put and a get in any order, some with a changed byte in header or payload."""
    chosen = draw(st.lists(st.sampled_from(valid_requests()), max_size=12))
    return [(operation, mangle(draw, header), mangle(draw, payload)) for operation, header, payload in chosen]


def mangle(draw: st.DrawFn, data: bytes) -> bytes:
    if not data or draw(st.integers(0, 2)):
        return data
    position = draw(st.integers(0, len(data) - 1))
    return data[:position] + bytes([draw(st.integers(0, 255))]) + data[position + 1 :]


def by_key(share: AnnouncedShare) -> tuple[bytes, int]:
    return share.encoding_id, share.share


@pytest.mark.one_python
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mangled_requests(), st.sets(st.integers(0, 60), max_size=4))
def test_whatever_is_sent_and_whatever_the_disk_does_each_request_is_answered_once(
    tmp_path_factory: pytest.TempPathFactory, requests: list[tuple[Operation, bytes, bytes]], failing: set[int]
) -> None:
    worker = Worker(tmp_path_factory.mktemp("worker"))
    worker.disk.arm(dict.fromkeys(failing, errno.EIO))
    answers: list[Answered] = []
    for operation, header, payload in requests:
        answers += worker.send(operation, header, payload)
    answers += worker.service.finish_round()
    worker.disk.arm()  # a fault from here on could change what is held, and be announced after that
    changes = worker.store.changes()
    assert sorted(a.envelope.request_id for a in answers) == [(i + 1).to_bytes(16, "big") for i in range(len(requests))]
    assert sorted(changes.announced, key=by_key) == sorted(held_by(worker.store).values(), key=by_key)
    for encoding_id, share in held_by(worker.store):
        worker.store.share((encoding_id, share), OWNER)
    worker.store.close()


def test_what_is_held_for_an_owner_is_told_in_pages(tmp_path: Path) -> None:
    """More than one header takes: of each share once, with what holds now, to its owner only."""
    worker = Worker(tmp_path / "worker", hold=3600)
    encodings = [sample(f"held {number}", segments=1) for number in range(60)]
    for encoding in encodings:
        worker.put(encoding)
        said = replace(encoding.commitment, revision=2, mapping=b"another")
        assert worker.ask(Operation.AMEND, Amend(encoding.encoding_id), pack(sign(said))) is Code.GRANTED
    told: list[tuple[HeldFor, Commitment]] = []
    after: Optional[int] = 0
    while after is not None:
        (answered,) = worker.send(Operation.SUPERSEDED, pack_header(ListSuperseded(after)))
        header, offset = only([answered], SupersededList), 0
        for part in header.parts:
            packed = answered.payload[offset : offset + part.length]
            told.append((part, unpack(packed, SignedCommitment).commitment))
            offset += part.length
        after = header.after
    assert [commitment for _, commitment in told] == [each.commitment for each in encodings]
    for part, encoding in zip((part for part, _ in told), encodings):
        assert (part.encoding_id, part.share) == (encoding.encoding_id, SHARE)
        assert (part.owner, part.revision, part.again) == (OWNER, 2, False)
    (answered,) = worker.send(Operation.SUPERSEDED, pack_header(ListSuperseded(0)), owner=STRANGER)
    assert not only([answered], SupersededList).parts
