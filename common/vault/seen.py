"""Files already stored: stamp (`common.vault.stamp`) → SHA-256, so that they are recognised without being read.

The index is a file of sealed rows (`one_time`), each with the entries of one run. A torn or damaged end is ignored and
the next row written over it, since losing an entry only costs reading a file again. Once most of it is outdated it is
written anew. It is a hint: whether the image is still stored is always asked of the cluster.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Optional

import msgspec

from common.errors import IntegrityError
from common.files import locked, make_folder, write_private
from common.protocol.codec import pack, unpack
from common.vault.keys import VaultKey
from common.vault.one_time import SealedRows
from common.vault.stamp import Stamp

log = logging.getLogger(__name__)

_LABEL = b"tessera/v1/seen"
_MAX_ROW = 4 << 20  # bytes
_PER_ROW = 1000  # entries, which fit into a row even with the longest paths
_MAX_PATH = 4096  # bytes; a file with a longer one is read again


class _Entry(msgspec.Struct, array_like=True):
    path: bytes  # as the file system has it, since a name on disk need not be Unicode
    size: int
    modified: int
    changed: Optional[int]
    inode: int
    sha256: bytes


class _Kept(NamedTuple):
    """What is good of the index on disk."""

    end: int = 0  # bytes
    rows: int = 0
    entries: int = 0


class SeenFiles:
    def __init__(self, vault_folder: Path, key: VaultKey) -> None:
        self._path = vault_folder / "seen"
        self._lock = vault_folder / "seen.lock"
        self._rows = SealedRows(key.index_subkey(), _LABEL, _MAX_ROW)
        self._seen: dict[bytes, tuple[Stamp, bytes]] = {}  # by path
        self._new: list[_Entry] = []
        self._load()

    def sha256_of(self, stamp: Stamp) -> bytes:
        """The SHA-256 that the file had; empty where it was not seen, or where its stamp does not prove it the same."""
        seen, sha256 = self._seen.get(stamp.path, (None, b""))
        return sha256 if seen == stamp and stamp.changed is not None else b""

    def resembles(self, stamp: Stamp) -> bool:
        """Whether a file of this path and size was seen: it may well be the same, which only reading it tells."""
        seen, _ = self._seen.get(stamp.path, (None, b""))
        return seen is not None and seen.size == stamp.size

    def add(self, stamp: Stamp, sha256: bytes) -> None:
        if self._seen.get(stamp.path) != (stamp, sha256) and len(stamp.path) <= _MAX_PATH:
            self._new.append(_Entry(*stamp, sha256))
            self._take(self._new[-1:])

    def save(self) -> None:
        """Add what is new since the last time."""
        if not self._new:
            return
        make_folder(self._path.parent)
        with locked(self._lock):
            kept = self._load()
            self._take(self._new)
            if kept.entries + len(self._new) > 2 * len(self._seen) + _PER_ROW:
                self._rewrite()
            else:
                self._append(kept)
        self._new = []

    def _append(self, kept: _Kept) -> None:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
        with open(descriptor, "r+b") as file:
            file.truncate(kept.end)
            file.seek(kept.end)
            for row in self._sealed(self._new, kept.rows):
                file.write(row)

    def _rewrite(self) -> None:
        entries = [_Entry(*stamp, sha256) for stamp, sha256 in self._seen.values()]
        write_private(self._path, b"".join(self._sealed(entries, 0)))

    def _sealed(self, entries: Sequence[_Entry], number: int) -> Iterator[bytes]:
        for start in range(0, len(entries), _PER_ROW):
            yield self._rows.seal(number, pack(list(entries[start : start + _PER_ROW])))
            number += 1

    def _load(self) -> _Kept:
        """Read all good rows; how many they are, and where they end."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return _Kept()
        except OSError as error:
            log.warning("%s cannot be read: %s; files are read again", self._path, error.strerror)
            return _Kept()
        kept = _Kept()
        while True:
            try:
                packed, end = self._rows.open(kept.rows, content, kept.end)
                entries = unpack(packed, list[_Entry])
            except IntegrityError:
                return kept
            self._take(entries)
            kept = _Kept(end, kept.rows + 1, kept.entries + len(entries))

    def _take(self, entries: Sequence[_Entry]) -> None:
        for e in entries:
            self._seen[e.path] = Stamp(e.path, e.size, e.modified, e.changed, e.inode), e.sha256
