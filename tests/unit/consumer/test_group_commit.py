"""Restored files are made durable in groups, and each gets its name, or its error, as alone."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import pytest

from common.errors import NoRoomError, UsageError
from common.files import sync_files, sync_folder
from consumer import output as output_module
from consumer.group_commit import GroupCommit
from consumer.output import Output


class Disk:
    """In place of the fsyncs: notes their groups, holds the first one, and refuses what it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.groups: list[int] = []
        self.folders: list[list[str]] = []  # what was in a folder when its names became durable
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.refused: Optional[int] = None
        self.folder_refused = False
        monkeypatch.setattr(output_module, "sync_files", self._sync_files)
        monkeypatch.setattr(output_module, "sync_folder", self._sync_folder)

    def _sync_files(self, descriptors: Sequence[int]) -> list[Optional[OSError]]:
        self.groups.append(len(descriptors))
        self.begun.set()
        assert self.go_on.wait(30)
        faults = sync_files(descriptors)
        return [
            OSError(errno.EIO, os.strerror(errno.EIO)) if descriptor == self.refused else fault
            for descriptor, fault in zip(descriptors, faults)
        ]

    def _sync_folder(self, folder: Path) -> None:
        if self.folder_refused:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self.folders.append(sorted(os.listdir(folder)))
        sync_folder(folder)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def proven(folder: Path, count: int) -> list[Output]:
    outputs = [Output(folder / str(number), replace=False) for number in range(count)]
    for output in outputs:
        output.file.write(output.target.name.encode())
    return outputs


def named(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def begin(commits: GroupCommit, disk: Disk, outputs: Sequence[Output]) -> list[asyncio.Task[None]]:
    """Keep these; the first one is alone in a group, which is under way."""
    tasks = [asyncio.ensure_future(commits.keep(outputs[0]))]
    await asyncio.to_thread(disk.begun.wait, 30)
    tasks += [asyncio.ensure_future(commits.keep(output)) for output in outputs[1:]]
    await asyncio.sleep(0)
    return tasks


async def ended(tasks: Sequence[asyncio.Task[None]]) -> list[Optional[BaseException]]:
    return list(await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30))


def kept_in_groups(folder: Path, disk: Disk, count: int) -> list[Optional[BaseException]]:
    """What came of so many files, the first of which is alone in its group."""

    async def keep() -> list[Optional[BaseException]]:
        tasks = await begin(GroupCommit(), disk, proven(folder, count))
        disk.go_on.set()
        return await ended(tasks)

    return asyncio.run(keep())


def test_what_is_proven_while_a_group_is_under_way_makes_the_next(tmp_path: Path, disk: Disk) -> None:
    assert kept_in_groups(tmp_path, disk, 40) == [None] * 40
    assert disk.groups == [1, 39]
    assert named(tmp_path) == {str(number): str(number).encode() for number in range(40)}


def test_names_are_durable_before_a_file_counts_as_kept(tmp_path: Path, disk: Disk) -> None:
    kept_in_groups(tmp_path, disk, 3)
    assert ["0", "1", "2"] in disk.folders, "the folder was fsynced once all had their names"
    assert len(disk.folders) == 2, "once a group"


def test_no_file_has_its_name_before_its_content_is_durable(tmp_path: Path, disk: Disk) -> None:
    async def keep() -> None:
        tasks = await begin(GroupCommit(), disk, proven(tmp_path, 3))
        assert not [name for name in os.listdir(tmp_path) if not name.endswith(".part")]
        disk.go_on.set()
        await ended(tasks)

    asyncio.run(keep())


def test_a_file_that_the_disk_refuses_leaves_nothing_and_the_others_are_kept(tmp_path: Path, disk: Disk) -> None:
    async def keep() -> list[Optional[BaseException]]:
        outputs = proven(tmp_path, 4)
        disk.refused = outputs[2].file.fileno()
        tasks = await begin(GroupCommit(), disk, outputs)
        disk.go_on.set()
        return await ended(tasks)

    came = asyncio.run(keep())
    assert [type(error) for error in came] == [type(None), type(None), NoRoomError, type(None)]
    assert sorted(named(tmp_path)) == ["0", "1", "3"]


def test_a_name_that_was_given_meanwhile_is_one_files_error(tmp_path: Path, disk: Disk) -> None:
    async def keep() -> list[Optional[BaseException]]:
        tasks = await begin(GroupCommit(), disk, proven(tmp_path, 3))
        (tmp_path / "1").write_bytes(b"another")
        disk.go_on.set()
        return await ended(tasks)

    came = asyncio.run(keep())
    assert [type(error) for error in came] == [type(None), UsageError, type(None)]
    assert named(tmp_path) == {"0": b"0", "1": b"another", "2": b"2"}


def test_names_that_cannot_be_made_durable_are_an_error_of_each(tmp_path: Path, disk: Disk) -> None:
    disk.folder_refused = True
    assert [type(error) for error in kept_in_groups(tmp_path, disk, 3)] == [NoRoomError] * 3


def test_what_is_given_up_before_its_turn_leaves_nothing(tmp_path: Path, disk: Disk) -> None:
    async def keep() -> None:
        tasks = await begin(GroupCommit(), disk, proven(tmp_path, 3))
        tasks[1].cancel()
        await asyncio.wait([tasks[1]])
        disk.go_on.set()
        await ended(tasks)

    asyncio.run(keep())
    assert sorted(named(tmp_path)) == ["0", "2"]


def test_what_is_given_up_under_way_is_kept_and_the_next_group_begins(tmp_path: Path, disk: Disk) -> None:
    async def keep() -> None:
        tasks = await begin(GroupCommit(), disk, proven(tmp_path, 2))
        tasks[0].cancel()
        await asyncio.wait([tasks[0]])
        disk.go_on.set()
        await ended(tasks)

    asyncio.run(keep())
    assert named(tmp_path) == {"0": b"0", "1": b"1"}
