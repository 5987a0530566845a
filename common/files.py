"""Reading, writing, renaming and locking files, with durability, as all programs do it.

Durable means: the bytes are fsynced, the file has its final name, and the folder that names it is fsynced, in that
order (Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014). A failed fsync is never tried again on the
same file: the kernel may have dropped the pages and would then report success (Rebello et al., "Can Applications
Recover from fsync Failures?", USENIX ATC 2020).

Whatever differs on Windows is in this module.
"""

from __future__ import annotations

import contextlib
import errno
import operator
import os
import re
import secrets
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Callable, Optional, Union

from common.errors import IntegrityError, NotFoundError, UnwritableError, UsageError, cannot_write

_PIECE = 1 << 16  # bytes
_SLOW_SYNC = 0.0005  # seconds
_SYNCS_AT_ONCE = 8
_KINDS = {
    stat.S_IFDIR: "is a folder",
    stat.S_IFSOCK: "is a socket",
    stat.S_IFBLK: "is a disk",
    stat.S_IFCHR: "is a device",
    stat.S_IFIFO: "is a pipe",
}
_SHARING_RETRIES = 20
_SHARING_PAUSE = 0.05  # seconds
_LOOK_TAKES = 0.2  # seconds; far longer than `is_locked` holds a lock
_COARSE = 10_000_000  # ns: exFAT's clock; those of FAT and SFTP are coarser
# As a restore names files until they are proven; a put never stores them.
UNFINISHED = re.compile(r"\.(.*)\.[0-9a-f]{12}\.part", re.DOTALL)
TRIAL = re.compile(r"\.tessera-[0-9a-f]{12}")  # a folder in which a restore tries names; likewise
UNFINISHED_NAME = 40  # characters of the file's own name at most
# Microsoft, "Naming Files, Paths, and Namespaces"
_DEVICE_NAME = re.compile(r"(?i)(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³]) *(\..*)?")


def sync_file(descriptor: int) -> None:
    """Make a file's content durable. After an OSError the content is unknown: drop the file."""
    if hasattr(os, "fdatasync"):
        os.fdatasync(descriptor)
    else:
        os.fsync(descriptor)


def sync_files(descriptors: Sequence[int], sync: Callable[[int], None] = sync_file) -> list[Optional[OSError]]:
    """`sync` for each file; its error, if any.

    On a slow disk several at once: they then wait for the same write of the file system's journal.
    """
    faults: list[Optional[OSError]] = [None] * len(descriptors)
    left = iter(range(len(descriptors)))

    def sync_some(*, until_slow: bool = False) -> None:
        for index in left:
            started = time.monotonic()
            try:
                sync(descriptors[index])
            except OSError as error:
                faults[index] = error
            if until_slow and time.monotonic() - started > _SLOW_SYNC:
                return

    sync_some(until_slow=True)
    threads = min(operator.length_hint(left), _SYNCS_AT_ONCE)
    if threads:
        with ThreadPoolExecutor(threads, "sync") as pool:
            for done in [pool.submit(sync_some) for _ in range(threads)]:
                done.result()
    return faults


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable; Windows has no such call, NTFS journals them."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rename_over(source: Path, target: Path) -> None:
    """Rename a file, replacing the target."""
    _retried(lambda: os.replace(source, target))


def rename_new(source: Path, target: Path) -> None:
    """Rename a file; FileExistsError where the target exists."""
    if sys.platform == "win32":
        _retried(lambda: os.rename(source, target))  # refuses an existing target there
        return
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        # No hard links here (exFAT, some network shares): a check, then a rename. Only a writer of the same content
        # name could come between.
        if os.path.lexists(target):
            raise FileExistsError(target) from None
        os.rename(source, target)
        return
    os.unlink(source)


def _retried(action: Callable[[], None]) -> None:
    """Retry on Windows, where a virus scanner or an indexer may have the file open for a moment."""
    for _ in range(_SHARING_RETRIES if sys.platform == "win32" else 0):
        try:
            return action()
        except PermissionError:
            time.sleep(_SHARING_PAUSE)
    return action()


