"""Fsyncs of many files: several at once where the disk is slow, and each told of by itself."""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from pathlib import Path
from typing import Callable, Optional

import pytest

from tests.support.memory_disk import MemoryDisk
from worker.disk import Disk

AT_ONCE = 4


class SlowDisk(Disk):
    """The first fsync takes its time; all others wait until so many have begun."""

    def __init__(self, faulty: Optional[int] = None) -> None:
        self.synced: list[int] = []
        self._together = threading.Barrier(AT_ONCE)
        self._faulty = faulty

    def sync(self, descriptor: int) -> None:
        first = not self.synced
        self.synced.append(descriptor)
        if first:
            time.sleep(0.002)  # what such a disk does
        else:
            self._together.wait(timeout=30)
        if descriptor == self._faulty:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().sync(descriptor)


@pytest.fixture
def files(tmp_path: Path) -> list[int]:
    disk = Disk()
    return [disk.create(tmp_path / str(number)) for number in range(1 + 2 * AT_ONCE)]


def test_a_slow_disk_has_several_files_to_fsync_at_once(files: list[int]) -> None:
    disk = SlowDisk()
    assert disk.sync_all(files) == [None] * len(files)
    assert disk.synced[0] == files[0]
    assert sorted(disk.synced) == files


@pytest.mark.parametrize("faulty", [0, 3])
def test_a_fsync_that_failed_is_told_of_its_file_only_and_not_tried_again(files: list[int], faulty: int) -> None:
    disk = SlowDisk(files[faulty])
    faults = disk.sync_all(files)
    assert [index for index, fault in enumerate(faults) if fault is not None] == [faulty]
    assert faults[faulty] is not None and faults[faulty].errno == errno.EIO  # type: ignore[union-attr]
    assert sorted(disk.synced) == files


def test_no_files_are_no_work() -> None:
    assert Disk().sync_all([]) == []


def test_what_is_written_goes_to_the_end_also_after_reading_and_cutting(tmp_path: Path) -> None:
    disk = Disk()
    descriptor = disk.create(tmp_path / "share")
    disk.append(descriptor, b"one two")
    assert disk.read_at(descriptor, 0, 3) == b"one"
    disk.truncate(descriptor, 4)
    disk.append(descriptor, b"three")
    disk.close(descriptor)
    again = disk.reopen(tmp_path / "share")
    disk.append(again, memoryview(b" four"))
    disk.close(again)
    assert (tmp_path / "share").read_bytes() == b"one three four"


def done(disk: Disk, folder: Path) -> list[object]:
    """What came of one thing after the other."""
    shares, one, two = folder / "shares", folder / "shares" / "one", folder / "shares" / "two"
    descriptors: list[int] = []
    steps: list[Callable[[], object]] = [
        lambda: disk.entries(shares),
        lambda: disk.make_folder(shares),
        lambda: disk.make_folder(shares),
        lambda: disk.open(one),
        lambda: descriptors.append(disk.create(one)),
        lambda: disk.create(one),
        lambda: disk.append(descriptors[0], memoryview(b"some bytes")),
        lambda: disk.sync(descriptors[0]),
        lambda: disk.sync_all(descriptors),
        lambda: disk.sync_folder(shares),
        lambda: (disk.read_at(descriptors[0], 5, 3), disk.read_at(descriptors[0], 8, 9), disk.size(descriptors[0])),
        lambda: disk.rename_new(one, two),
        lambda: (disk.exists(shares), disk.exists(one), disk.exists(two)),
        lambda: disk.read_at(disk.open(one), 0, 4),
        lambda: disk.read_at(disk.open(two), 0, 4),
        lambda: disk.truncate(descriptors[0], 4),
        lambda: disk.append(descriptors[0], b"!"),
        lambda: disk.read_at(disk.open(two), 0, 9),
        lambda: descriptors.append(disk.create(one)),
        lambda: disk.rename_new(one, two),
        lambda: disk.remove(two),
        lambda: disk.rename_new(one, two),
        lambda: disk.read_at(descriptors[0], 0, 9),
        lambda: disk.close(descriptors[0]),
        lambda: disk.close(descriptors[1]),
        lambda: disk.append(disk.reopen(two), b"more"),
        lambda: [(entry.path.relative_to(folder), entry.size, entry.is_folder) for entry in disk.entries(shares)],
        lambda: disk.remove(two),
        lambda: disk.remove(two),
        lambda: disk.entries(shares),
        lambda: [(entry.path.relative_to(folder), entry.is_folder) for entry in disk.entries(folder)],
    ]
    came: list[object] = []
    for step in steps:
        try:
            came.append(step())
        except OSError as error:
            came.append(type(error))
    return came


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_a_link_to_a_folder_is_a_folder_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "ab").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "store" / "broken").symlink_to(tmp_path / "nowhere")
    assert [entry.is_folder for entry in Disk().entries(tmp_path / "store")] == [True, True]


def test_a_disk_in_memory_answers_as_one_of_files_does(tmp_path: Path) -> None:
    memory = MemoryDisk()
    memory.make_folder(tmp_path)
    assert done(memory, tmp_path) == done(Disk(), tmp_path)
