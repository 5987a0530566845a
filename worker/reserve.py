"""Room that is kept for deleting: a tombstone takes some before its deletion frees any.

    <store>/reserve     1 MiB of chance, or as much of it as the disk had room for; removed where the disk is full

It is never fsynced, and nothing is lost with it. Chance, since some file systems keep zeros without taking room.
"""

from __future__ import annotations

import contextlib
import secrets

from worker.disk import Disk
from worker.layout import Layout

_SIZE = 1 << 20  # bytes: more than 200 tombstones
_PIECE = 1 << 16


class Reserve:
    def __init__(self, disk: Disk, layout: Layout) -> None:
        self._disk = disk
        self._path = layout.reserve
        self._whole = False

    def keep(self) -> None:
        """Take the room, as far as there is some."""
        self._whole = self._whole or self._is_there()
        if self._whole:
            return
        with contextlib.suppress(OSError):
            self._disk.remove(self._path)
            descriptor = self._disk.create(self._path)
            try:
                for _ in range(_SIZE // _PIECE):
                    self._disk.append(descriptor, secrets.token_bytes(_PIECE))
                self._whole = True
            finally:
                self._disk.close(descriptor)

    def _is_there(self) -> bool:
        """Whether the worker before this one left it whole."""
        with contextlib.suppress(OSError):
            descriptor = self._disk.open(self._path)
            try:
                return self._disk.size(descriptor) == _SIZE
            finally:
                self._disk.close(descriptor)
        return False

    def release(self) -> bool:
        """Give the room back; False where there is none."""
        self._whole = False
        if not self._disk.exists(self._path):
            return False
        with contextlib.suppress(OSError):
            self._disk.remove(self._path)
            return True
        return False
