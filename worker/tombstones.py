"""The records of deletions on this device, one small file for each encoding.

    <store>/tombstones/<encoding id in hex>
    array of 3    "tessera-tombstone", 2, array of 7: encoding id, object id, owner key, generation,
                  trash until, ends (both Unix seconds), signature
    bin of 32     BLAKE3-256 of the array

An odd generation is a deletion, an even one its undoing. A damaged file is logged and ignored, until the same encoding
is deleted again. One that another version wrote stays as it is, and nothing is stored, deleted or taken back of its
encoding meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Optional

from common.errors import IntegrityError
from common.protocol.messages import Code, Tombstone
from worker.disk import Disk
from worker.durability import NEW, Durability
from worker.format_version import Record, UnknownVersionError, decode_record, encode_record
from worker.layout import Layout, read_encoding_id
from worker.refusals import Refusal

log = logging.getLogger(__name__)

_MAGIC = "tessera-tombstone"
_VERSION = 2
MAX_TOMBSTONE_SIZE = 512


class _Record(Record):
    tombstone: Tombstone


def encode_tombstone(tombstone: Tombstone) -> bytes:
    return encode_record(_Record(_MAGIC, _VERSION, tombstone))


def decode_tombstone(content: bytes) -> Tombstone:
    """The tombstone in a file; IntegrityError where it is damaged."""
    return decode_record(content, _Record, _MAGIC, _VERSION).tombstone


class Tombstones:
    """All of them, in memory and on the disk."""

    def __init__(self, disk: Disk, layout: Layout, durability: Durability) -> None:
        self._disk = disk
        self._layout = layout
        self._durability = durability
        self._tombstones: dict[bytes, Tombstone] = {}
        self._unknown: set[bytes] = set()  # encodings whose tombstone another version wrote

    def __iter__(self) -> Iterator[Tombstone]:
        return iter(list(self._tombstones.values()))

    def get(self, encoding_id: bytes) -> Optional[Tombstone]:
        return self._tombstones.get(encoding_id)

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
                tombstone = decode_tombstone(self._disk.read_whole(entry.path, MAX_TOMBSTONE_SIZE))
                if entry.path != self._layout.tombstone(tombstone.encoding_id):
                    raise IntegrityError("the file is another encoding's")
            except (IntegrityError, OSError) as error:
                log.error("the tombstone %s cannot be read: %s", entry.path, error)
                encoding_id = read_encoding_id(entry.path.name)
                if isinstance(error, UnknownVersionError) and encoding_id is not None:
                    self._unknown.add(encoding_id)
                continue
            self._tombstones[tombstone.encoding_id] = tombstone

    def write(self, tombstone: Tombstone) -> None:
        """Write a tombstone durably; OSError where the disk refuses."""
        self._durability.write(self._layout.tombstone(tombstone.encoding_id), encode_tombstone(tombstone))
        self._tombstones[tombstone.encoding_id] = tombstone

    def forget(self, tombstone: Tombstone) -> None:
        """Remove an expired tombstone. Should a power cut bring its file back, it is removed again."""
        self._disk.remove(self._layout.tombstone(tombstone.encoding_id))
        self._tombstones.pop(tombstone.encoding_id, None)
