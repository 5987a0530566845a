"""Files already stored: path, size and time of change → SHA-256, so that they are recognised without being read.

The index is a row of sealed chunks, each with the entries of one run: u32 length ‖ salt(32) ‖ ciphertext ‖ tag. Each is
sealed by AES-256-GCM under a key of its own, HKDF-Expand(index key, label ‖ salt), used once (so the nonce may be
zero), with its place in the row as associated data. Adding never rewrites; a torn or damaged end is ignored and the
next chunk written over it, since losing an entry only costs reading a file again. It is a hint: whether the image is
still stored is always asked of the cluster.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from common.errors import ProtocolError
from common.files import locked, make_folder
from common.protocol.codec import pack, unpack
from common.vault.keys import VaultKey, expand

_LABEL = b"tessera/v1/seen"
_SALT_SIZE = 32
_MAX_CHUNK = 4 << 20
_PER_CHUNK = 1000  # entries, which fit into a chunk even with the longest paths
_MAX_PATH = 4096  # bytes; a file with a longer one is read again
_NONCE = bytes(12)


class _Entry(msgspec.Struct, array_like=True):
    path: bytes  # as the file system has it, since a name on disk need not be Unicode
    size: int
    changed_ns: int
    sha256: bytes


class Stamp(NamedTuple):
    """What has to be the same for a file to be taken for the one seen before."""

    path: str
    size: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path, status: os.stat_result) -> Stamp:
        """The stamp of a file with this status; its path made absolute, and a link left a link."""
        return cls(os.path.abspath(path), status.st_size, status.st_mtime_ns)


class SeenFiles:
    def __init__(self, vault_folder: Path, key: VaultKey) -> None:
        self._path = vault_folder / "seen"
        self._lock = vault_folder / "seen.lock"
        self._key = key.index_subkey()
        self._seen: dict[Stamp, bytes] = {}
        self._new: list[_Entry] = []
        self._load()

    def sha256_of(self, stamp: Stamp) -> bytes:
        """The SHA-256 that the file had; empty where it was not seen."""
        return self._seen.get(stamp, b"")

    def add(self, stamp: Stamp, sha256: bytes) -> None:
        path = os.fsencode(stamp.path)
        if self._seen.get(stamp) != sha256 and len(path) <= _MAX_PATH:
            self._seen[stamp] = sha256
            self._new.append(_Entry(path, stamp.size, stamp.changed_ns, sha256))

    def save(self) -> None:
        """Append what was added since the last time."""
        if not self._new:
            return
        make_folder(self._path.parent)
        with locked(self._lock):
            end, count = self._load()
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
            with open(descriptor, "r+b") as file:
                file.truncate(end)
                file.seek(end)
                for start in range(0, len(self._new), _PER_CHUNK):
                    file.write(self._seal(self._new[start : start + _PER_CHUNK], count))
                    count += 1
        self._new = []

    def _load(self) -> tuple[int, int]:
        """Read all good chunks; where they end and how many they are."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return 0, 0
        offset = count = 0
        while True:
            length = int.from_bytes(content[offset : offset + 4], "big")
            chunk = content[offset + 4 : offset + 4 + length]
            if not _SALT_SIZE < length <= _MAX_CHUNK or len(chunk) != length:
                return offset, count
            try:
                entries = self._open(chunk, count)
            except (InvalidTag, ProtocolError):
                return offset, count
            self._seen.update({Stamp(os.fsdecode(e.path), e.size, e.changed_ns): e.sha256 for e in entries})
            offset, count = offset + 4 + length, count + 1

    def _seal(self, entries: list[_Entry], number: int) -> bytes:
        salt = os.urandom(_SALT_SIZE)
        sealed = salt + self._cipher(salt).encrypt(_NONCE, pack(entries), number.to_bytes(8, "big"))
        return len(sealed).to_bytes(4, "big") + sealed

    def _open(self, chunk: bytes, number: int) -> list[_Entry]:
        salt = chunk[:_SALT_SIZE]
        packed = self._cipher(salt).decrypt(_NONCE, chunk[_SALT_SIZE:], number.to_bytes(8, "big"))
        return unpack(packed, list[_Entry])

    def _cipher(self, salt: bytes) -> AESGCM:
        return AESGCM(expand(self._key, _LABEL + salt))
