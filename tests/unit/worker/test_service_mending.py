"""What a worker answers to those who mend, go on, delete and give up; and that brokers hear of it before."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import pytest

from common.protocol.codec import pack_header, unpack, unpack_header
from common.protocol.device_messages import Fetch, Inspect, Progress, SegmentRange, ShareName, SignedCommitment
from common.protocol.envelope import Operation
from common.protocol.messages import Acknowledged, Code
from tests.support.sample_shares import STRANGER, STRANGERS_KEY, Sample, damage, held_by, sample
from tests.support.spoken_worker import BROKER, SHARE, Worker, append, block_names, commit, only, small, whole

OTHER_BROKER = BROKER + 1


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    """With one share, of which the brokers know."""
    worker = Worker(tmp_path / "store")
    worker.put(sample())
    worker.store.changes()
    yield worker
    worker.disk.arm()
    worker.store.close()


def name(encoding: Sample) -> ShareName:
    return ShareName(encoding.encoding_id, SHARE)


# --- PROGRESS


def progress(worker: Worker, encoding: Sample) -> tuple[Code, bool, Optional[list[SegmentRange]]]:
    (answered,) = worker.send(Operation.PROGRESS, pack_header(name(encoding)))
    answer = unpack_header(answered.header, Progress)
    ranges = unpack(answered.payload, list[SegmentRange]) if answered.payload is not None else None
    return answer.answer.code, answer.committed, ranges


def test_progress_tells_a_staged_shares_blocks_and_that_a_committed_one_is_so(worker: Worker) -> None:
    encoding = sample("new")
    assert progress(worker, encoding) == (Code.NOT_OPEN, False, None)
    worker.ask(Operation.OPEN, encoding.opening(SHARE))
    assert progress(worker, encoding) == (Code.GRANTED, False, [])
    for segment in (0, 2):
        worker.ask(*append(encoding, segment))
    assert progress(worker, encoding) == (Code.GRANTED, False, [SegmentRange(0, 1), SegmentRange(2, 1)])
    worker.ask(*append(encoding, 1))
    worker.ask_later(*commit(encoding))
    worker.service.finish_round()
    assert progress(worker, encoding) == (Code.GRANTED, True, None)


def test_a_damaged_share_is_no_progress(worker: Worker) -> None:
    damage(worker.store, sample(), SHARE, -1, b"!")
    assert worker.fetch(*block_names(sample(), 0))[0] == [Code.DAMAGED]
    assert progress(worker, sample()) == (Code.NOT_OPEN, False, None)
    worker.put(sample())
    assert progress(worker, sample()) == (Code.GRANTED, True, None)


def test_a_whole_share_can_be_stored_anew_in_a_damaged_ones_place(worker: Worker) -> None:
    encoding = small("whole")
    assert worker.store_whole(whole(encoding)) == [Code.GRANTED]
    damage(worker.store, encoding, SHARE, -1, b"!")
    assert worker.store_whole(whole(encoding)) == [Code.DAMAGED], "it is found out here"
    assert worker.store_whole(whole(encoding)) == [Code.GRANTED]
    encoding.assert_readable(worker.store, SHARE)


# --- INSPECT


def inspect(worker: Worker, broker: int, lease: int, now: float = 0.0) -> Code:
    header = pack_header(Inspect(*sample().key(SHARE), lease))
    (answered,) = worker.send(Operation.INSPECT, header, broker=broker, now=now)
    code = unpack_header(answered.header, Acknowledged).answer.code
    if code is Code.GRANTED:
        assert unpack(answered.payload, SignedCommitment) == sample().signed()
    return code


def test_a_steward_gets_what_lies_beside_a_share_and_no_other_brokers_does_meanwhile(worker: Worker) -> None:
    assert inspect(worker, BROKER, 30) is Code.GRANTED
    assert inspect(worker, BROKER, 30) is Code.GRANTED
    assert inspect(worker, OTHER_BROKER, 30, 29.0) is Code.CONFLICT
    assert inspect(worker, OTHER_BROKER, 0, 29.0) is Code.GRANTED, "who only looks hinders nobody"
    assert inspect(worker, OTHER_BROKER, 30, 30.0) is Code.GRANTED
    assert inspect(worker, BROKER, 30, 31.0) is Code.CONFLICT


def test_who_only_looks_has_no_lease(worker: Worker) -> None:
    assert inspect(worker, BROKER, 0) is Code.GRANTED
    assert inspect(worker, OTHER_BROKER, 30) is Code.GRANTED


def test_each_fetch_of_the_one_that_mends_renews_its_lease(worker: Worker) -> None:
    inspect(worker, BROKER, 30)
    header = pack_header(Fetch(block_names(sample(), 0)))
    worker.send(Operation.FETCH, header, now=20.0)
    worker.send(Operation.FETCH, header, broker=OTHER_BROKER, now=40.0)
    assert inspect(worker, OTHER_BROKER, 30, 49.0) is Code.CONFLICT
    assert inspect(worker, OTHER_BROKER, 30, 50.0) is Code.GRANTED


def test_a_lease_ends_with_its_brokers_connection(worker: Worker) -> None:
    inspect(worker, BROKER, 30)
    worker.service.disconnected(OTHER_BROKER)
    assert inspect(worker, OTHER_BROKER, 30) is Code.CONFLICT
    worker.service.disconnected(BROKER)
    assert inspect(worker, OTHER_BROKER, 30) is Code.GRANTED


def test_what_is_not_there_or_not_theirs_is_not_inspected(worker: Worker) -> None:
    assert worker.ask(Operation.INSPECT, Inspect(*sample("other").key(SHARE), 30)) is Code.NOT_FOUND
    assert worker.ask(Operation.INSPECT, Inspect(*sample().key(SHARE), 30), owner=STRANGER) is Code.NOT_FOUND
    assert inspect(worker, OTHER_BROKER, 30) is Code.GRANTED, "nobody got a lease by that"


# --- CHECK


def test_a_share_to_be_checked_is_checked_soon_and_what_was_found_is_told(worker: Worker) -> None:
    assert worker.ask(Operation.CHECK, name(sample())) is Code.GRANTED
    assert not worker.store.changes()
    told = []
    for _ in range(10):
        worker.store.scrub.turn(0.0, idle=False)
        told.append([share.sound for share in worker.store.changes().announced])
    turns = 1 + sample().recipe.segment_count
    assert told == [[]] * (turns - 1) + [[True]] + [[]] * (10 - turns), "a block a turn, and the answer once"


def test_a_share_that_is_not_here_is_not_checked_and_that_is_told(worker: Worker) -> None:
    assert worker.ask(Operation.CHECK, name(sample("other"))) is Code.NOT_FOUND
    assert worker.store.changes().withdrawn == [name(sample("other"))]


# --- DELETE, UNDELETE, DISCARD


def test_what_was_deleted_is_known_to_be_before_it_is_acknowledged(worker: Worker) -> None:
    assert worker.ask(Operation.DELETE, sample().deletion()) is Code.GRANTED
    changes = worker.store.changes()
    assert [t.generation for t in changes.tombstones] == [1]
    assert changes.withdrawn == [name(sample())]
    assert worker.fetch(*block_names(sample(), 0))[0] == [Code.NOT_FOUND]
    assert worker.ask(Operation.DELETE, sample().deletion()) is Code.GRANTED
    assert worker.ask(Operation.OPEN, sample().opening(SHARE)) is Code.CONFLICT
    assert worker.ask(Operation.UNDELETE, sample().undeletion()) is Code.GRANTED
    changes = worker.store.changes()
    assert [t.generation for t in changes.tombstones] == [2]
    assert [share.encoding_id for share in changes.announced] == [sample().encoding_id]
    assert worker.ask(Operation.DELETE, sample().deletion()) is Code.CONFLICT
    assert worker.fetch(*block_names(sample(), 0)) == ([Code.GRANTED], sample().blocks[0][SHARE])


def test_a_deleted_encoding_is_not_stored_whole_either(worker: Worker) -> None:
    encoding = small("whole")
    worker.store_whole(whole(encoding))
    assert worker.ask(Operation.DELETE, encoding.deletion()) is Code.GRANTED
    assert worker.store_whole(whole(encoding)) == [Code.CONFLICT]


def test_who_may_not_delete_is_told_so(worker: Worker) -> None:
    guess = sample().deletion()
    guess.signature = bytes(64)
    assert worker.ask(Operation.DELETE, guess) is Code.NOT_ALLOWED
    assert worker.ask(Operation.DELETE, sample().deletion(key=STRANGERS_KEY), owner=STRANGER) is Code.NOT_FOUND
    assert worker.ask(Operation.UNDELETE, sample("other").undeletion()) is Code.NOT_FOUND
    assert not worker.store.changes()


def test_a_commit_under_way_when_its_encoding_is_deleted_is_not_acknowledged(worker: Worker) -> None:
    worker.stage(sample(), 2)
    worker.ask_later(*commit(sample(), 2))
    assert worker.ask(Operation.DELETE, sample().deletion()) is Code.GRANTED
    answers = worker.service.finish_round()
    assert only(answers, Acknowledged).answer.code is Code.NOT_OPEN
    assert not held_by(worker.store)


def test_a_surplus_share_is_given_up_once_and_for_all(worker: Worker) -> None:
    for _ in range(2):
        assert worker.ask(Operation.DISCARD, name(sample())) is Code.GRANTED
        assert worker.store.changes().withdrawn == [name(sample())]
    worker.put(sample())
    assert worker.ask(Operation.DISCARD, name(sample()), owner=STRANGER) is Code.NOT_FOUND
    sample().assert_readable(worker.store, SHARE)


@pytest.mark.parametrize("operation", [Operation.DELETE, Operation.DISCARD])
def test_a_store_that_went_read_only_deletes_and_gives_up_nothing(worker: Worker, operation: Operation) -> None:
    worker.disk.arm(always={"sync": errno.EIO})
    assert worker.store_whole(whole(small("first"))) == [Code.READ_ONLY]
    worker.disk.arm()
    header = sample().deletion() if operation is Operation.DELETE else name(sample())
    for _ in range(2):
        assert worker.ask(operation, header) is Code.READ_ONLY
    sample().assert_readable(worker.store, SHARE)
    assert not {"rename_new", "append", "sync", "sync_folder", "commit"} & set(worker.disk.calls)
