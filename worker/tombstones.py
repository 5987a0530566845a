"""The records of deletions on this device, one small file for each encoding and owner.

    <store>/tombstones/<encoding id in hex>.<owner id in hex>
    array of 5    "tessera-tombstone", 3, array of 6: encoding id, object id, owner key, generation, trash seconds,
                  signature; trash until, ends (both Unix seconds, by this device's clock)
    bin of 32     BLAKE3-256 of the array

An odd generation is a deletion, an even one its undoing. Whoever deletes under an id that others use, too, has a record
of their own, and keeps nobody from deleting. A damaged file is logged and ignored, until the same encoding is deleted
again. One that another version wrote stays as it is, and nothing is stored, deleted or taken back of its encoding
meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Optional

from common.errors import IntegrityError
from common.protocol.messages import Code, Seconds, Tombstone
from worker.disk import Disk
from worker.durability import NEW, Durability
from worker.format_version import Record, UnknownVersionError, decode_record, encode_record
from worker.layout import Layout, read_encoding_id
from worker.refusals import Refusal

log = logging.getLogger(__name__)

_MAGIC = "tessera-tombstone"
_VERSION = 3
MAX_TOMBSTONE_SIZE = 512


class _Record(Record):
    tombstone: Tombstone
    trash_until: Seconds
    ends: Seconds


class KeptTombstone(NamedTuple):
    """A tombstone, and until when it counts: Unix seconds, by the clock of the device that keeps it."""

    tombstone: Tombstone
    trash_until: int  # then the trash is emptied of what it deleted, or left there
    ends: int  # then the record is forgotten


def encode_tombstone(kept: KeptTombstone) -> bytes:
    return encode_record(_Record(_MAGIC, _VERSION, *kept))


def decode_tombstone(content: bytes) -> KeptTombstone:
    """What a file says; IntegrityError where it is damaged."""
    record = decode_record(content, _Record, _MAGIC, _VERSION)
    return KeptTombstone(record.tombstone, record.trash_until, record.ends)


class Tombstones:
    """All of them, in memory and on the disk."""

    def __init__(self, disk: Disk, layout: Layout, durability: Durability) -> None:
        self._disk = disk
        self._layout = layout
        self._durability = durability
        self._kept: dict[bytes, dict[bytes, KeptTombstone]] = {}  # encoding id → owner → tombstone
        self._length = 0
        self._unknown: set[bytes] = set()  # encodings whose tombstone another version wrote

    def __iter__(self) -> Iterator[KeptTombstone]:
        return iter([kept for owners in self._kept.values() for kept in owners.values()])

    def __len__(self) -> int:
        return self._length

    def by_owner(self) -> list[list[KeptTombstone]]:
        """Those of each owner, of who has most first; what ends first comes first."""
        found: dict[bytes, list[KeptTombstone]] = {}
        for kept in sorted(self, key=lambda kept: kept.ends):
            found.setdefault(kept.tombstone.owner, []).append(kept)
        return sorted(found.values(), key=len, reverse=True)

    def of_encoding(self, encoding_id: bytes) -> list[KeptTombstone]:
        """Those of all owners who deleted it, or took that back."""
        return list(self._kept.get(encoding_id, {}).values())

    def get(self, encoding_id: bytes, owner: bytes) -> Optional[KeptTombstone]:
        return self._kept.get(encoding_id, {}).get(owner)

    def has_deleted(self, encoding_id: bytes, owner: bytes) -> bool:
        """Whether this owner has deleted the encoding, and did not take that back."""
        kept = self.get(encoding_id, owner)
        return kept is not None and kept.tombstone.deleted

    def require_known(self, encoding_id: bytes) -> None:
        """Refusal where another version wrote this encoding's tombstone: nothing is done for or against it."""
        if encoding_id in self._unknown:
            raise Refusal(Code.FAULT, "this encoding has a tombstone of a version that this worker does not know")

    def load(self) -> None:
        """Read the folder; OSError where it cannot be listed."""
        for entry in self._disk.entries(self._layout.tombstones):
            try:
                if entry.path.name.endswith(NEW):  # its writing was interrupted, before it was acknowledged
                    self._disk.remove(entry.path)
                    continue
                kept = decode_tombstone(self._disk.read_whole(entry.path, MAX_TOMBSTONE_SIZE))
                if entry.path != self._path(kept):
                    raise IntegrityError("the file is another encoding's, or another owner's")
            except (IntegrityError, OSError) as error:
                log.error("the tombstone %s cannot be read: %s", entry.path, error)
                encoding_id = read_encoding_id(entry.path.name)
                if isinstance(error, UnknownVersionError) and encoding_id is not None:
                    self._unknown.add(encoding_id)
                continue
            self._enter(kept)

    def write(self, kept: KeptTombstone) -> None:
        """Write a tombstone durably, in place of this owner's one before; OSError where the disk refuses."""
        self._durability.write(self._path(kept), encode_tombstone(kept))
        self._enter(kept)

    def forget(self, kept: KeptTombstone) -> None:
        """Remove a tombstone. Should a power cut bring its file back, it is removed again once it has expired."""
        self._disk.remove(self._path(kept))
        owners = self._kept[kept.tombstone.encoding_id]
        del owners[kept.tombstone.owner]
        self._length -= 1
        if not owners:
            del self._kept[kept.tombstone.encoding_id]

    def _enter(self, kept: KeptTombstone) -> None:
        owners = self._kept.setdefault(kept.tombstone.encoding_id, {})
        self._length += kept.tombstone.owner not in owners
        owners[kept.tombstone.owner] = kept

    def _path(self, kept: KeptTombstone) -> Path:
        return self._layout.tombstone(kept.tombstone.encoding_id, kept.tombstone.owner)
