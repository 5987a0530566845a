"""Starts the real worker with a disk that fails, or kills the process, at a chosen call.

    SOAK_FAULTS   JSON, a list of faults: {"method": "sync", "at": 2, "action": "kill", "times": 1}
    SOAK_JOURNAL  file to which every counted call is written, and whatever a fault did

Both are read here and nowhere else. Calls are counted by method, from 1, and from the first file that is created on:
what a worker does at its start comes before. The methods are those of `worker.disk.Disk`. Actions:

    kill     end by SIGKILL before the call
    tear     end by SIGKILL in its middle: half of an append written, a rename's both names there; of any other, after
    short    the system writes fewer bytes than it was given, again and again; `at` and `times` do not matter
    ENOSPC … fail with that errno; an append has written half before

A file or folder that is fsynced again after its fsync failed is written down as `resynced`: that must never happen.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, Callable, Union

sys.path[0] = str(Path(__file__).resolve().parent.parent.parent)  # the checkout's root, in place of this folder

import worker.command
from worker.disk import Disk

COUNTED = ("create", "append", "read_at", "truncate", "sync", "rename_new", "sync_folder", "make_folder", "remove")
Call = Callable[..., Any]


class Saboteur:
    """Stands before every call of every `Disk` of this process."""

    def __init__(self, faults: list[dict[str, Any]], journal: Path) -> None:
        self._faults = faults
        self._write = os.write
        self._journal = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._counts = dict.fromkeys(COUNTED, 0)
        self._armed = False
        self._failed: set[tuple[int, int]] = set()  # device and inode of what could not be fsynced

    def install(self) -> None:
        for method in COUNTED:
            setattr(Disk, method, self._guarded(method, getattr(Disk, method)))
        if any(fault["action"] == "short" for fault in self._faults):
            os.write = _short(self._write)
            self._note("fired short")

    def _guarded(self, method: str, original: Call) -> Call:
        def call(disk: Disk, *arguments: Any) -> Any:
            self._armed = self._armed or method == "create"
            if not self._armed:
                return original(disk, *arguments)
            self._counts[method] += 1
            number = self._counts[method]
            self._note(f"call {method} {number}")
            if method in ("sync", "sync_folder"):
                self._watch_resync(arguments[0])
            for fault in self._faults:
                if fault["method"] == method and 0 <= number - fault["at"] < fault.get("times", 1):
                    self._note(f"fired {fault['action']} {method} {number}")
                    return self._harm(fault["action"], method, original, disk, arguments)
            return original(disk, *arguments)

        return call

    def _harm(self, action: str, method: str, original: Call, disk: Disk, arguments: tuple[Any, ...]) -> None:
        if action == "kill":
            _die()
        if action == "tear":
            _half(method, original, disk, arguments)
            _die()
        if method == "append":
            _half(method, original, disk, arguments)
        if method in ("sync", "sync_folder"):
            self._failed.add(_identity(arguments[0]))
        code = int(getattr(errno, action))
        raise OSError(code, os.strerror(code))

    def _watch_resync(self, what: Union[int, Path]) -> None:
        if _identity(what) in self._failed:
            self._note(f"resynced {what}")

    def _note(self, line: str) -> None:
        self._write(self._journal, f"{line}\n".encode())


def _half(method: str, original: Call, disk: Disk, arguments: tuple[Any, ...]) -> None:
    if method == "append":
        descriptor, data = arguments
        original(disk, descriptor, memoryview(data).cast("B")[: memoryview(data).nbytes // 2])
    elif method == "rename_new":
        source, target = arguments
        os.link(source, target)
    else:
        original(disk, *arguments)


def _short(write: Callable[[int, Any], int]) -> Callable[[int, Any], int]:
    def short(descriptor: int, data: Any) -> int:
        view = memoryview(data).cast("B")
        return write(descriptor, view[: max(1, view.nbytes // 3)])

    return short


def _identity(what: Union[int, Path]) -> tuple[int, int]:
    status = os.stat(what)
    return status.st_dev, status.st_ino


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    Saboteur(json.loads(os.environ["SOAK_FAULTS"]), Path(os.environ["SOAK_JOURNAL"])).install()
    worker.command.main()
