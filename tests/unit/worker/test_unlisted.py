"""What cannot be listed or read is said, and is not taken for gone: nothing is dropped for it."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.errors import NoRoomError
from common.protocol.device_messages import SignedCommitment
from common.protocol.messages import Code
from tests.support.clocks import SetClock
from tests.support.sample_shares import OWNER, Sample, declined, held_by, sample
from worker.disk import Disk, Entry
from worker.store import ShareStore

LARGE = {"segments": 2, "block_size": 300 << 10}
ONE, OTHER = sample("one", **LARGE), sample("other", **LARGE)  # in files of their own
SMALL = sample("small")
ALL = ONE, OTHER, SMALL


class Forbidding(Disk):
    """A disk that lists and syncs some folders not, for this reason, and opens no file in them."""

    def __init__(self, reason: int, *folders: Path) -> None:
        self._reason, self.folders = reason, folders

    def _enter(self, folder: Path) -> None:
        if folder in self.folders:
            raise OSError(self._reason, os.strerror(self._reason), str(folder))

    def open(self, path: Path) -> int:
        self._enter(path.parent)
        return super().open(path)

    def entries(self, folder: Path) -> list[Entry]:
        self._enter(folder)
        return super().entries(folder)

    def sync_folder(self, folder: Path) -> None:
        self._enter(folder)
        super().sync_folder(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store with two large shares, in folders of their own, and a small one, all amended."""
    folder = tmp_path / "store"
    store = ShareStore(folder, clock=SetClock())
    for encoding in ALL:
        encoding.put(store, 0)
        store.amend(encoding.encoding_id, amended(encoding), OWNER)
    store.close()
    return folder


def amended(encoding: Sample) -> SignedCommitment:
    return encoding.signed(mapping=b"what holds now", revision=2)


def live_a_while(store: ShareStore) -> None:
    """Long enough that whatever is purged is purged."""
    for minute in range(20):
        store.expire(600.0 * minute)
        store.scrub.turn(600.0 * minute, idle=True)


def folder_of(folder: Path, encoding: Sample) -> Path:
    """Where the files of its large shares are."""
    return folder / "shares" / encoding.encoding_id[:1].hex()


def lose_index(folder: Path) -> None:
    for path in folder.glob("index.sqlite*"):
        path.unlink()


def check_all_back(folder: Path) -> None:
    store = ShareStore(folder, clock=SetClock())
    for encoding in ALL:
        said = store.share(encoding.key(0), OWNER).signed
        assert said == amended(encoding), "the superseded is not believed again"
        assert store.block(encoding.key(0), OWNER, 0) == encoding.blocks[0][0]
    store.close()


@pytest.mark.parametrize("reason", [errno.EACCES, errno.EIO])
@pytest.mark.parametrize("index_there", [True, False])
def test_a_folder_of_shares_that_cannot_be_listed_costs_nothing_for_good(
    folder: Path, reason: int, index_there: bool, caplog: pytest.LogCaptureFixture
) -> None:
    unlisted = folder_of(folder, ONE)
    if not index_there:
        lose_index(folder)
    with caplog.at_level(logging.ERROR):
        store = ShareStore(folder, disk=Forbidding(reason, unlisted), clock=SetClock())
    assert str(unlisted) in caplog.text
    assert os.strerror(reason) in caplog.text
    assert set(held_by(store)) == {OTHER.key(0), SMALL.key(0)}
    live_a_while(store)
    OTHER.stage(store, 1)
    assert OTHER.commit(store, 1).granted, "it takes shares all the same"
    store.close()
    check_all_back(folder)
    lose_index(folder)
    check_all_back(folder)


@pytest.mark.parametrize("index_there", [True, False])
@pytest.mark.parametrize("alone", [True, False])
def test_a_folder_that_can_be_listed_again_is_served_after_a_round_of_the_scrub(
    folder: Path, index_there: bool, alone: bool
) -> None:
    clock, disk = SetClock(), Forbidding(errno.EACCES, *(folder_of(folder, each) for each in (ONE, OTHER)))
    if alone:  # nothing else is there
        store = ShareStore(folder, clock=clock)
        store.delete(SMALL.deletion(trash_seconds=0), OWNER)
        store.close()
    if not index_there:
        lose_index(folder)
    store = ShareStore(folder, disk=disk, clock=clock, scrub_every=100.0)
    lives_a_round(store, clock)
    assert set(held_by(store)) == (set() if alone else {SMALL.key(0)})
    store.changes()
    disk.folders = ()
    lives_a_round(store, clock)
    for encoding in (ONE, OTHER):
        assert store.share(encoding.key(0), OWNER).signed == amended(encoding)
        assert store.block(encoding.key(0), OWNER, 0) == encoding.blocks[0][0]
    announced = {(share.encoding_id, share.share) for share in store.changes().announced}
    assert announced >= {ONE.key(0), OTHER.key(0)}
    store.close()


def lives_a_round(store: ShareStore, clock: SetClock) -> None:
    for _ in range(300):
        clock.pass_time(1.0)
        store.scrub.turn(clock.monotonic(), idle=True)


