"""A store that cannot be written is served from, and takes nothing; one that could never commit is refused."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Optional

import pytest

from common.errors import UsageError
from common.protocol.messages import Code
from tests import ROOT
from tests.support.faulty_disk import FaultyDisk
from tests.support.sample_shares import OWNER, Sample, damage, declined, held_by, sample, trashed
from worker.disk import Disk
from worker.store import ShareStore

WRITING = ("create", "reopen", "append", "truncate", "sync", "rename_new", "remove", "database")
FOLDERS = ("sync_folder", "make_folder")


class ReadOnlyDisk(FaultyDisk):
    """A disk that was mounted read-only."""

    def __init__(self) -> None:
        super().__init__()
        self.arm(always=dict.fromkeys(WRITING + FOLDERS, errno.EROFS))

    def writable(self, folder: Path) -> bool:
        return False

    def make_folder(self, folder: Path) -> bool:
        return super().make_folder(folder) if not folder.is_dir() else False


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store with much that a start would tidy up."""
    folder = tmp_path / "store"
    store = ShareStore(folder)
    for name in ("one", "bad", "deleted"):
        for encoding in (sample(name), large(name)):
            encoding.put(store, 0)
            if name == "deleted":
                store.delete(encoding.deletion(trash_seconds=1), OWNER)
            if name == "bad":
                damage(store, encoding, 0, -1)
    large("half").stage(store, 0)
    store.close()
    with open(max((folder / "packs").iterdir()), "ab") as file:
        file.write(b"TSR1 interrupted")
    return folder


def large(label: str) -> Sample:
    return sample(f"large {label}", segments=2, block_size=300 << 10)


@pytest.mark.parametrize("index_there", [True, False])
def test_a_store_that_cannot_be_written_serves_what_it_has_and_takes_nothing(
    folder: Path, index_there: bool, caplog: pytest.LogCaptureFixture
) -> None:
    for path in folder.glob("index.sqlite*") if not index_there else ():
        path.unlink()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    store = ShareStore(folder, disk=ReadOnlyDisk())
    assert "read-only" in caplog.text
    for make in (sample, large):
        assert held_by(store)[make("one").key(0)].sound
        assert not held_by(store)[make("bad").key(0)].sound
        assert make("deleted").key(0) not in held_by(store)
        make("one").assert_readable(store, 0)
    assert len(trashed(store)) == 2
    assert store.free_bytes() == 0
    with declined(Code.READ_ONLY):
        store.open(sample("new").opening(0), OWNER, 0.0)
    with declined(Code.READ_ONLY):
        store.delete(sample("one").deletion(), OWNER)
    with declined(Code.READ_ONLY):
        store.discard(sample("one").key(0), OWNER)
    for minute in range(20):
        store.expire(600.0 * minute)
        store.scrub.turn(600.0 * minute, idle=True)
        store.compaction.turn(600.0 * minute)
    store.close()
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


class TwoDisks(Disk):
    """One part of the store is on another file system."""

    def __init__(self, part: str) -> None:
        self._part = part

    def file_system(self, folder: Path) -> int:
        return 2 if folder.name == self._part else 1


@pytest.mark.parametrize("part", ["staging"])
def test_a_part_on_another_file_system_is_refused_at_the_start(tmp_path: Path, part: str) -> None:
    with pytest.raises(UsageError, match=f"{part} and .*shares are on two file systems"):
        ShareStore(tmp_path / "store", disk=TwoDisks(part))
    ShareStore(tmp_path / "store").close()


@pytest.mark.skipif(not hasattr(os, "statvfs"), reason="Windows has no inodes that run out")
def test_a_disk_without_inodes_has_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk()
    assert disk.free_bytes(tmp_path)[0] > 0
    usage = os.statvfs(tmp_path)

    def left(inodes: int, of: Optional[int] = None) -> os.statvfs_result:
        return os.statvfs_result((*usage[:5], 1000 if of is None else of, inodes, inodes, *usage[8:10]))

    monkeypatch.setattr(os, "statvfs", lambda _: left(3))
    free, total = disk.free_bytes(tmp_path)
    assert (free, total > 0) == (0, True)
    monkeypatch.setattr(os, "statvfs", lambda _: left(0, of=0))  # as btrfs says, which makes them as they are needed
    assert disk.free_bytes(tmp_path)[0] > 0


@pytest.mark.parametrize("mount_point", [False, True])
def test_where_the_disk_is_not_mounted_services_start_the_worker_again(tmp_path: Path, mount_point: bool) -> None:
    store = tmp_path / "disk" / "store"
    if mount_point:
        store.mkdir(parents=True)
    command = [sys.executable, str(ROOT / "worker" / "worker.py"), "--store", str(store)]
    ended = subprocess.run(command, env={"TESSERA_HOME": str(tmp_path)}, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 3, ended
    assert "its disk is not mounted" in ended.stderr
    assert store.exists() == mount_point, "nothing is made beside the disk"
    assert "RestartPreventExitStatus=6\n" in (ROOT / "deploy" / "systemd" / "tessera-worker.service").read_text()
