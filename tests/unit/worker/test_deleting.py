"""Deleting, taking back, giving up: by right only, durably, and never the other way round after a restart."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import worker.deleting
from common.protocol.device_messages import ShareName
from common.protocol.messages import MAX_OWNERS_OF_AN_ENCODING, NO_TRASH, Code, Tombstone
from common.vault.keys import VaultKey
from tests.support.clocks import SetClock
from tests.support.sample_shares import (
    KEY,
    OWNER,
    STRANGER,
    STRANGERS_KEY,
    TRASH,
    Sample,
    copy_of_index,
    damage,
    declined,
    held_by,
    large,
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


# --- deleting


def test_what_is_deleted_is_in_the_trash_and_that_is_told(store: ShareStore, encoding: Sample, clock: SetClock) -> None:
    used = store.used_bytes
    store.delete(encoding.deletion(), OWNER)
    changes = store.changes()
    assert changes.tombstones == [encoding.deletion(1)]
    assert changes.withdrawn == [name(encoding)]
    assert not changes.announced
    assert [(kept.key, kept.deleted_by) for kept in trashed(store)] == [(encoding.key(0), OWNER)]
    assert store.used_bytes == used, "the trash takes room"
    for index in (copy_of_index(store), {}):
        store = with_index(store, clock, index)
        assert not held_by(store)
        assert [(kept.key, kept.deleted_by) for kept in trashed(store)] == [(encoding.key(0), OWNER)]
        assert list(store.tombstones()) == [encoding.deletion(1)]
        assert store.used_bytes == used
    store.undelete(encoding.undeletion(), OWNER)
    encoding.assert_readable(store, 0)
    store.close()


def test_of_an_encoding_given_to_any_number_of_owners_32_deletions_are_kept(
    store: ShareStore, encoding: Sample, clock: SetClock
) -> None:
    """Whoever first stored it can give it to owners that they make up, and have each delete it."""
    store.delete(encoding.deletion(), OWNER)
    for number in range(100, 108 + MAX_OWNERS_OF_AN_ENCODING):
        key = VaultKey(bytes([number]) * 32)
        clock.now += 1.0
        encoding.put(store, 1, key.owner_id())
        store.delete(encoding.deletion(key=key, trash_seconds=NO_TRASH), key.owner_id())
    owners = [tombstone.owner for tombstone in store.tombstones()]
    assert len(owners) == MAX_OWNERS_OF_AN_ENCODING
    assert key.owner_id() in owners
    store = reopened(store, clock)
    assert sorted(tombstone.owner for tombstone in store.tombstones()) == sorted(owners)
    store.close()


def test_a_deletion_of_whom_a_share_is_held_makes_way_for_none(store: ShareStore, encoding: Sample) -> None:
    encoding.put(store, 2)
    store.delete(encoding.deletion(), OWNER)
    store.undelete(encoding.undeletion(), OWNER)
    for number in range(100, 108 + MAX_OWNERS_OF_AN_ENCODING):
        key = VaultKey(bytes([number]) * 32)
        encoding.put(store, 1, key.owner_id())
        store.delete(encoding.deletion(key=key), key.owner_id())
    assert encoding.undeletion() in list(store.tombstones())
    with declined(Code.CONFLICT):
        store.delete(encoding.deletion(), OWNER)


def test_who_stores_and_deletes_without_end_loses_the_oldest_tombstones_and_alone(
    store: ShareStore, encoding: Sample, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker.deleting, "_MOST_TOMBSTONES", 10)
    monkeypatch.setattr(worker.deleting, "_AT_A_TIME", 1)
    others = [sample(f"other {number}") for number in range(3)]
    for encoding in others:
        encoding.put(store, 0)
        store.delete(encoding.deletion(trash_seconds=NO_TRASH), OWNER)
    told = list(store.tombstones())
    own = [sample(f"stranger's {number}") for number in range(30)]
    for encoding in own:
        clock.now += 1.0
        encoding.put(store, 0, STRANGER)
        store.delete(encoding.deletion(key=STRANGERS_KEY, trash_seconds=NO_TRASH), STRANGER)
    kept = list(store.tombstones())
    assert [each for each in kept if each.owner == OWNER] == told
    assert {each.encoding_id for each in kept if each.owner == STRANGER} == {e.encoding_id for e in own[-7:]}
    assert len(kept) == 10
    store = reopened(store, clock)
    assert sorted(each.encoding_id for each in store.tombstones()) == sorted(each.encoding_id for each in kept)
    store.close()


def test_no_deletion_makes_way_while_what_it_deleted_can_be_taken_back(
    store: ShareStore, encoding: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker.deleting, "_MOST_TOMBSTONES", 2)
    monkeypatch.setattr(worker.deleting, "_AT_A_TIME", 1)
    first, second = encoding, sample("second")
    store.delete(first.deletion(), OWNER)
    second.put(store, 0)
    store.delete(second.deletion(), OWNER)
    third = sample("third")
    third.put(store, 0)
    store.delete(third.deletion(), OWNER)
    assert len(list(store.tombstones())) == 3
    for encoding in (first, second, third):
        store.undelete(encoding.undeletion(), OWNER)
        encoding.assert_readable(store, 0)
    with declined(Code.CONFLICT):
        store.delete(first.deletion(), OWNER)


def test_all_shares_of_the_encoding_go_and_no_others(store: ShareStore, encoding: Sample) -> None:
    encoding, other = encoding, sample("other")
    encoding.put(store, 2)
    other.put(store, 0)
    encoding.stage(store, 1)
    store.delete(encoding.deletion(), OWNER)
    assert list(held_by(store)) == [other.key(0)]
    with declined(Code.NOT_OPEN):
        encoding.append(store, 1, 0)
    other.assert_readable(store, 0)


def test_a_deleted_share_is_not_found(store: ShareStore, encoding: Sample) -> None:
    encoding.assert_readable(store, 0)  # it is open now
    store.delete(encoding.deletion(), OWNER)
    with declined(Code.NOT_FOUND):
        store.block(encoding.key(0), OWNER, 0)
    with declined(Code.NOT_FOUND):
        store.share(encoding.key(0), OWNER)


def forged(tombstone: Tombstone) -> list[Tombstone]:
    """The same with each field another, under the signature that it had."""
    others = {
        "object_id": bytes(32),
        "owner_key": STRANGERS_KEY.owner_key(),
        "generation": tombstone.generation + 2,
        "trash_seconds": tombstone.trash_seconds - 1,
        "signature": bytes(64),
    }
    return [msgspec.structs.replace(tombstone, **{name: other}) for name, other in others.items()]


def test_nobody_deletes_what_the_owner_did_not_sign(store: ShareStore, encoding: Sample) -> None:
    encoding, other = encoding, sample("other")
    for wrong in forged(encoding.deletion()):
        with declined(Code.NOT_ALLOWED):
            store.delete(wrong, OWNER)
    with declined(Code.NOT_ALLOWED):
        store.delete(msgspec.structs.replace(other.deletion(), encoding_id=encoding.encoding_id), OWNER)
    assert not store.changes()
    encoding.assert_readable(store, 0)
    store.delete(encoding.deletion(), OWNER)
    for wrong in forged(encoding.deletion()):
        with declined(Code.NOT_ALLOWED):
            store.delete(wrong, OWNER)


def test_what_the_owner_signed_serves_nobody_else(store: ShareStore, encoding: Sample) -> None:
    with declined(Code.NOT_ALLOWED):
        store.delete(encoding.deletion(), STRANGER)
    encoding.assert_readable(store, 0)


def test_another_owner_deletes_nothing(store: ShareStore, encoding: Sample) -> None:
    with declined(Code.NOT_FOUND):
        store.delete(encoding.deletion(key=STRANGERS_KEY), STRANGER)
    encoding.assert_readable(store, 0)


def test_a_share_that_was_not_amended_is_deleted_by_the_object_id_of_the_others(
    store: ShareStore, encoding: Sample
) -> None:
    store.delete(KEY.tombstone(bytes(32), encoding.encoding_id, 1, TRASH), OWNER)
    assert not held_by(store)


def test_a_share_of_another_owner_stays_though_it_is_under_the_same_id(store: ShareStore, encoding: Sample) -> None:
    encoding.put(store, 1, STRANGER)
    store.delete(encoding.deletion(), OWNER)
    assert list(held_by(store)) == [encoding.key(1)]
    store.delete(encoding.deletion(key=STRANGERS_KEY), STRANGER)
    assert not held_by(store)


def test_where_nothing_of_it_is_it_is_not_found(store: ShareStore) -> None:
    with declined(Code.NOT_FOUND):
        store.delete(sample("other").deletion(), OWNER)
    assert list(store.tombstones()) == []


def test_saying_it_again_is_harmless(store: ShareStore, encoding: Sample) -> None:
    for _ in range(3):
        store.delete(encoding.deletion(), OWNER)
    assert store.changes().tombstones == [encoding.deletion(1)]
    store.delete(encoding.deletion(3), OWNER)
    store.delete(encoding.deletion(1), OWNER)
    assert list(store.tombstones()) == [encoding.deletion(3)]


@pytest.mark.parametrize("generation", [2, 4])
def test_an_even_generation_is_no_deletion_and_an_odd_one_takes_none_back(
    store: ShareStore, encoding: Sample, generation: int
) -> None:
    with declined(Code.MALFORMED):
        store.delete(encoding.deletion(generation), OWNER)
    store.delete(encoding.deletion(), OWNER)
    with declined(Code.MALFORMED):
        store.undelete(encoding.undeletion(generation + 1), OWNER)


def test_what_was_deleted_cannot_be_stored_again_under_its_id(store: ShareStore, encoding: Sample) -> None:
    encoding, begun = encoding, sample("begun")
    begun.put(store, 0)
    begun.stage(store, 1)
    pending = store.prepare_commit(begun.key(1), OWNER, begun.signed())
    for each in (encoding, begun):
        store.delete(each.deletion(), OWNER)
        with declined(Code.CONFLICT):
            store.open(each.opening(1), OWNER, 0.0)
        with declined(Code.CONFLICT):
            store.prepare_commit(each.key(0), OWNER, each.signed())
    assert pending is not None
    assert store.commit_round([pending])[0].code is Code.NOT_OPEN, "the commit that was under way is none any more"
    assert not held_by(store)


def test_one_who_deletes_his_own_hinders_no_other_under_the_same_id(store: ShareStore, encoding: Sample) -> None:
    store.delete(encoding.deletion(), OWNER)
    encoding.put(store, 1, STRANGER)
    encoding.assert_readable(store, 1, STRANGER)


def test_a_damaged_share_goes_too_and_comes_back_as_damaged(
    store: ShareStore, encoding: Sample, clock: SetClock
) -> None:
    damage(store, encoding, 0, 100)
    with declined(Code.DAMAGED):
        store.block(encoding.key(0), OWNER, 0)
    store.delete(encoding.deletion(), OWNER)
    assert not held_by(store)
    assert [kept.deleted_by for kept in trashed(store)] == [OWNER]
    store = reopened(store, clock)
    store.undelete(encoding.undeletion(), OWNER)
    assert not held_by(store)[encoding.key(0)].sound
    assert store.block(encoding.key(0), OWNER, 1) == encoding.blocks[1][0], "with its good blocks"
    store.close()


def test_a_share_that_does_not_say_who_may_delete_it_is_not_deleted(
    store: ShareStore, encoding: Sample, clock: SetClock
) -> None:
    damage(store, encoding, 0, 0, bytes(lying(store, encoding, 0)[2]))
    store = with_index(store, clock, {})
    with declined(Code.DAMAGED):
        store.delete(encoding.deletion(), OWNER)
    store.discard(encoding.key(0), OWNER)  # that needs no proof
    assert not held_by(store)
    store.close()


# --- taking back


def test_what_is_taken_back_is_there_as_it_was(store: ShareStore, encoding: Sample, clock: SetClock) -> None:
    held = dict(held_by(store))
    used = store.used_bytes
    store.delete(encoding.deletion(), OWNER)
    store.changes()
    store.undelete(encoding.undeletion(), OWNER)
    changes = store.changes()
    assert changes.tombstones == [encoding.deletion(2)]
    assert changes.announced == list(held.values())
    assert not changes.withdrawn
    assert trashed(store) == []
    for again in through_restarts(store, clock):
        assert dict(held_by(again)) == held
        assert again.used_bytes == used
        assert list(again.tombstones()) == [encoding.deletion(2)]
        encoding.assert_readable(again, 0)
    again.close()


def test_taking_back_needs_the_same_right(store: ShareStore, encoding: Sample) -> None:
    with declined(Code.NOT_FOUND):
        store.undelete(sample("other").undeletion(), OWNER)
    store.delete(encoding.deletion(), OWNER)
    for wrong in forged(encoding.undeletion()):
        with declined(Code.NOT_ALLOWED):
            store.undelete(wrong, OWNER)
    with declined(Code.NOT_FOUND):
        store.undelete(encoding.undeletion(key=STRANGERS_KEY), STRANGER)
    assert not held_by(store)


def test_the_higher_generation_holds_in_whatever_order_they_come(store: ShareStore, encoding: Sample) -> None:
    store.delete(encoding.deletion(1), OWNER)
    store.undelete(encoding.undeletion(2), OWNER)
    with declined(Code.CONFLICT):
        store.delete(encoding.deletion(1), OWNER)  # it was on its way for long
    encoding.assert_readable(store, 0)
    store.delete(encoding.deletion(5), OWNER)
    with declined(Code.CONFLICT):
        store.undelete(encoding.undeletion(4), OWNER)
    assert not held_by(store)
    store.undelete(encoding.undeletion(8), OWNER)
    store.undelete(encoding.undeletion(2), OWNER)
    encoding.assert_readable(store, 0)


def test_an_encoding_that_was_taken_back_can_be_stored_and_scrubbed_like_any(
    store: ShareStore, encoding: Sample
) -> None:
    store.delete(encoding.deletion(), OWNER)
    store.undelete(encoding.undeletion(), OWNER)
    encoding.put(store, 1)
    encoding.assert_readable(store, 1)


def test_what_was_damaged_in_the_trash_comes_back_as_damaged(store: ShareStore, encoding: Sample) -> None:
    store.delete(encoding.deletion(), OWNER)
    damage(store, encoding, 0, -8)
    store.undelete(encoding.undeletion(), OWNER)
    assert not held_by(store)[encoding.key(0)].sound


def test_an_older_deletion_does_nothing_where_a_share_came_after_it_was_taken_back(
    store: ShareStore, encoding: Sample, clock: SetClock
) -> None:
    store.undelete(encoding.undeletion(), OWNER)  # as the steward shows it to every holder
    assert store.changes().tombstones == [encoding.undeletion()]
    store = reopened(store, clock)
    with declined(Code.CONFLICT):
        store.delete(encoding.deletion(), OWNER)
    encoding.assert_readable(store, 0)
    store.delete(encoding.deletion(3), OWNER)
    assert not held_by(store)
    store.close()


def test_taking_back_from_an_empty_trash_is_remembered_and_said_not_to_be_possible(
    store: ShareStore, encoding: Sample, clock: SetClock
) -> None:
    store.delete(encoding.deletion(trash_seconds=NO_TRASH), OWNER)
    for _ in range(2):
        with declined(Code.NOT_FOUND):
            store.undelete(encoding.undeletion(), OWNER)
    assert store.changes().tombstones == [encoding.undeletion()]
    store = reopened(store, clock)
    encoding.put(store, 1)
    with declined(Code.CONFLICT):
        store.delete(encoding.deletion(trash_seconds=NO_TRASH), OWNER)
    encoding.assert_readable(store, 1)
    store.close()


def test_nothing_is_kept_of_what_was_taken_back_where_nothing_of_it_is(store: ShareStore) -> None:
    with declined(Code.NOT_FOUND):
        store.undelete(sample("other").undeletion(), OWNER)
    assert list(store.tombstones()) == []


# --- others under the same id


def test_another_owners_deletion_keeps_nobody_from_deleting_nor_from_taking_back(
    store: ShareStore, encoding: Sample, clock: SetClock
) -> None:
    encoding.put(store, 1, STRANGER)
    store.delete(encoding.deletion(key=STRANGERS_KEY), STRANGER)
    encoding.assert_readable(store, 0)
    store.delete(encoding.deletion(), OWNER)
    store.undelete(encoding.undeletion(key=STRANGERS_KEY), STRANGER)
    for each in through_restarts(store, clock):
        assert list(held_by(each)) == [encoding.key(1)]
        assert len(trashed(each)) == 1
    each.undelete(encoding.undeletion(), OWNER)
    encoding.assert_readable(each, 0)
    encoding.assert_readable(each, 1, STRANGER)
    each.close()


def test_what_another_deletes_replaces_nothing_in_the_trash(
    store: ShareStore, encoding: Sample, clock: SetClock
) -> None:
    store.delete(encoding.deletion(), OWNER)
    encoding.put(store, 0, STRANGER)
    store.delete(encoding.deletion(key=STRANGERS_KEY, trash_seconds=60), STRANGER)
    assert len(trashed(store)) == 2
    clock.pass_time(301)
    store.expire(clock.now)
    assert [kept.deleted_by for kept in trashed(store)] == [OWNER]
    store.undelete(encoding.undeletion(), OWNER)
    encoding.assert_readable(store, 0)


def test_what_cannot_come_back_since_anothers_share_is_in_its_place_is_said(
    store: ShareStore, encoding: Sample, clock: SetClock
) -> None:
    store.delete(encoding.deletion(), OWNER)
    encoding.put(store, 0, STRANGER)
    with declined(Code.CONFLICT):
        store.undelete(encoding.undeletion(), OWNER)
    encoding.assert_readable(store, 0, STRANGER)
    store.delete(encoding.deletion(key=STRANGERS_KEY), STRANGER)
    clock.pass_time(301)
    store.expire(clock.now)
    encoding.assert_readable(store, 0)
    assert encoding.key(0) in {(share.encoding_id, share.share) for share in store.changes().announced}


# --- crashes between the steps


def test_a_deletion_that_was_interrupted_is_finished_at_the_next_start(
    store: ShareStore, encoding: Sample, clock: SetClock
) -> None:
    index = copy_of_index(store)
    store.delete(encoding.deletion(), OWNER)
    store = with_index(store, clock, index)  # as if the worker had ended once the tombstone was durable
    assert not held_by(store)
    assert [(kept.key, kept.deleted_by) for kept in trashed(store)] == [(encoding.key(0), OWNER)]
    store.close()


def test_a_taking_back_that_was_interrupted_is_finished_at_the_next_start(
    store: ShareStore, encoding: Sample, clock: SetClock
) -> None:
    store.delete(encoding.deletion(), OWNER)
    index = copy_of_index(store)
    store.undelete(encoding.undeletion(), OWNER)
    store = with_index(store, clock, index)
    encoding.assert_readable(store, 0)
    assert trashed(store) == []
    store.close()


def test_what_is_put_into_a_store_by_hand_outlives_a_tombstone_that_does_not_fit(
    store: ShareStore, clock: SetClock, tmp_path: Path
) -> None:
    own, theirs = sample("own"), large("theirs")
    own.put(store, 0)
    elsewhere = ShareStore(tmp_path / "elsewhere")
    theirs.put(elsewhere, 1, STRANGER)
    path = lying(elsewhere, theirs, 1)[0]
    elsewhere.close()
    by_hand = store._layout.share(theirs.key(1), store._index.next_serial())
    theirs.put(store, 0)
    store.delete(theirs.deletion(), OWNER)
    by_hand.parent.mkdir(exist_ok=True)
    shutil.copy(path, by_hand)
    store = reopened(store, clock)
    assert {key for key in held_by(store)} >= {theirs.key(1)}
    theirs.assert_readable(store, 1, STRANGER)
    store.close()
