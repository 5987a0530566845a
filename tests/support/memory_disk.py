"""A disk in memory for a store: no file, no fsync, and room as a test says."""

from __future__ import annotations

import io
import itertools
import os
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Callable, Optional, Union

from worker.disk import Disk, Entry

ROOM = 1 << 40  # bytes


@dataclass
class _File:
    content: bytearray = field(default_factory=bytearray)
    modified: float = 0.0


class _Database(sqlite3.Connection):
    """Closed when nobody has it any more: a worker in memory is left, as a power cut leaves one."""

    def __del__(self) -> None:
        self.close()


class MemoryDisk(Disk):
    """`clock`: Unix seconds. What is written is durable at once."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.free = ROOM  # bytes
        self.refuses: Optional[int] = None  # the errno of whatever would write
        self._clock = clock
        self._files: dict[str, _File] = {}
        self._folders: dict[str, float] = {}  # → Unix seconds when a name came or went last
        self._open: dict[int, _File] = {}
        self._descriptors = itertools.count(3)

    def copied(self) -> MemoryDisk:
        """Another disk with the same on it."""
        other = MemoryDisk(self._clock)
        other._files = {name: _File(bytearray(file.content), file.modified) for name, file in self._files.items()}
        other._folders = dict(self._folders)
        return other

    # --- files

    def create(self, path: Path) -> int:
        if str(path) in self._files:
            raise FileExistsError(path)
        self._require_writable()
        self._files[str(path)] = _File(modified=self._clock())
        self._touch(path)
        return self.open(path)

    def open(self, path: Path) -> int:
        descriptor = next(self._descriptors)
        self._open[descriptor] = self._file(path)
        return descriptor

    reopen = open

    def close(self, descriptor: int) -> None:
        del self._open[descriptor]

    def append(self, descriptor: int, data: Union[bytes, memoryview]) -> None:
        self._require_writable()
        self._open[descriptor].content += data
        self._open[descriptor].modified = self._clock()

    def read_at(self, descriptor: int, offset: int, length: int) -> bytes:
        return bytes(self._open[descriptor].content[offset : offset + length])

    def uncache(self, descriptor: int, offset: int = 0, length: int = 0) -> None:
        pass

    def database(self, path: Path) -> sqlite3.Connection:
        """One that is lost with the worker, which makes its index anew at each start."""
        return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False, factory=_Database)

    def size(self, descriptor: int) -> int:
        return len(self._open[descriptor].content)

    def truncate(self, descriptor: int, length: int) -> None:
        del self._open[descriptor].content[length:]

    def sync(self, descriptor: int) -> None:
        pass

    def sync_all(self, descriptors: Sequence[int]) -> list[Optional[OSError]]:
        return [None] * len(descriptors)

    def content(self, path: Path) -> bytearray:
        """A file's content, for a test to read or to damage."""
        return self._file(path).content

    def paths(self, folder: Path) -> list[Path]:
        """The files in a folder."""
        return [entry.path for entry in self.entries(folder) if not entry.is_folder]

    def _file(self, path: Path) -> _File:
        try:
            return self._files[str(path)]
        except KeyError:
            raise FileNotFoundError(2, os.strerror(2), str(path)) from None

    def _require_writable(self) -> None:
        if self.refuses is not None:
            raise OSError(self.refuses, os.strerror(self.refuses))

    # --- names

    def rename_new(self, source: Path, target: Path) -> None:
        if str(target) in self._files:
            raise FileExistsError(target)
        self._files[str(target)] = self._file(source)
        del self._files[str(source)]
        self._touch(source)
        self._touch(target)

    def remove(self, path: Path) -> None:
        self._files.pop(str(path), None)
        self._touch(path)

    def writable(self, folder: Path) -> bool:
        return self.refuses is None

    def file_system(self, folder: Path) -> int:
        return 0

    def exists(self, path: Path) -> bool:
        return str(path) in self._files or str(path) in self._folders

    def entries(self, folder: Path) -> list[Entry]:
        if str(folder) not in self._folders:
            raise FileNotFoundError(2, os.strerror(2), str(folder))
        inside = f"{folder}{os.sep}"
        files = [p for p in self._files if p.startswith(inside) and os.sep not in p[len(inside) :]]
        folders = [p for p in self._folders if p.startswith(inside) and os.sep not in p[len(inside) :]]
        listed = [Entry(Path(p), len(self._files[p].content), self._files[p].modified) for p in files]
        return sorted(listed + [Entry(Path(p), 0, self._folders[p], True) for p in folders])

    def sync_folder(self, folder: Path) -> None:
        pass

    def make_folder(self, folder: Path) -> bool:
        if str(folder) in self._folders:
            return False
        for path in (folder, *folder.parents):
            self._folders.setdefault(str(path), self._clock())
        return True

    def _touch(self, path: Path) -> None:
        self._folders[os.path.dirname(path)] = self._clock()

    def lock(self, path: Path) -> IO[bytes]:
        return io.BytesIO()

    def free_bytes(self, folder: Path) -> tuple[int, int]:
        return self.free, ROOM
