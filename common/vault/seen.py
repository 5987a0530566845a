"""Files already stored: stamp (`common.vault.stamp`) → SHA-256, so that they are recognised without being read.

Kept in the vault's index (`index`), a row for each path. It is a hint: whether the image is still stored is always
asked of the cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from common.vault.index import VaultIndex
from common.vault.index_rows import SeenRow
from common.vault.stamp import Stamp


class SeenFiles:
    def __init__(self, index: VaultIndex) -> None:
        self._index = index
        self._new: dict[bytes, SeenRow] = {}  # by path

    def sha256s_of(self, stamps: Sequence[Stamp]) -> list[bytes]:
        """The SHA-256 that each file had; empty where it was not seen, or its stamp does not prove it the same."""
        kept = self._index.seen([stamp.path for stamp in stamps])
        return [_same(stamp, self._new.get(stamp.path) or kept.get(stamp.path)) for stamp in stamps]

    def resembles(self, stamp: Stamp) -> bool:
        """Whether a file of this path and size was seen: it may well be the same, which only reading it tells."""
        seen = self._new.get(stamp.path) or self._index.seen([stamp.path]).get(stamp.path)
        return seen is not None and seen.size == stamp.size

    def add(self, stamp: Stamp, sha256: bytes) -> None:
        self._new[stamp.path] = _row(stamp, sha256)

    def save(self) -> None:
        """Keep what is new since the last time."""
        kept = self._index.seen(self._new)
        new = {path: row for path, row in self._new.items() if kept.get(path) != row}
        if new:
            self._index.keep_seen(new)
        self._new = {}


def _same(stamp: Stamp, seen: Optional[SeenRow]) -> bytes:
    is_same = seen is not None and stamp.changed is not None and _row(stamp, seen.sha256) == seen
    return seen.sha256 if seen is not None and is_same else b""


def _row(stamp: Stamp, sha256: bytes) -> SeenRow:
    return SeenRow(stamp.size, stamp.modified, stamp.changed, stamp.inode, sha256)