def make_folder(folder: Path) -> None:
    """Make a folder that only its owner may enter, and its parents."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)


def write_private(target: Path, content: bytes, *, replace: bool = True) -> None:
    """Write a whole file, readable by its owner only, so that after a crash it is the old one or the new one.

    With `replace` false an existing target stays, and FileExistsError is raised. UnwritableError where the disk
    refuses; IsADirectoryError where the target's name is that of a folder by itself, as `.` is.
    """
    if not target.name:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    with _naming(target):
        make_folder(target.parent)
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                sync_file(file.fileno())
            (rename_over if replace else rename_new)(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(target.parent)


def write_new(target: Path, content: bytes) -> None:
    """As `write_private`, for a path that the user named.

    UsageError where it exists, as a link or a device too; otherwise as `cannot_write`.
    """
    try:
        if is_device_name(target.name) or type_at(target) == stat.S_IFDIR:
            raise FileExistsError
        write_private(target, content, replace=False)
    except FileExistsError:
        raise already_exists(target) from None
    except OSError as error:
        raise cannot_write(target, error) from None


def require_new(target: Path) -> None:
    """UsageError where the path exists."""
    if os.path.lexists(target):
        raise already_exists(target)


def already_exists(target: Path) -> UsageError:
    """The error for a path that exists already."""
    return UsageError(f"{target} {_what_is_at(target)}; it was not touched")


def _what_is_at(target: Path) -> str:
    if is_device_name(target.name):
        return "is the name of a device"
    if target.is_symlink() and not os.path.exists(target):
        return "is a link that leads nowhere"
    return _KINDS.get(type_at(target), "exists already")


def type_at(target: Path) -> int:
    """A path's file type, as S_IF… of `stat`, links followed; 0 where there is none, or it cannot be read."""
    try:
        return stat.S_IFMT(os.stat(target).st_mode)
    except (OSError, ValueError):
        return 0


def is_device_name(name: str, *, windows: bool = sys.platform == "win32") -> bool:
    """Whether Windows takes a file name for one of its devices, whatever the folder."""
    return windows and _DEVICE_NAME.fullmatch(name) is not None


@contextlib.contextmanager
def _naming(target: Path) -> Iterator[None]:
    """Raise the block's OSErrors as UnwritableError of this path, in place of the temporary file's, or none."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise UnwritableError(error.errno, error.strerror or str(error), os.fspath(target)) from error


def lock(path: Path, *, wait: bool = False) -> IO[bytes]:
    """Hold the lock file until the returned file is closed, or the process ends.

    UsageError where another process holds it, for longer than `is_locked` does, and `wait` is false; UnwritableError
    where it cannot be made.
    """
    with _naming(path):
        make_folder(path.parent)
        file = _lockable(path)
    end = time.monotonic() + _LOOK_TAKES
    while True:
        try:
            _lock(file, wait)
            return file
        except OSError:
            if time.monotonic() < end:
                time.sleep(_SHARING_PAUSE)
                continue
            file.close()
            raise UsageError(f"{path.parent} is in use by another Tessera process") from None


def _lockable(path: Path) -> IO[bytes]:
    """A lock file, made where it is missing; where nothing can be written one that is there will do."""
    try:
        return open(path, "a+b")
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES) or not path.exists():
            raise
        return open(path, "rb")


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock file now."""
    try:
        with open(path, "r+b") as file:
            _lock(file, wait=False)
            return False
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _lock(file: IO[bytes], wait: bool) -> None:
    if sys.platform == "win32":
        import msvcrt

        file.seek(0)
        while True:
            try:
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
                break
            except OSError:
                if not wait:
                    raise
                time.sleep(_SHARING_PAUSE)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def unfinished(target: Path) -> Path:
    """Where a file is written until it gets its name, as `UNFINISHED` matches it."""
    return target.with_name(f".{target.name[:UNFINISHED_NAME]}.{secrets.token_hex(6)}.part")


