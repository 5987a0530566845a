"""Deleting works on a full disk, since room is kept for it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Union

import pytest

from common.protocol.messages import NO_TRASH, Code
from tests.support.clocks import SetClock
from tests.support.sample_shares import OWNER, declined, held_by, sample
from worker.disk import Disk
from worker.store import ShareStore


class FullDisk(Disk):
    """Once it is `full` it takes only so many bytes as have been given back by removing the reserve."""

    def __init__(self) -> None:
        self.full = False
        self.room = 0

    def append(self, descriptor: int, data: Union[bytes, memoryview]) -> None:
        if self.full and len(data) > self.room:
            raise OSError(errno.ENOSPC, "no room")
        self.room -= len(data) if self.full else 0
        super().append(descriptor, data)

    def remove(self, path: Path) -> None:
        if path.name == "reserve" and path.exists():
            self.room += path.stat().st_size
        super().remove(path)


@pytest.fixture
def disk() -> FullDisk:
    return FullDisk()


@pytest.fixture
def store(tmp_path: Path, disk: FullDisk, clock: SetClock) -> Iterator[ShareStore]:
    store = ShareStore(tmp_path / "store", disk=disk, clock=clock)
    yield store
    store.close()


def test_much_can_be_deleted_and_taken_back_on_a_full_disk(store: ShareStore, disk: FullDisk, clock: SetClock) -> None:
    encodings = [sample(str(number)) for number in range(20)]
    for encoding in encodings:
        encoding.put(store, 0)
    store.expire(clock.now)
    disk.full = True
    for encoding in encodings[1:]:
        store.delete(encoding.deletion(), OWNER)
    store.undelete(encodings[1].undeletion(), OWNER)
    store.delete(encodings[0].deletion(trash_seconds=NO_TRASH), OWNER)
    assert list(held_by(store)) == [encodings[1].key(0)]
    assert (store.folder / "reserve").exists(), "what is left of it is kept for the next"


def test_the_reserve_takes_its_room_again_when_there_is_some(
    store: ShareStore, disk: FullDisk, clock: SetClock
) -> None:
    sample().put(store, 0)
    store.expire(clock.now)
    reserve = store.folder / "reserve"
    size = reserve.stat().st_size
    disk.full = True
    store.delete(sample().deletion(), OWNER)
    assert reserve.stat().st_size < size
    disk.full = False
    clock.pass_time(301)
    store.expire(clock.now)
    assert reserve.stat().st_size == size


def test_without_any_room_the_disk_is_said_to_be_full_and_nothing_changes(store: ShareStore, disk: FullDisk) -> None:
    sample().put(store, 0)
    disk.full = True
    with declined(Code.NO_ROOM):
        store.delete(sample().deletion(), OWNER)
    sample().assert_readable(store, 0)


def test_a_restart_writes_it_only_where_it_is_not_whole(tmp_path: Path, clock: SetClock) -> None:
    reserve = tmp_path / "store" / "reserve"

    def started() -> bytes:
        store = ShareStore(tmp_path / "store", clock=clock)
        store.expire(clock.now)
        store.close()
        return reserve.read_bytes()

    first = started()
    assert started() == first
    reserve.write_bytes(first[:-1])
    assert len(started()) == len(first)
