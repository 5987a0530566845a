"""The store's calls to the operating system, so that a test can make any of them fail.

Files are plain descriptors, unbuffered. A short write is continued until all is written or the system refuses.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NamedTuple, Optional, Union

from common.files import lock, make_folder, rename_new, sync_file, sync_files, sync_folder

log = logging.getLogger(__name__)

_BINARY = getattr(os, "O_BINARY", 0)
_MIN_INODES = 64


class Entry(NamedTuple):
    """A name in a folder."""

    path: Path
    size: int  # bytes
    modified: float  # Unix seconds
    is_folder: bool = False


class Disk:
    """All methods raise OSError as the operating system does."""

    def create(self, path: Path) -> int:
        """A new file's descriptor, to write and read; FileExistsError where there is one."""
        return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | _BINARY, 0o600)

    def open(self, path: Path) -> int:
        return os.open(path, os.O_RDONLY | _BINARY)

    def reopen(self, path: Path) -> int:
        """The descriptor of an existing file, to append to it."""
        return os.open(path, os.O_RDWR | os.O_APPEND | _BINARY)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def append(self, descriptor: int, data: Union[bytes, memoryview]) -> None:
        """Write all of `data` at the file's end."""
        view = memoryview(data).cast("B")
        while view.nbytes:
            view = view[os.write(descriptor, view) :]

    def read_at(self, descriptor: int, offset: int, length: int) -> bytes:
        """Up to `length` bytes; fewer only at the file's end."""
        if sys.platform == "win32":
            os.lseek(descriptor, offset, os.SEEK_SET)
            return os.read(descriptor, length)
        return os.pread(descriptor, length, offset)

    def uncache(self, descriptor: int, offset: int = 0, length: int = 0) -> None:
        """Drop these bytes of a file (length 0: all) from the page cache, as far as the system lets us."""
        if sys.platform == "linux":
            os.posix_fadvise(descriptor, offset, length, os.POSIX_FADV_DONTNEED)

    def size(self, descriptor: int) -> int:
        return os.fstat(descriptor).st_size

    def truncate(self, descriptor: int, length: int) -> None:
        os.ftruncate(descriptor, length)

    def sync(self, descriptor: int) -> None:
        """Make the file's content durable. After an OSError the file is to be dropped, not synced again."""
        sync_file(descriptor)

    def sync_all(self, descriptors: Sequence[int]) -> list[Optional[OSError]]:
        """`sync` for each file, several at once on a slow disk; its error, if any."""
        return sync_files(descriptors, self.sync)

    def rename_new(self, source: Path, target: Path) -> None:
        """Rename a file; FileExistsError where the target exists."""
        rename_new(source, target)

    def database(self, path: Path) -> sqlite3.Connection:
        """Open a database, or make it."""
        try:
            return sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise OSError(errno.EIO, str(error), str(path)) from None

    def entries(self, folder: Path) -> list[Entry]:
        """All that is in a folder, by name. A link to a folder is one: a part of a store may lie on another disk."""
        with os.scandir(folder) as found:
            listed = [(Path(each.path), each.stat(follow_symlinks=False), _is_folder(each)) for each in found]
        return sorted(Entry(path, s.st_size, s.st_mtime, is_folder) for path, s, is_folder in listed)

    def writable(self, folder: Path) -> bool:
        """Whether files can be made in a folder, as far as that can be told without making one."""
        return os.access(folder, os.W_OK)

    def file_system(self, folder: Path) -> int:
        """Equal for folders between which a file can be renamed."""
        return folder.stat().st_dev

    def exists(self, path: Path) -> bool:
        """Whether a path has anything; OSError where that cannot be told, which `Path.exists` takes for no."""
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def sync_folder(self, folder: Path) -> None:
        sync_folder(folder)

    def make_folder(self, folder: Path) -> bool:
        """Make a folder if it is missing; whether it was."""
        if folder.is_dir():
            return False
        make_folder(folder)
        return True

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def remove_or_leave(self, path: Path) -> None:
        """Remove a file that is needed no more; where that fails it stays behind, and is named in the log."""
        try:
            self.remove(path)
        except OSError as error:
            log.warning("%s is left behind: %s", path, error)

    def lock(self, path: Path) -> IO[bytes]:
        """Hold a lock file until it is closed; UsageError where another process holds it."""
        return lock(path)

    def free_bytes(self, folder: Path) -> tuple[int, int]:
        """Free and total bytes of the file system that holds a folder; 0 free where it makes no more files."""
        usage = shutil.disk_usage(folder)
        return 0 if _lacks_inodes(folder) else usage.free, usage.total


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Also where that cannot be told, as of a link to what is not mounted: whoever lists it then learns why not."""
    try:
        return entry.is_dir() or (entry.is_symlink() and not os.path.exists(entry.path))
    except OSError:
        return True


if sys.platform == "win32":

    def _lacks_inodes(folder: Path) -> bool:
        """NTFS makes its records of files as they are needed."""
        return False

else:

    def _lacks_inodes(folder: Path) -> bool:
        """Whether hardly one is left; file systems that make them as they are needed say that they have none at all."""
        usage = os.statvfs(folder)
        return usage.f_files > 0 and usage.f_favail < _MIN_INODES
