"""The trash: kept until its time is over and no longer; what is surplus is kept there for a day."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from common.protocol.device_messages import ShareName
from common.protocol.messages import NO_TRASH, TOMBSTONE_LIFETIME, Code
from tests.support.clocks import SetClock
from tests.support.sample_shares import (
    OWNER,
    STRANGER,
    Sample,
    damage,
    declined,
    held_by,
    lying,
    reopened,
    sample,
    through_restarts,
    trashed,
    with_index,
)
from worker.store import ShareStore

WEEK = 7 * 24 * 3600
TEN_YEARS = 10 * 365 * 24 * 3600


@pytest.fixture
def store(tmp_path: Path, clock: SetClock, encoding: Sample) -> Iterator[ShareStore]:
    """With one share, of which the brokers know."""
    store = ShareStore(tmp_path / "store", clock=clock)
    encoding.put(store, 0)
    store.changes()
    yield store
    store.close()


def name(encoding: Sample, share: int = 0) -> ShareName:
    return ShareName(encoding.encoding_id, share)


# --- time


def test_the_trash_is_purged_when_its_time_is_over_and_then_nothing_comes_back(
    store: ShareStore, encoding: Sample, clock: SetClock
) -> None:
    store.delete(encoding.deletion(trash_seconds=WEEK), OWNER)
    for _ in range(7 * 24 - 1):
        clock.pass_time(3600)
        store.expire(clock.now)
    assert trashed(store)
    for _ in range(2):
        clock.pass_time(3600)
        store.expire(clock.now)
    assert not trashed(store)
    assert store.used_bytes == 0
    assert [t.generation for t in store.tombstones()] == [1], "it is still remembered that this was deleted"
    with declined(Code.CONFLICT):
        store.open(encoding.opening(0), OWNER, 0.0)
    with declined(Code.NOT_FOUND):
        store.undelete(encoding.undeletion(), OWNER)


def test_what_is_deleted_without_trash_takes_no_room_at_once_and_stays_deleted(
    store: ShareStore, encoding: Sample
) -> None:
    store.delete(encoding.deletion(trash_seconds=NO_TRASH), OWNER)
    assert not trashed(store)
    assert store.used_bytes == 0
    with declined(Code.CONFLICT):
        store.open(encoding.opening(0), OWNER, 0.0)
    with declined(Code.NOT_FOUND):
        store.undelete(encoding.undeletion(), OWNER)


def test_a_tombstone_is_forgotten_when_it_ends_with_all_that_is_in_the_trash(
    store: ShareStore, encoding: Sample, clock: SetClock
) -> None:
    store.delete(encoding.deletion(trash_seconds=TOMBSTONE_LIFETIME), OWNER)
    clock.pass_time(TOMBSTONE_LIFETIME - 1)
    store.expire(clock.now)
    assert list(store.tombstones())
    clock.pass_time(301)
    store.expire(clock.now)
    assert not list(store.tombstones())
    assert not trashed(store)


def test_what_was_taken_back_is_never_purged(store: ShareStore, encoding: Sample, clock: SetClock) -> None:
    store.delete(encoding.deletion(trash_seconds=WEEK), OWNER)
    store.undelete(encoding.undeletion(), OWNER)
    clock.pass_time(2 * WEEK)
    store.expire(clock.now)
    encoding.assert_readable(store, 0)


def test_that_it_was_taken_back_is_remembered_as_long_as_the_share_is_here(
    store: ShareStore, encoding: Sample, clock: SetClock
) -> None:
    store.delete(encoding.deletion(), OWNER)
    store.undelete(encoding.undeletion(), OWNER)
    for _ in range(2):
        clock.pass_time(TOMBSTONE_LIFETIME + 1)
        store.expire(clock.now)
        with declined(Code.CONFLICT):
            store.delete(encoding.deletion(), OWNER)
    store.discard(encoding.key(0), OWNER)
    clock.pass_time(TOMBSTONE_LIFETIME + 1)
    store.expire(clock.now)
    assert not list(store.tombstones())


def test_a_deletion_counts_from_when_it_first_came_by_this_devices_clock(
    store: ShareStore, encoding: Sample, clock: SetClock
) -> None:
    deletion = encoding.deletion(trash_seconds=WEEK)
    clock.pass_time(TEN_YEARS)  # whatever the client's clock says
    store.delete(deletion, OWNER)
    clock.pass_time(WEEK - 100)
    store.delete(deletion, OWNER)  # shown again it prolongs nothing
    told = store.told(deletion)
    assert told is not None
    assert (told.trash_left, told.left) == (100, TOMBSTONE_LIFETIME - WEEK + 100)
    store = reopened(store, clock)
    assert store.told(deletion) == told
    clock.pass_time(101)
    store.expire(clock.now)
    assert not trashed(store)
    store.close()


def test_of_two_deletions_of_one_generation_the_same_holds_everywhere(
    store: ShareStore, encoding: Sample, tmp_path: Path, clock: SetClock
) -> None:
    pair = [encoding.deletion(trash_seconds=WEEK), encoding.deletion(trash_seconds=2 * WEEK)]
    other = ShareStore(tmp_path / "other", clock=clock)
    encoding.put(other, 1)
    for each, order in ((store, pair), (other, pair[::-1])):
        each.delete(order[0], OWNER)
        clock.pass_time(WEEK / 2)
        each.delete(order[1], OWNER)
    assert list(store.tombstones()) == list(other.tombstones())
    told = other.told(next(iter(other.tombstones())))
    assert told is not None
    assert told.trash_left == told.tombstone.trash_seconds - WEEK / 2, "the second prolongs nothing"
    other.close()


def test_the_purge_is_done_at_the_start_too(store: ShareStore, encoding: Sample, clock: SetClock) -> None:
    store.delete(encoding.deletion(trash_seconds=WEEK), OWNER)
    clock.pass_time(WEEK)
    store = reopened(store, clock)
    store.expire(clock.now)
    assert not trashed(store)
    store.close()


@pytest.mark.parametrize("leap", [TEN_YEARS, -TEN_YEARS])
def test_a_clock_that_leaps_and_is_put_right_costs_nothing(
    store: ShareStore, encoding: Sample, clock: SetClock, leap: int
) -> None:
    store.delete(encoding.deletion(trash_seconds=WEEK), OWNER)
    store.expire(clock.now)
    clock.wall += leap
    for _ in range(10):
        clock.pass_time(301)
        store.expire(clock.now)
    clock.wall -= leap
    for _ in range(100):
        clock.pass_time(301)
        store.expire(clock.now)
    assert trashed(store)
    store.undelete(encoding.undeletion(), OWNER)
    encoding.assert_readable(store, 0)


def files_of_shares(store: ShareStore) -> list[Path]:
    return [path for path in store.folder.glob("shares/*/*")]


@pytest.mark.parametrize("trash_seconds", [NO_TRASH, WEEK])
def test_what_was_purged_does_not_come_back_even_if_the_index_is_lost(
    store: ShareStore, encoding: Sample, clock: SetClock, trash_seconds: int
) -> None:
    store.delete(encoding.deletion(trash_seconds=trash_seconds), OWNER)
    clock.pass_time(WEEK)
    store.expire(clock.now)
    for again in through_restarts(store, clock):
        assert not held_by(again)
        assert not trashed(again)
        assert not files_of_shares(again)
        assert again.used_bytes == 0
    again.close()


def test_a_loss_of_the_index_prolongs_no_time_in_the_trash(
    store: ShareStore, encoding: Sample, clock: SetClock
) -> None:
    store.delete(encoding.deletion(trash_seconds=WEEK), OWNER)
    clock.pass_time(WEEK - 1)
    store = with_index(store, clock, {})
    store.expire(clock.now)
    assert trashed(store)
    clock.pass_time(301)
    store.expire(clock.now)
    assert not trashed(store)
    store.close()


# --- giving up what is surplus


def test_a_discarded_share_is_withdrawn_and_in_the_trash_for_a_day(
    store: ShareStore, encoding: Sample, clock: SetClock
) -> None:
    used = store.used_bytes
    store.discard(encoding.key(0), OWNER)
    changes = store.changes()
    assert (changes.withdrawn, changes.announced, changes.tombstones) == ([name(encoding)], [], [])
    assert not held_by(store)
    assert store.used_bytes == used
    store = reopened(store, clock)
    assert not held_by(store)
    assert store.used_bytes == used
    for hours, there in ((23, True), (2, False)):
        clock.pass_time(hours * 3600)
        store.expire(clock.now)
        assert bool(trashed(store)) is there
    assert store.used_bytes == 0
    store.close()


def test_a_discarded_share_can_be_stored_anew_and_discarded_again(
    store: ShareStore, encoding: Sample, clock: SetClock
) -> None:
    for _ in range(3):
        store.discard(encoding.key(0), OWNER)
        encoding.put(store, 0)
        encoding.assert_readable(store, 0)
        size = lying(store, encoding, 0)[2]
        assert store.used_bytes == size + size * len(trashed(store))
        clock.pass_time(0.4)


def test_discarding_what_is_not_there_is_harmless_and_told_once_more(store: ShareStore) -> None:
    store.discard(sample("other").key(0), OWNER)
    assert store.changes().withdrawn == [name(sample("other"))]


def test_another_owners_share_is_not_discarded(store: ShareStore, encoding: Sample) -> None:
    with declined(Code.NOT_FOUND):
        store.discard(encoding.key(0), STRANGER)
    encoding.assert_readable(store, 0)


def test_a_damaged_share_can_be_discarded(store: ShareStore, encoding: Sample) -> None:
    damage(store, encoding, 0, -8)
    with declined(Code.DAMAGED):
        store.block(encoding.key(0), OWNER, 0)
    store.changes()
    store.discard(encoding.key(0), OWNER)
    assert store.changes().withdrawn == [name(encoding)]
    assert not held_by(store)


def test_what_was_discarded_does_not_come_back_with_an_undeletion(store: ShareStore, encoding: Sample) -> None:
    encoding.put(store, 1)
    store.discard(encoding.key(0), OWNER)
    store.delete(encoding.deletion(), OWNER)
    store.undelete(encoding.undeletion(), OWNER)
    assert list(held_by(store)) == [encoding.key(1)]
