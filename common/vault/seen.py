"""Files already stored: stamp (`common.vault.stamp`) → SHA-256, so that they are recognised without being read.

The index is a row of sealed chunks, each with the entries of one run: u32 length ‖ salt(32) ‖ ciphertext ‖ tag. Each is
sealed by AES-256-GCM under a key of its own, HKDF-Expand(index key, label ‖ salt), used once (so the nonce may be
zero), with its place in the row as associated data. A torn or damaged end is ignored and the next chunk written over
it, since losing an entry only costs reading a file again. Once most of the row is outdated it is written anew. It is a
hint: whether the image is still stored is always asked of the cluster.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Optional

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from common.errors import ProtocolError
from common.files import locked, make_folder, write_private
from common.protocol.codec import pack, unpack
from common.vault.keys import VaultKey, expand
from common.vault.stamp import Stamp

log = logging.getLogger(__name__)

_LABEL = b"tessera/v1/seen"
_SALT_SIZE = 32
_MAX_CHUNK = 4 << 20
_PER_CHUNK = 1000  # entries, which fit into a chunk even with the longest paths
_MAX_PATH = 4096  # bytes; a file with a longer one is read again
_NONCE = bytes(12)


class _Entry(msgspec.Struct, array_like=True):
    path: bytes  # as the file system has it, since a name on disk need not be Unicode
    size: int
    modified: int
    changed: Optional[int]
    inode: int
    sha256: bytes


class _Row(NamedTuple):
    """What is good of the index on disk."""

    end: int = 0  # bytes
    chunks: int = 0
    entries: int = 0


class SeenFiles:
    def __init__(self, vault_folder: Path, key: VaultKey) -> None:
        self._path = vault_folder / "seen"
        self._lock = vault_folder / "seen.lock"
        self._key = key.index_subkey()
        self._seen: dict[bytes, tuple[Stamp, bytes]] = {}  # by path
        self._new: list[_Entry] = []
        self._load()

    def sha256_of(self, stamp: Stamp) -> bytes:
        """The SHA-256 that the file had; empty where it was not seen, or where its stamp leaves a doubt."""
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
            row = self._load()
            self._take(self._new)
            if row.entries + len(self._new) > 2 * len(self._seen) + _PER_CHUNK:
                self._rewrite()
            else:
                self._append(row)
        self._new = []

    def _append(self, row: _Row) -> None:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
        with open(descriptor, "r+b") as file:
            file.truncate(row.end)
            file.seek(row.end)
            for chunk in self._chunks(self._new, row.chunks):
                file.write(chunk)

    def _rewrite(self) -> None:
        entries = [_Entry(*stamp, sha256) for stamp, sha256 in self._seen.values()]
        write_private(self._path, b"".join(self._chunks(entries, 0)))

    def _chunks(self, entries: Sequence[_Entry], number: int) -> Iterator[bytes]:
        for start in range(0, len(entries), _PER_CHUNK):
            yield self._seal(entries[start : start + _PER_CHUNK], number)
            number += 1

    def _load(self) -> _Row:
        """Take all good chunks; how many they are, and where they end."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return _Row()
        except OSError as error:
            log.warning("%s cannot be read: %s; files are read again", self._path, error.strerror)
            return _Row()
        row = _Row()
        while True:
            length = int.from_bytes(content[row.end : row.end + 4], "big")
            chunk = content[row.end + 4 : row.end + 4 + length]
            if not _SALT_SIZE < length <= _MAX_CHUNK or len(chunk) != length:
                return row
            try:
                entries = self._open(chunk, row.chunks)
            except (InvalidTag, ProtocolError):
                return row
            self._take(entries)
            row = _Row(row.end + 4 + length, row.chunks + 1, row.entries + len(entries))

    def _take(self, entries: Sequence[_Entry]) -> None:
        for e in entries:
            self._seen[e.path] = Stamp(e.path, e.size, e.modified, e.changed, e.inode), e.sha256

    def _seal(self, entries: Sequence[_Entry], number: int) -> bytes:
        salt = os.urandom(_SALT_SIZE)
        sealed = salt + self._cipher(salt).encrypt(_NONCE, pack(list(entries)), number.to_bytes(8, "big"))
        return len(sealed).to_bytes(4, "big") + sealed

    def _open(self, chunk: bytes, number: int) -> list[_Entry]:
        salt = chunk[:_SALT_SIZE]
        packed = self._cipher(salt).decrypt(_NONCE, chunk[_SALT_SIZE:], number.to_bytes(8, "big"))
        return unpack(packed, list[_Entry])

    def _cipher(self, salt: bytes) -> AESGCM:
        return AESGCM(expand(self._key, _LABEL + salt))
