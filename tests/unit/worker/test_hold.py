"""The hold: what a device keeps of what is deleted, whatever its owner signed, and for how long."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.protocol.messages import MAX_OWNERS_OF_AN_ENCODING, NO_TRASH, Code
from common.vault.keys import VaultKey
from tests.support.clocks import SetClock
from tests.support.sample_shares import HOLD, OWNER, Sample, declined, held_by, pass_time, sample, trashed
from worker.store import ShareStore

DAY = 24 * 3600


@pytest.fixture
def store(holding_store: ShareStore) -> ShareStore:
    return holding_store


def open_store(folder: Path, clock: SetClock, hold: int = HOLD) -> ShareStore:
    return ShareStore(folder, clock=clock, hold=hold)


@pytest.mark.parametrize("trash_seconds", [NO_TRASH, DAY])
def test_what_is_deleted_comes_back_within_the_hold(
    store: ShareStore, clock: SetClock, encoding: Sample, trash_seconds: int
) -> None:
    store.delete(encoding.deletion(trash_seconds=trash_seconds), OWNER)
    assert not held_by(store)
    pass_time(store, clock, HOLD - 1)
    store.undelete(encoding.undeletion(), OWNER)
    encoding.assert_readable(store, 0)


@pytest.mark.parametrize("trash_seconds", [NO_TRASH, DAY])
def test_behind_the_hold_it_is_gone(store: ShareStore, clock: SetClock, encoding: Sample, trash_seconds: int) -> None:
    store.delete(encoding.deletion(trash_seconds=trash_seconds), OWNER)
    pass_time(store, clock, HOLD + 301)
    assert not trashed(store)
    with declined(Code.NOT_FOUND):
        store.undelete(encoding.undeletion(), OWNER)


def test_a_trash_that_is_longer_than_the_hold_stays(store: ShareStore, clock: SetClock, encoding: Sample) -> None:
    store.delete(encoding.deletion(trash_seconds=2 * HOLD), OWNER)
    pass_time(store, clock, 2 * HOLD - 1)
    store.undelete(encoding.undeletion(), OWNER)
    encoding.assert_readable(store, 0)


def test_the_hold_outlives_a_restart_and_the_index(store: ShareStore, clock: SetClock, encoding: Sample) -> None:
    store.delete(encoding.deletion(trash_seconds=NO_TRASH), OWNER)
    store.close()
    for path in store.folder.glob("index.sqlite*"):
        path.unlink()
    clock.pass_time(HOLD - 1)
    again = open_store(store.folder, clock)
    again.expire(clock.monotonic())
    again.undelete(encoding.undeletion(), OWNER)
    encoding.assert_readable(again, 0)
    again.close()


def test_deleted_again_and_again_it_is_held_anew(store: ShareStore, clock: SetClock, encoding: Sample) -> None:
    for generation in range(1, 20, 2):
        store.delete(encoding.deletion(generation, trash_seconds=NO_TRASH), OWNER)
        pass_time(store, clock, HOLD - 1)
        store.undelete(encoding.undeletion(generation + 1), OWNER)
    encoding.assert_readable(store, 0)


def test_no_one_generation_uses_up_all_that_take_it_back(store: ShareStore, encoding: Sample) -> None:
    """With the last one that there is nothing could be taken back any more."""
    with declined(Code.NOT_ALLOWED):
        store.delete(encoding.deletion(2**32 - 1, trash_seconds=NO_TRASH), OWNER)
    encoding.assert_readable(store, 0)


def test_other_owners_deletions_push_nothing_out_of_the_trash(store: ShareStore, encoding: Sample) -> None:
    """Whoever has the owner's key can give the encoding to as many owners as they like."""
    others = [VaultKey(bytes([200, number]) * 16) for number in range(MAX_OWNERS_OF_AN_ENCODING)]
    store.delete(encoding.deletion(trash_seconds=NO_TRASH), OWNER)
    for other in others[:-1]:
        encoding.put(store, 1, other.owner_id())
        store.delete(encoding.deletion(key=other, trash_seconds=NO_TRASH), other.owner_id())
    encoding.put(store, 1, others[-1].owner_id())
    with declined(Code.NO_ROOM):
        store.delete(encoding.deletion(key=others[-1], trash_seconds=NO_TRASH), others[-1].owner_id())
    store.undelete(encoding.undeletion(), OWNER)
    encoding.assert_readable(store, 0)


def test_without_a_hold_what_goes_into_no_trash_is_gone_at_once(tmp_path: Path, clock: SetClock) -> None:
    store = open_store(tmp_path / "none", clock, hold=0)
    sample().put(store, 0)
    store.delete(sample().deletion(trash_seconds=NO_TRASH), OWNER)
    assert not trashed(store)
    store.close()


def test_what_is_held_takes_room_and_makes_none_for_others(tmp_path: Path, clock: SetClock) -> None:
    store = ShareStore(tmp_path / "small", 400 << 10, clock=clock, hold=HOLD)
    first = sample("first", segments=1, last=180 << 10, block_size=180 << 10)
    first.put(store, 0)
    store.delete(first.deletion(trash_seconds=NO_TRASH), OWNER)
    with declined(Code.NO_ROOM):
        second = sample("second", segments=1, last=180 << 10, block_size=180 << 10)
        second.put(store, 0)
    store.undelete(first.undeletion(), OWNER)
    first.assert_readable(store, 0)
    store.close()
