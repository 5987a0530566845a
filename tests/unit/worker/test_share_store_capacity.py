"""The store's room: no more is taken than the owner of the device allows, and that is said before it is written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from common.protocol.messages import Code
from tests.support.clocks import SetClock
from tests.support.sample_shares import (
    OVERHEAD,
    OWNER,
    STRANGER,
    damage,
    declined,
    held_by,
    large,
    lying,
    sample,
    staged_files,
    trashed,
)
from worker.disk import Disk
from worker.store import ShareStore


class SmallDisk(Disk):
    """A disk that says to have so much room."""

    def __init__(self, free: int, total: int) -> None:
        self.free, self.total = free, total

    def free_bytes(self, folder: Path) -> tuple[int, int]:
        return self.free, self.total


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(folder: Path) -> Iterator[ShareStore]:
    store = ShareStore(folder)
    yield store
    store.close()


def test_no_more_is_stored_than_the_capacity_and_that_is_said_before_any_write(folder: Path) -> None:
    encoding = sample()
    needed = encoding.recipe.share_bytes + OVERHEAD
    store = ShareStore(folder, needed - 1)
    with declined(Code.NO_ROOM):
        store.open(encoding.opening(0), OWNER, 0.0)
    assert staged_files(folder) == []
    store.close()
    store = ShareStore(folder, needed)
    encoding.put(store, 0)
    store.close()


def test_room_is_promised_to_one_share_only(folder: Path) -> None:
    one, other = sample("one"), sample("other")
    needed = one.recipe.share_bytes + OVERHEAD
    store = ShareStore(folder, 2 * needed - 1)
    store.open(one.opening(0), OWNER, 0.0)
    with declined(Code.NO_ROOM):
        store.open(other.opening(0), OWNER, 0.0)
    for segment in range(3):  # what was written is room taken, as what was promised is
        one.append(store, 0, segment)
    with declined(Code.NO_ROOM):
        store.open(other.opening(0), OWNER, 0.0)
    assert one.commit(store, 0).granted
    store.open(other.opening(0), OWNER, 0.0)  # the overhead was not needed
    store.close()


def test_a_share_of_unknown_length_is_held_to_the_capacity_block_by_block(folder: Path) -> None:
    block = 32 * 1024
    encoding = sample(segments=20, block_size=block, last=block)
    capacity = 10 * block + OVERHEAD
    store = ShareStore(folder, capacity)
    store.open(encoding.opening(0, share_bytes=0), OWNER, 0.0)
    appended = 0
    with declined(Code.NO_ROOM):
        for segment in range(20):
            encoding.append(store, 0, segment)
            appended += block
    assert 4 * block <= appended <= capacity
    assert sum(path.stat().st_size for path in staged_files(folder)) <= capacity
    store.close()


def test_a_commitment_for_which_there_is_no_room_is_refused(folder: Path) -> None:
    encoding = sample()
    store = ShareStore(folder, encoding.recipe.share_bytes + OVERHEAD)
    encoding.stage(store, 0)
    large = encoding.signed(mapping=bytes(100_000))
    with declined(Code.NO_ROOM):
        store.prepare_commit(encoding.key(0), OWNER, large)
    assert encoding.commit(store, 0).granted
    store.close()


def test_a_reserve_of_the_disk_stays_free(folder: Path) -> None:
    total = 10 * 2**20
    disk = SmallDisk(total, total)
    store = ShareStore(folder, disk=disk)
    assert store.free_bytes() == total - total // 20
    disk.total = disk.free = 2**40
    assert store.free_bytes() == 2**40 - 2**30
    disk.free = 2**30 + OVERHEAD
    with declined(Code.NO_ROOM):
        store.open(sample().opening(0), OWNER, 0.0)
    store.close()


def test_what_was_written_of_a_promise_is_not_counted_twice_against_the_disk(folder: Path) -> None:
    total = 10 * 2**20
    disk = SmallDisk(total, total)
    store = ShareStore(folder, disk=disk)
    encoding = sample(segments=3, block_size=2**18, last=2**18)
    store.open(encoding.opening(0), OWNER, 0.0)
    for segment in range(3):
        disk.free = total - sum(path.stat().st_size for path in staged_files(folder))
        assert store.free_bytes() == total - total // 20 - encoding.recipe.share_bytes - OVERHEAD
        encoding.append(store, 0, segment)
    store.close()


def test_used_bytes_are_the_records_and_free_bytes_what_the_capacity_leaves(folder: Path) -> None:
    capacity = 2**20
    store = ShareStore(folder, capacity)
    for label in ("one", "other"):
        sample(label).put(store, 0)
    sample("staged").stage(store, 0)
    sample("abandoned").stage(store, 0)
    store.abandon(sample("abandoned").key(0), OWNER)
    promised = sample().recipe.share_bytes + OVERHEAD
    assert store.used_bytes == sum(lying(store, sample(label), 0)[2] for label in ("one", "other"))
    assert store.free_bytes() == capacity - store.used_bytes - promised
    assert store.capacity_bytes() == store.used_bytes + store.free_bytes()
    used = store.used_bytes
    store.abandon(sample("staged").key(0), OWNER)
    store.close()
    store = ShareStore(folder, capacity)
    assert store.used_bytes == used
    assert store.capacity_bytes() == capacity
    store.close()


def test_a_damaged_share_takes_its_room(folder: Path) -> None:
    store = ShareStore(folder)
    for encoding in (sample(), large()):
        encoding.put(store, 0)
        damage(store, encoding, 0)
        with declined(Code.DAMAGED):
            store.share(encoding.key(0), OWNER)
    used = sum(lying(store, encoding, 0)[2] for encoding in (sample(), large()))
    for index in ("kept", "made anew"):
        assert store.used_bytes == used, index
        store.close()
        for path in folder.glob("index*") if index == "kept" else []:
            path.unlink()
        store = ShareStore(folder, 2**20)
    store.close()


def test_what_lies_dead_in_packs_counts_as_free_since_it_is_given_back(folder: Path) -> None:
    total = 100 * 2**20
    disk = SmallDisk(total, total)
    store = ShareStore(folder, disk=disk)
    free = store.free_bytes()
    for number in range(20):
        encoding = sample(f"{number}", segments=1, last=100 << 10, block_size=100 << 10)
        encoding.put(store, 0)
        store.delete(encoding.deletion(trash_seconds=0), OWNER)
    disk.free = total - sum(path.stat().st_size for path in (folder / "packs").iterdir())
    assert free - store.free_bytes() < 20_000, "of 2 MiB"
    store.close()


def test_a_vault_gets_no_more_of_a_device_than_its_quota_and_others_do(folder: Path) -> None:
    mib = 2**20
    store = ShareStore(folder, owner_quota=2 * mib)
    sample("kept").put(store, 0)
    store.open(sample("1").opening(0, share_bytes=mib), OWNER, 0.0)
    with declined(Code.NO_ROOM):
        store.open(sample("2").opening(0, share_bytes=mib), OWNER, 0.0)
    store.open(sample("3").opening(0, share_bytes=mib), STRANGER, 0.0)
    store.abandon(sample("1").key(0), OWNER)
    store.open(sample("2").opening(0, share_bytes=mib), OWNER, 0.0)
    store.close()


def test_a_share_of_unknown_length_counts_against_the_quota_as_it_grows(folder: Path) -> None:
    store = ShareStore(folder, owner_quota=2 * OVERHEAD)
    encoding = sample(segments=8, block_size=2**14, last=2**14)
    store.open(encoding.opening(0, share_bytes=0), OWNER, 0.0)
    with declined(Code.NO_ROOM):
        for segment in range(8):
            encoding.append(store, 0, segment)
    store.close()


# --- what gives way


def test_where_room_is_needed_the_oldest_surplus_goes_and_nothing_deleted_does(folder: Path) -> None:
    one, other, deleted = (sample(label, block_size=2**17, last=2**17) for label in ("one", "other", "deleted"))
    size = one.recipe.share_bytes
    clock = SetClock()
    store = ShareStore(folder, 3 * size + 2 * OVERHEAD, clock=clock)
    for encoding in (one, other, deleted):
        encoding.put(store, 0)
    store.delete(deleted.deletion(), OWNER)
    for encoding in (one, other):
        store.discard(encoding.key(0), OWNER)
        clock.pass_time(60)
    free = store.free_bytes()
    assert 2 * size < free < 3 * size, "surplus counts as free"
    assert store.capacity_bytes() == 3 * size + 2 * OVERHEAD
    keys = [encoding.key(0) for encoding in (one, other, deleted)]
    for number, left in enumerate((keys[1:], keys[2:])):
        sample(f"new {number}", block_size=2**17, last=2**17).put(store, 0)
        assert {kept.key for kept in trashed(store)} == set(left)
    with declined(Code.NO_ROOM):
        store.open(sample("third", block_size=2**17, last=2**17).opening(0), OWNER, 0.0)
    store.undelete(deleted.undeletion(), OWNER)
    deleted.assert_readable(store, 0)
    store.close()


def test_nothing_gives_way_in_vain(folder: Path) -> None:
    one = sample("one", block_size=2**17, last=2**17)
    store = ShareStore(folder, 2 * one.recipe.share_bytes)
    one.put(store, 0)
    store.discard(one.key(0), OWNER)
    with declined(Code.NO_ROOM):
        store.open(sample("large", segments=9, block_size=2**17, last=2**17).opening(0), OWNER, 0.0)
    assert len(trashed(store)) == 1
    store.close()


def test_an_idle_share_gives_its_room_and_place_and_one_under_way_does_not(folder: Path) -> None:
    idle, live, new = sample("idle"), sample("live"), sample("new")
    needed = idle.recipe.share_bytes + OVERHEAD
    store = ShareStore(folder, 2 * needed)
    store.open(idle.opening(0), OWNER, 0.0)
    store.open(live.opening(0), OWNER, 1070.0)
    store.expire(1071.0)
    assert store.free_bytes() == needed
    store.open(new.opening(0), OWNER, 1071.0)
    with declined(Code.NOT_OPEN):
        idle.append(store, 0, 0)
    with declined(Code.NO_ROOM):
        store.open(idle.opening(0), OWNER, 1072.0)
    live.append(store, 0, 0, now=1072.0)
    store.close()


def test_of_idle_shares_the_one_idle_for_longest_gives_its_place(store: ShareStore) -> None:
    shares = [sample(str(number), segments=1) for number in range(512)]
    for number, encoding in enumerate(shares):
        store.open(encoding.opening(0), OWNER, float(number % 150))
    shares[0].append(store, 0, 0, now=950.0)  # it is not idle any more
    store.expire(1000.0)
    store.require_places(1, store.payer(OWNER))
    with declined(Code.NOT_OPEN):
        shares[150].append(store, 0, 0)
    shares[0].append(store, 0, 0)
    shares[1].append(store, 0, 0)


def test_many_shares_may_be_begun_where_there_is_room_for_all_of_them(folder: Path) -> None:
    size = 1000
    store = ShareStore(folder, 3 * (size + OVERHEAD))
    payer = store.payer(OWNER)
    assert store.has_room(payer, [size] * 3)
    assert not store.has_room(payer, [size] * 4)
    assert not store.has_room(payer, [size + 1, size, size])
    store.close()


def test_no_more_shares_are_taken_than_brokers_remember_of_a_device(
    store: ShareStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.capacity.MAX_SHARES_ON_A_DEVICE", 3)
    for number in range(2):
        sample(f"{number}").put(store, 0)
    sample("2").stage(store, 0)
    assert store.free_bytes() == 0, "brokers place no more here"
    with declined(Code.NO_ROOM):
        store.open(sample("3").opening(0), OWNER, 0.0)
    with declined(Code.NO_ROOM):
        store.open(sample("3").opening(0), OWNER, 0.0, has_room=True)
    assert sample("2").commit(store, 0).granted, "what was begun is taken"
    damage(store, sample("0"), 0)
    with declined(Code.DAMAGED):
        store.share(sample("0").key(0), OWNER)
    sample("0").put(store, 0)  # in its place
    store.discard(sample("1").key(0), OWNER)
    sample("3").put(store, 0)
    assert len(held_by(store)) == 3