@pytest.mark.parametrize("part", ["shares", "staging", "packs"])
def test_a_part_of_the_store_that_cannot_be_listed_ends_the_start(folder: Path, part: str) -> None:
    for reason in (errno.EACCES, errno.EIO):
        with pytest.raises(NoRoomError, match=f"{part}.*{os.strerror(reason)}"):
            ShareStore(folder, disk=Forbidding(reason, folder / part), clock=SetClock())
    check_all_back(folder)


def test_a_folder_on_a_disk_that_is_not_mounted_is_not_empty(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lost = folder_of(folder, ONE)
    elsewhere = tmp_path / "another disk"
    shutil.move(lost, elsewhere / "folder")
    lost.symlink_to(elsewhere / "folder")
    check_all_back(folder)
    elsewhere.rename(tmp_path / "unmounted")
    with caplog.at_level(logging.ERROR):
        store = ShareStore(folder, clock=SetClock())
    assert str(lost) in caplog.text
    assert set(held_by(store)) == {OTHER.key(0), SMALL.key(0)}
    live_a_while(store)
    store.close()
    (tmp_path / "unmounted").rename(elsewhere)
    check_all_back(folder)


@pytest.mark.parametrize("index_there", [True, False])
@pytest.mark.parametrize("part", ["shares", "packs"])
def test_shares_that_are_all_away_are_back_with_their_amendments(
    folder: Path, tmp_path: Path, part: str, index_there: bool
) -> None:
    used = used_bytes(folder)
    shutil.move(folder / part, tmp_path / "away")  # as a mount point without its mount
    store = ShareStore(folder, clock=SetClock())
    away = (ONE, OTHER) if part == "shares" else (SMALL,)
    assert [encoding for encoding in away if held_by(store)[encoding.key(0)].sound] == []
    live_a_while(store)
    store.close()
    for path in (folder / part).iterdir():
        path.rename(tmp_path / "away" / path.name)
    (folder / part).rmdir()
    shutil.move(tmp_path / "away", folder / part)
    if not index_there:
        lose_index(folder)
    check_all_back(folder)
    assert used_bytes(folder) == used


def used_bytes(folder: Path) -> int:
    store = ShareStore(folder, clock=SetClock())
    used = store.used_bytes
    store.close()
    return used


def test_shares_that_were_deleted_and_are_away_are_back_with_their_amendments(folder: Path, tmp_path: Path) -> None:
    store = ShareStore(folder, clock=SetClock())
    store.delete(ONE.deletion(), OWNER)
    store.close()
    shutil.move(folder / "shares", tmp_path / "away")
    store = ShareStore(folder, clock=SetClock())
    live_a_while(store)
    store.close()
    shutil.rmtree(folder / "shares")
    shutil.move(tmp_path / "away", folder / "shares")
    store = ShareStore(folder, clock=SetClock())
    store.undelete(ONE.undeletion(), OWNER)
    for _ in range(20):
        store.scrub.turn(0.0, idle=False)
    store.close()
    check_all_back(folder)


@pytest.mark.parametrize("encoding", [ONE, SMALL], ids=["large", "small"])
@pytest.mark.parametrize("index_there", [True, False])
def test_an_amendment_that_is_damaged_is_damage_and_not_none(folder: Path, encoding: Sample, index_there: bool) -> None:
    store = ShareStore(folder, clock=SetClock())
    (kept,) = store._index.copies(encoding.key(0))
    assert kept.amendment is not None
    (pack,) = folder.glob(f"packs/{kept.amendment.pack:08d}.*")
    store.close()
    with open(pack, "r+b") as file:
        file.seek(kept.amendment.offset)
        file.write(bytes(kept.amendment.length))
    if not index_there:
        lose_index(folder)
    store = ShareStore(folder, clock=SetClock())
    with declined(Code.DAMAGED):
        store.share(encoding.key(0), OWNER)
    assert not held_by(store)[encoding.key(0)].sound
    store.close()


class Unreadable(Disk):
    """Reads no file in staging."""

    def reopen(self, path: Path) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))


@pytest.fixture
def half_stored(folder: Path) -> Iterator[Sample]:
    store = ShareStore(folder)
    encoding = sample("third", **LARGE)
    encoding.stage(store, 0)
    store.close()
    yield encoding


def test_a_share_being_stored_that_cannot_be_read_now_goes_on_later(folder: Path, half_stored: Sample) -> None:
    ShareStore(folder, disk=Unreadable()).close()
    store = ShareStore(folder)
    assert half_stored.commit(store, 0).granted
    store.close()


def test_what_is_there_and_cannot_be_looked_at_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, path = Disk(), tmp_path / "file"
    assert not disk.exists(path)
    assert not disk.exists(tmp_path / "no folder" / "file")
    path.touch()
    assert disk.exists(path)
    assert not disk.exists(path / "below a file")

    def refuse(*_: object, **__: object) -> os.stat_result:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "lstat", refuse)
    with pytest.raises(PermissionError):
        disk.exists(path)
