"""A disk that fails where a test says, and that knows what a power cut would leave.

It works on real files. What was written but not fsynced, and names in folders that were not fsynced, are what
`lose_power` takes away; and names that were removed, moved or replaced in folders that were not fsynced are what it
brings back: the harshest that a file system may do. It fsyncs nothing itself: what that would have kept it knows.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from errno import ENOSPC
from pathlib import Path
from typing import Any, Optional, Union

from common.files import sync_files
from worker.disk import Disk, Entry

ROOM = 1 << 40  # bytes that are free, whatever is written
KEPT = ("packs", "shares", "staging")


class KilledError(BaseException):
    """The worker was killed: nobody catches this but the test."""


class _Database(sqlite3.Connection):
    """Whose changes the disk refuses where it is told to."""

    disk: FaultyDisk

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        fault = self.disk._fault("commit") if statement == "COMMIT" else None
        if fault is not None:
            raise sqlite3.OperationalError("database or disk is full" if fault.errno == ENOSPC else "disk I/O error")
        return super().execute(statement, *values)


class FaultyDisk(Disk):
    """Calls are counted from `arm` on; `calls` has their names, in order."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.failed: set[str] = set()  # the methods that ever failed
        self.resynced: list[Path] = []  # files and folders that were fsynced again after that had failed
        self.databases: list[sqlite3.Connection] = []
        self._at: dict[int, int] = {}
        self._always: dict[str, int] = {}
        self._rest: Optional[tuple[int, int]] = None
        self._kill: Optional[int] = None
        self._paths: dict[int, Path] = {}
        self._content: dict[int, int] = {}  # inode → bytes that are durable
        self._names: set[Path] = set()  # names that are durable
        self._fresh: set[Path] = set()  # names that are not, yet
        self._gone: dict[Path, bytes] = {}  # names that are not there any more, but would be after a power cut
        self._failed: set[int] = set()  # inodes whose fsync failed
        self._failed_folders: set[Path] = set()

    def arm(
        self,
        at: Optional[dict[int, int]] = None,
        always: Optional[dict[str, int]] = None,
        rest: Optional[tuple[int, int]] = None,
        kill: Optional[int] = None,
    ) -> None:
        """Fail the calls of these numbers, all calls of these methods, and all from a number on, each with its errno.

        A failing append writes half before, a failing rename is half done: both names are there. `kill`: the number of
        the call in which the worker is killed, with a KilledError.
        """
        self.calls.clear()
        self._at, self._always, self._rest, self._kill = at or {}, always or {}, rest, kill

    def start_anew(self) -> None:
        """A new worker begins: it may fsync a folder of which an earlier one failed; of a file it still may not."""
        self._failed_folders.clear()

    def _fault(self, method: str) -> Optional[OSError]:
        number = len(self.calls)
        self.calls.append(method)
        if number == self._kill:
            raise KilledError
        code = self._at.get(number) or self._always.get(method)
        if code is None and self._rest is not None and number >= self._rest[0]:
            code = self._rest[1]
        if code is None:
            return None
        self.failed.add(method)
        return OSError(code, os.strerror(code))

    def _enter(self, method: str) -> None:
        fault = self._fault(method)
        if fault is not None:
            raise fault

    # --- files

    def create(self, path: Path) -> int:
        self._enter("create")
        descriptor = super().create(path)
        self._paths[descriptor] = path
        self._fresh.add(path)
        return descriptor

    def open(self, path: Path) -> int:
        self._enter("open")
        return super().open(path)

    def reopen(self, path: Path) -> int:
        self._enter("reopen")
        descriptor = super().reopen(path)
        self._paths[descriptor] = path
        return descriptor

    def close(self, descriptor: int) -> None:
        fault = self._fault("close")
        super().close(descriptor)  # as Linux does: the descriptor is gone even then
        self._paths.pop(descriptor, None)
        if fault is not None:
            raise fault

    def append(self, descriptor: int, data: Union[bytes, memoryview]) -> None:
        try:
            self._enter("append")
        except BaseException:
            super().append(descriptor, memoryview(data)[: len(data) // 2])
            raise
        super().append(descriptor, data)

    def read_at(self, descriptor: int, offset: int, length: int) -> bytes:
        self._enter("read_at")
        return super().read_at(descriptor, offset, length)

    def uncache(self, descriptor: int, offset: int = 0, length: int = 0) -> None:
        self._enter("uncache")
        super().uncache(descriptor, offset, length)

    def database(self, path: Path) -> sqlite3.Connection:
        self._enter("database")
        database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=_Database)
        database.disk = self
        self.databases.append(database)
        return database

    def size(self, descriptor: int) -> int:
        self._enter("size")
        return super().size(descriptor)

    def truncate(self, descriptor: int, length: int) -> None:
        self._enter("truncate")
        super().truncate(descriptor, length)

    def sync(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        if status.st_ino in self._failed:
            self.resynced.append(self._paths[descriptor])
        fault = self._fault("sync")
        if fault is not None:
            self._failed.add(status.st_ino)
            raise fault
        self._content[status.st_ino] = status.st_size

    def sync_all(self, descriptors: Sequence[int]) -> list[Optional[OSError]]:
        """One after the other, so that the calls have an order."""
        return [fault for descriptor in descriptors for fault in sync_files([descriptor], self.sync)]

    def remove(self, path: Path) -> None:
        self._enter("remove")
        self._lose_name(path)
        self._forget_file(path)
        super().remove(path)

    def _forget_file(self, path: Path) -> None:
        """Its inode is used again once its last name is gone."""
        status = path.stat() if path.exists() else None
        if status is not None and status.st_nlink == 1:
            self._content.pop(status.st_ino, None)
            self._failed.discard(status.st_ino)

    # --- names

    def rename_new(self, source: Path, target: Path) -> None:
        try:
            self._enter("rename_new")
        except BaseException:
            if not target.exists():
                os.link(source, target)
                self._fresh.add(target)
            raise
        super().rename_new(source, target)
        self._lose_name(source)
        self._fresh.add(target)

    def _lose_name(self, path: Path) -> None:
        """A name goes; where it is durable, it comes back with a power cut until its folder is fsynced."""
        self._fresh.discard(path)
        if path in self._names and path.is_file():
            self._names.discard(path)
            self._gone[path] = path.read_bytes()[: self._content.get(path.stat().st_ino, 0)]

    def entries(self, folder: Path) -> list[Entry]:
        self._enter("entries")
        return super().entries(folder)

    def sync_folder(self, folder: Path) -> None:
        if folder in self._failed_folders:
            self.resynced.append(folder)
        fault = self._fault("sync_folder")
        if fault is not None:
            self._failed_folders.add(folder)
            raise fault
        self._names |= {path for path in self._fresh if path.parent == folder}
        self._fresh = {path for path in self._fresh if path.parent != folder}
        self._gone = {path: content for path, content in self._gone.items() if path.parent != folder}

    def make_folder(self, folder: Path) -> bool:
        self._enter("make_folder")
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        made = super().make_folder(folder)
        self._fresh |= set(missing)
        return made

    def free_bytes(self, folder: Path) -> tuple[int, int]:
        self._enter("free_bytes")
        return ROOM, ROOM  # not what the real disk has: others write to it meanwhile

    def lose_power(self, store: Path) -> None:
        """Leave of a closed store what is sure to be there after a power cut, and bring back what may be.

        Its index is lost: nothing durable may stand there alone.
        """
        for path in store.glob("index.sqlite*"):
            path.unlink()
        for path in [path for part in KEPT for path in sorted((store / part).rglob("*")) if path.is_file()]:
            if self._durable(path, store):
                os.truncate(path, self._content.get(path.stat().st_ino, 0))
            else:
                self._forget_file(path)
                path.unlink()
        for path, content in self._gone.items():
            if path not in self._names and self._durable(path.parent, store):
                path.write_bytes(content)
                self._names.add(path)
                self._content[path.stat().st_ino] = len(content)
        self._gone.clear()
        self._fresh = {path for path in self._fresh if path.is_dir()}

    def _durable(self, path: Path, store: Path) -> bool:
        named = [path, *path.parents]
        return all(name in self._names for name in named[: named.index(store)])