def open_held(new_path: Callable[[], Path]) -> tuple[Path, IO[bytes]]:
    """Make a file, unbuffered, that `remove_unheld` leaves alone until it is closed or this process ends.

    `new_path`: another one each time. Where the file system has no locks, and on Windows, where nobody can remove what
    is open, none is held. OSError where it cannot be made.
    """
    while True:
        path = new_path()
        file = open(path, "xb", buffering=0)  # noqa: SIM115
        if sys.platform == "win32":
            return path, file
        with contextlib.suppress(OSError):
            _lock(file, wait=True)
        if os.fstat(file.fileno()).st_nlink:
            return path, file
        file.close()  # removed before it was held


def remove_unheld(path: Path) -> bool:
    """Remove a file that no living process holds; whether it did."""
    try:
        if sys.platform == "win32":
            path.unlink()
            return True
        with open_regular(path) as file:
            _lock(file, wait=False)
            path.unlink()
            return True
    except OSError:
        return False


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for the lock file and hold it for a block of code."""
    with lock(path, wait=True):
        yield


def open_regular(path: Path) -> IO[bytes]:
    """Open a regular file to be read, unbuffered; OSError where it is none.

    Does not wait for a writer where it has become a pipe.
    """
    file = open(path, "rb", 0, opener=_open_unwaiting)  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
    return file


def _open_unwaiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def status_changed_ns(status: os.stat_result, file: Union[Path, int]) -> Optional[int]:
    """When a file, by its path or descriptor, last changed in any way: Unix ns. OSError where it is gone.

    None where the file system keeps no time of its own for that. FAT, exFAT and SFTP give the time of modification in
    its place, always a full hundredth of a second; a file of another file system may look the same by chance.
    """
    if sys.platform == "win32":
        return _change_time(file)
    changed = status.st_ctime_ns
    return None if changed == status.st_mtime_ns and changed % _COARSE == 0 else changed


if sys.platform == "win32":
    _BEFORE_1970 = 116_444_736_000_000_000  # 100 ns each, since 1601
    _FILE_BASIC_INFO = 0

    def _change_time(file: Union[Path, int]) -> Optional[int]:
        """ChangeTime of FILE_BASIC_INFO, since Windows' `st_ctime` is when a file was made."""
        import ctypes
        import msvcrt
        from ctypes import wintypes

        class Basic(ctypes.Structure):
            _fields_ = (
                *((name, ctypes.c_int64) for name in ("CreationTime", "LastAccessTime", "LastWriteTime", "ChangeTime")),
                ("FileAttributes", wintypes.DWORD),
            )

        get = ctypes.WinDLL("kernel32").GetFileInformationByHandleEx
        get.argtypes = (wintypes.HANDLE, ctypes.c_int, ctypes.c_void_p, wintypes.DWORD)
        get.restype = wintypes.BOOL
        descriptor = file if isinstance(file, int) else os.open(file, os.O_RDONLY | os.O_BINARY)
        try:
            basic = Basic()
            handle = msvcrt.get_osfhandle(descriptor)
            known = get(handle, _FILE_BASIC_INFO, ctypes.byref(basic), ctypes.sizeof(basic))
        finally:
            if not isinstance(file, int):
                os.close(descriptor)
        ticks: int = basic.ChangeTime
        return (ticks - _BEFORE_1970) * 100 if known and ticks else None


def read_limited(path: Path, limit: int) -> bytes:
    """A whole small file; IntegrityError where it is larger than `limit` bytes."""
    content = bytearray()
    with open(path, "rb") as file:
        # In pieces: Python allocates all that it is asked to read, however small the file.
        while piece := file.read(min(_PIECE, limit + 1 - len(content))):
            content += piece
    if len(content) > limit:
        raise IntegrityError(f"{path} is larger than {limit} bytes, so it is not what it should be")
    return bytes(content)


@contextlib.contextmanager
def reading_text(name: object) -> Iterator[None]:
    """Around reading text from a file that the user named: NotFoundError or UsageError where it cannot be read."""
    try:
        yield
    except FileNotFoundError:
        raise NotFoundError(f"no such file: {name}") from None
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{name} is no text in UTF-8 or UTF-16") from None
