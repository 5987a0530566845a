"""What a worker answers to the parts of a put, one round at a time."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from common.protocol.codec import MAX_HEADER, pack, unpack_header
from common.protocol.device_messages import ShareName, Stored
from common.protocol.envelope import Operation
from common.protocol.messages import MAX_BATCH, Acknowledged, Code
from tests.support.sample_shares import OVERHEAD, OWNER, STRANGER, Sample, held_by, sample
from tests.support.spoken_worker import (
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


def large(label: str) -> Sample:
    """Whose shares are files."""
    return sample(label, segments=2, block_size=300 << 10)


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    worker = Worker(tmp_path / "store")
    yield worker
    worker.disk.arm()
    worker.store.close()


# --- the round


def test_a_commit_is_acknowledged_only_after_the_round_has_made_it_durable(worker: Worker) -> None:
    encoding = sample()
    worker.stage(encoding)
    worker.disk.arm()
    worker.ask_later(*commit(encoding))
    assert worker.disk.calls == []
    assert not held_by(worker.store)
    worker.store.changes()
    answers = worker.service.finish_round()
    announced = worker.store.changes().announced
    assert "sync" in worker.disk.calls
    assert announced == [held_by(worker.store)[encoding.key(SHARE)]]
    assert only(answers, Acknowledged).answer.granted
    encoding.assert_readable(worker.store, SHARE)


@pytest.mark.parametrize("make", [sample, large], ids=["small", "large"])
def test_many_commits_share_a_round_and_each_is_answered(worker: Worker, make: Callable[[str], Sample]) -> None:
    encodings = [make(f"a/{number}") for number in range(5)]
    for encoding in encodings:
        worker.stage(encoding)
    worker.disk.arm()
    for encoding in encodings:
        worker.ask_later(*commit(encoding))
    worker.store.changes()
    answers = worker.service.finish_round()
    announced = worker.store.changes().announced
    assert [share.encoding_id for share in announced] == [encoding.encoding_id for encoding in encodings]
    assert [unpack_header(a.header, Acknowledged).answer.code for a in answers] == [Code.GRANTED] * 5
    assert worker.disk.calls.count("commit") == 1
    synced = worker.disk.calls.count("sync"), worker.disk.calls.count("sync_folder")
    assert synced == ((1, 1) if make is sample else (5, 2)), "one pack, or each file, shares/ and shares/ab/"


def test_where_one_rename_of_a_round_fails_the_others_are_acknowledged_and_announced(worker: Worker) -> None:
    good, bad = large("a/good"), large("a/bad")
    for encoding in (bad, good):
        worker.stage(encoding)
        worker.ask_later(*commit(encoding))
    before = ["append"] * 2 + ["make_folder", "sync_folder"] + ["sync"] * 2 + ["close"]
    worker.disk.arm({len(before): errno.EIO})
    worker.store.changes()
    answers = worker.service.finish_round()
    announced = worker.store.changes().announced
    assert worker.disk.calls[: len(before) + 1] == [*before, "rename_new"]
    assert [share.encoding_id for share in announced] == [good.encoding_id]
    codes = [unpack_header(a.header, Acknowledged).answer.code for a in answers]
    assert codes == [Code.FAULT, Code.GRANTED]


def test_a_round_makes_folders_and_files_durable_before_any_share_has_its_place(worker: Worker) -> None:
    encodings = [large(str(number)) for number in range(5)]
    for encoding in encodings:
        worker.stage(encoding)
        worker.ask_later(*commit(encoding))
    places = {encoding.encoding_id.hex()[:2] for encoding in encodings}
    assert len(places) > 1, "the sample's folders are several"
    worker.disk.arm()
    worker.service.finish_round()
    calls = worker.disk.calls
    assert calls.index("rename_new") > max(at for at, call in enumerate(calls) if call in ("sync", "make_folder"))
    assert calls.count("sync_folder") == 1 + len(places), "each folder once"


def test_many_shares_in_a_message_are_one_look_at_the_room_and_those_that_fit_stay(
    tmp_path: Path,
) -> None:
    encodings = [small(str(number)) for number in range(4)]
    roomy = Worker(tmp_path / "roomy")
    roomy.disk.arm()
    assert roomy.store_whole(*(whole(encoding) for encoding in encodings)) == [Code.GRANTED] * 4
    assert roomy.disk.calls.count("free_bytes") == 1
    roomy.store.close()
    tight = Worker(tmp_path / "tight", capacity=2 * (40 + OVERHEAD))
    codes = tight.store_whole(*(whole(encoding) for encoding in encodings))
    assert codes == [Code.GRANTED] * 2 + [Code.NO_ROOM] * 2
    tight.store.close()


def test_a_round_in_which_nothing_waits_does_nothing(worker: Worker) -> None:
    worker.put(sample())
    worker.disk.arm()
    assert worker.service.finish_round() == []
    assert worker.disk.calls == []


def test_a_commit_said_twice_within_a_round_is_carried_out_once_and_answered_twice(worker: Worker) -> None:
    encoding = sample()
    worker.stage(encoding)
    for _ in range(2):
        worker.ask_later(*commit(encoding))
    worker.store.changes()
    answers = worker.service.finish_round()
    announced = worker.store.changes().announced
    assert len(announced) == 1
    assert [unpack_header(a.header, Acknowledged).answer.code for a in answers] == [Code.GRANTED] * 2


def test_a_commit_said_again_after_the_round_is_granted_and_not_announced_again(worker: Worker) -> None:
    encoding = sample()
    worker.put(encoding)
    worker.ask_later(*commit(encoding))
    worker.store.changes()
    answers = worker.service.finish_round()
    announced = worker.store.changes().announced
    assert announced == []
    assert only(answers, Acknowledged).answer.granted


def test_a_strangers_commit_within_the_same_round_is_not_granted(worker: Worker) -> None:
    encoding = sample()
    worker.stage(encoding)
    worker.ask_later(*commit(encoding))
    assert worker.ask(*commit(encoding), owner=STRANGER) is Code.NOT_ALLOWED
    assert worker.ask(*commit(encoding, owner=STRANGER), owner=STRANGER) is Code.NOT_OPEN
    answers = worker.service.finish_round()
    assert only(answers, Acknowledged).answer.granted


def test_a_contradictory_commit_within_the_same_round_is_a_conflict(worker: Worker) -> None:
    encoding = sample()
    worker.stage(encoding)
    worker.ask_later(*commit(encoding))
    other = encoding.signed(mapping=b"another mapping")
    operation, header, _ = commit(encoding)
    assert worker.ask(operation, header, pack(other)) is Code.CONFLICT
    worker.service.finish_round()
    encoding.assert_readable(worker.store, SHARE)


def test_a_share_given_up_within_the_round_is_not_acknowledged(worker: Worker) -> None:
    encoding = sample()
    worker.stage(encoding)
    worker.ask_later(*commit(encoding))
    assert worker.ask(Operation.ABANDON, ShareName(encoding.encoding_id, SHARE)) is Code.GRANTED
    worker.store.changes()
    answers = worker.service.finish_round()
    announced = worker.store.changes().announced
    assert announced == []
    assert only(answers, Acknowledged).answer.code is Code.NOT_OPEN
    worker.put(encoding)


# --- the parts of a put


def test_saying_anything_again_is_granted(worker: Worker) -> None:
    encoding = sample()
    for _ in range(2):
        worker.stage(encoding)
    for _ in range(2):
        assert worker.ask(Operation.ABANDON, ShareName(encoding.encoding_id, SHARE)) is Code.GRANTED
    assert worker.ask(*append(encoding)) is Code.NOT_OPEN


def test_a_block_without_its_digest_is_malformed_and_not_kept(worker: Worker) -> None:
    encoding = sample()
    worker.ask(Operation.OPEN, encoding.opening(SHARE))
    operation, header, block = append(encoding)
    assert worker.ask(operation, header, block[:-1] + b"!") is Code.MALFORMED
    assert worker.fetch(*block_names(encoding, 0)) == ([Code.NOT_FOUND], b"")
    assert worker.ask(operation, header, block) is Code.GRANTED


def test_another_block_for_a_segment_that_came_is_a_conflict(worker: Worker) -> None:
    encoding = sample()
    worker.stage(encoding)
    assert worker.ask(*append(encoding, 0, block=b"another block")) is Code.CONFLICT


def test_a_stranger_can_do_nothing(worker: Worker) -> None:
    encoding = sample()
    worker.stage(encoding)
    name = ShareName(encoding.encoding_id, SHARE)
    assert worker.ask(*append(encoding), owner=STRANGER) is Code.NOT_OPEN
    assert worker.ask(*commit(encoding), owner=STRANGER) is Code.NOT_ALLOWED
    assert worker.ask(*commit(encoding, owner=STRANGER), owner=STRANGER) is Code.NOT_OPEN
    assert worker.ask(Operation.ABANDON, name, owner=STRANGER) is Code.GRANTED  # there is nothing of theirs to give up
    assert worker.fetch(*block_names(encoding, 0), owner=STRANGER) == ([Code.NOT_FOUND], b"")
    worker.ask_later(*commit(encoding))
    worker.service.finish_round()
    assert worker.fetch(*block_names(encoding, 0), owner=STRANGER) == ([Code.NOT_FOUND], b"")
    encoding.assert_readable(worker.store, SHARE)


def test_a_disk_without_room_is_said_so(worker: Worker) -> None:
    worker.disk.arm(always={"append": errno.ENOSPC})
    assert worker.ask(Operation.OPEN, large("large").opening(SHARE)) is Code.NO_ROOM
    assert worker.store_whole(whole(small("small"))) == [Code.NO_ROOM]


# --- STORE


def test_whole_shares_are_stored_and_answered_one_by_one(worker: Worker) -> None:
    encodings = [small(str(number)) for number in range(4)]
    worker.ask_later(*store_whole(*(whole(encoding) for encoding in encodings)))
    assert not held_by(worker.store)
    worker.store.changes()
    answers = worker.service.finish_round()
    announced = worker.store.changes().announced
    assert [share.encoding_id for share in announced] == [encoding.encoding_id for encoding in encodings]
    assert [answer.code for answer in only(answers, Stored).shares] == [Code.GRANTED] * 4
    for encoding in encodings:
        encoding.assert_readable(worker.store, SHARE)


def test_good_and_bad_shares_in_one_message_are_answered_one_by_one(worker: Worker) -> None:
    good, stored, opened = small("good"), small("stored"), small("opened")
    worker.store_whole(whole(stored))
    assert worker.ask(Operation.OPEN, sample("opened").opening(SHARE, share_bytes=200 << 10)) is Code.GRANTED
    contradictory = small("contradictory")
    codes = worker.store_whole(
        whole(small("wrong block"), block=b"w" * 40),
        whole(good),
        whole(small("no commitment"), commitment=b"\xc1"),
        whole(small("no recipe"), commitment=small("no recipe").signed(recipe=b"no recipe")),
        whole(sample("two segments", segments=2)),
        whole(stored),
        whole(opened),
        whole(contradictory, commitment=small("other").signed()),
        whole(good),
    )
    assert codes == [
        Code.MALFORMED,
        Code.GRANTED,
        Code.MALFORMED,
        Code.MALFORMED,
        Code.MALFORMED,
        Code.GRANTED,
        Code.CONFLICT,
        Code.MALFORMED,
        Code.GRANTED,
    ]
    for encoding in (good, stored):
        encoding.assert_readable(worker.store, SHARE)
    assert len(held_by(worker.store)) == 2
    assert len(list((worker.store.folder / "staging").iterdir())) == 1, "what was opened before is still being stored"


def test_a_contradiction_does_not_harm_the_share_that_came_before_it(worker: Worker) -> None:
    encoding = small("one")
    other = encoding.signed(mapping=b"another mapping")
    assert worker.store_whole(whole(encoding), whole(encoding, commitment=other)) == [Code.GRANTED, Code.CONFLICT]
    encoding.assert_readable(worker.store, SHARE)


def test_of_whole_shares_as_many_are_stored_as_brokers_remember(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.capacity.MAX_SHARES_ON_A_DEVICE", 3)
    assert worker.store_whole(whole(small("first"))) == [Code.GRANTED]
    codes = worker.store_whole(*(whole(small(f"later {number}")) for number in range(4)))
    assert codes == [Code.GRANTED] * 2 + [Code.NO_ROOM] * 2
    assert len(held_by(worker.store)) == 3


def test_a_whole_share_said_twice_within_a_round_is_stored_once_and_answered_twice(worker: Worker) -> None:
    encodings = [whole(small(str(number))) for number in range(3)]
    worker.ask_later(*store_whole(*encodings))
    worker.ask_later(*store_whole(*reversed(encodings)))
    answers = worker.service.finish_round()
    said = [[answer.code for answer in unpack_header(each.header, Stored).shares] for each in answers]
    assert said == [[Code.GRANTED] * 3] * 2
    assert len(held_by(worker.store)) == 3
    assert list(worker.store._staged) == []


def test_what_its_owner_deleted_is_not_stored_among_whole_shares(worker: Worker) -> None:
    fresh, deleted = small("fresh"), small("deleted")
    worker.store_whole(whole(deleted))
    worker.store.delete(deleted.deletion(), OWNER)
    codes = worker.store_whole(whole(deleted), whole(fresh), whole(deleted, share=SHARE + 1))
    assert codes == [Code.CONFLICT, Code.GRANTED, Code.CONFLICT]
    fresh.assert_readable(worker.store, SHARE)


def test_whole_shares_under_another_owners_word_or_signature_are_not_allowed(worker: Worker) -> None:
    one, two, good = small("one"), small("two"), small("good")
    forged = one.signed()
    forged.signature.signature = bytes(64)
    codes = worker.store_whole(whole(one, commitment=forged), whole(two, commitment=two.signed(STRANGER)), whole(good))
    assert codes == [Code.NOT_ALLOWED, Code.NOT_ALLOWED, Code.GRANTED]
    assert len(held_by(worker.store)) == 1
    assert list(worker.store._staged) == []


def test_a_share_whose_k_or_n_is_not_the_recipes_is_refused_and_leaves_nothing(worker: Worker) -> None:
    name, block, packed = whole(small("one"))
    name.k = 3
    assert worker.store_whole((name, block, packed)) == [Code.CONFLICT]
    assert list(worker.store._staged) == []


def test_a_payload_that_is_longer_or_shorter_than_the_header_says_is_malformed(worker: Worker) -> None:
    operation, header, payload = store_whole(whole(small("one")))
    for wrong in (payload[:-1], payload + b"x", b""):
        assert worker.ask(operation, header, wrong) is Code.MALFORMED
    assert worker.service.finish_round() == []


def test_a_store_that_went_read_only_says_so_for_every_share(worker: Worker) -> None:
    worker.disk.arm(always={"sync": errno.EIO})
    first = worker.store_whole(*(whole(small(f"first {number}")) for number in range(3)))
    later = worker.store_whole(*(whole(small(f"later {number}")) for number in range(MAX_BATCH)))
    assert first == [Code.READ_ONLY] * 3
    assert later == [Code.READ_ONLY] * MAX_BATCH


def test_the_refusals_of_a_full_batch_fit_into_one_header(worker: Worker) -> None:
    bad = [whole(small(str(number)), commitment=pack(["ä" * 100])) for number in range(MAX_BATCH)]
    worker.ask_later(*store_whole(*bad))
    answers = worker.service.finish_round()
    assert len(answers[0].header) <= MAX_HEADER
    stored = only(answers, Stored)
    assert {answer.code for answer in stored.shares} == {Code.MALFORMED}
    assert all(answer.text for answer in stored.shares)


def test_a_reason_given_alone_is_given_in_full(worker: Worker) -> None:
    worker.ask_later(*store_whole(whole(small("one"), block=b"w" * 40)))
    answers = worker.service.finish_round()
    assert only(answers, Stored).shares[0].text == "the block is not the one the recipe names"


def test_more_shares_than_can_be_open_at_once_are_asked_to_wait_as_a_whole(worker: Worker) -> None:
    for number in range(512 - 2):
        assert worker.ask(Operation.OPEN, small(str(number)).opening(SHARE)) is Code.GRANTED
    new = [whole(small(f"new {number}")) for number in range(3)]
    assert worker.ask(*store_whole(*new)) is Code.BUSY
    assert worker.store_whole(*new[:2]) == [Code.GRANTED] * 2
