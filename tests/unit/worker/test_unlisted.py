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
from tests.support.sample_shares import OWNER, Sample, declined, sample, share_path
from worker.disk import Disk, Entry
from worker.store import ShareStore

ONE, OTHER = sample("one"), sample("other")


class Forbidding(Disk):
    """A disk that lists and syncs some folders not, for this reason."""

    def __init__(self, reason: int, *folders: Path) -> None:
        self._reason, self._folders = reason, folders

    def _enter(self, folder: Path) -> None:
        if folder in self._folders:
            raise OSError(self._reason, os.strerror(self._reason), str(folder))

    def entries(self, folder: Path) -> list[Entry]:
        self._enter(folder)
        return super().entries(folder)

    def sync_folder(self, folder: Path) -> None:
        self._enter(folder)
        super().sync_folder(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store with two shares, in folders of their own, both amended."""
    folder = tmp_path / "store"
    store = ShareStore(folder, clock=SetClock())
    for encoding in (ONE, OTHER):
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


def check_all_back(folder: Path) -> None:
    store = ShareStore(folder, clock=SetClock())
    for encoding in (ONE, OTHER):
        said = store.share(encoding.key(0), OWNER).signed
        assert said == amended(encoding), "the superseded is not believed again"
        assert store.block(encoding.key(0), OWNER, 0) == encoding.blocks[0][0]
    store.close()


@pytest.mark.parametrize("reason", [errno.EACCES, errno.EIO])
@pytest.mark.parametrize("level", [0, 1])
def test_a_folder_of_shares_that_cannot_be_listed_costs_nothing_for_good(
    folder: Path, reason: int, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    unlisted = share_path(folder, ONE, 0).parents[level]
    with caplog.at_level(logging.ERROR):
        store = ShareStore(folder, disk=Forbidding(reason, unlisted), clock=SetClock())
    assert str(unlisted) in caplog.text
    assert os.strerror(reason) in caplog.text
    assert list(store.held()) == [OTHER.key(0)]
    live_a_while(store)
    OTHER.stage(store, 1)
    assert OTHER.commit(store, 1).granted, "it takes shares all the same"
    store.close()
    check_all_back(folder)


@pytest.mark.parametrize("part", ["shares", "staging", "quarantine", "trash", "tombstones", "amendments"])
def test_a_part_of_the_store_that_cannot_be_listed_ends_the_start(folder: Path, part: str) -> None:
    for reason in (errno.EACCES, errno.EIO):
        with pytest.raises(NoRoomError, match=f"{part}.*{os.strerror(reason)}"):
            ShareStore(folder, disk=Forbidding(reason, folder / part), clock=SetClock())
    check_all_back(folder)


@pytest.mark.parametrize("level", [0, 1])
def test_a_folder_on_a_disk_that_is_not_mounted_is_not_empty(
    folder: Path, level: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lost = share_path(folder, ONE, 0).parents[level]
    elsewhere = tmp_path / "another disk"
    shutil.move(lost, elsewhere / "folder")
    lost.symlink_to(elsewhere / "folder")
    check_all_back(folder)
    elsewhere.rename(tmp_path / "unmounted")
    with caplog.at_level(logging.ERROR):
        store = ShareStore(folder, clock=SetClock())
    assert str(lost) in caplog.text
    assert list(store.held()) == [OTHER.key(0)]
    live_a_while(store)
    store.close()
    (tmp_path / "unmounted").rename(elsewhere)
    check_all_back(folder)


def test_shares_that_are_all_away_have_their_amendments_once_back(folder: Path, tmp_path: Path) -> None:
    shutil.move(folder / "shares", tmp_path / "away")  # as a mount point without its mount
    store = ShareStore(folder, clock=SetClock())
    assert not store.held()
    live_a_while(store)
    store.close()
    shutil.rmtree(folder / "shares")
    shutil.move(tmp_path / "away", folder / "shares")
    check_all_back(folder)


def test_a_trash_that_is_away_takes_no_amendment_with_it(folder: Path, tmp_path: Path) -> None:
    store = ShareStore(folder, clock=SetClock())
    store.delete(ONE.deletion(), OWNER)
    store.close()
    shutil.move(folder / "trash", tmp_path / "away")
    store = ShareStore(folder, clock=SetClock())
    live_a_while(store)
    store.close()
    shutil.rmtree(folder / "trash")
    shutil.move(tmp_path / "away", folder / "trash")
    store = ShareStore(folder, clock=SetClock())
    store.undelete(ONE.undeletion(), OWNER)
    store.close()
    check_all_back(folder)


def test_an_amendment_that_is_empty_is_damage_and_not_none(folder: Path) -> None:
    for path in (folder / "amendments").iterdir():
        if path.name.startswith(ONE.encoding_id.hex()):
            path.write_bytes(b"")
    store = ShareStore(folder, clock=SetClock())
    assert not store.held()[ONE.key(0)].sound
    with declined(Code.DAMAGED):
        store.share(ONE.key(0), OWNER)
    store.close()


class Unreadable(Disk):
    """Reads no file in staging."""

    def reopen(self, path: Path) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))


@pytest.fixture
def half_stored(folder: Path) -> Iterator[Sample]:
    store = ShareStore(folder)
    encoding = sample("third")
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
