"""The records of deletions on this device, one for each encoding and owner. Bytes only.

    array of 5    "tessera-tombstone", 3, array of 6: encoding id, object id, owner key, generation, trash seconds,
                  signature; trash until, ends (both Unix seconds, by this device's clock)
    bin of 32     BLAKE3-256 of the array

An odd generation is a deletion, an even one its undoing. Whoever deletes under an id that others use, too, has a record
of their own, and keeps nobody from deleting.
"""

from __future__ import annotations

from typing import NamedTuple

from common.protocol.messages import Seconds, Tombstone
from worker.format_version import Record, decode_record, encode_record

_MAGIC = "tessera-tombstone"
VERSION = 3


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
    return encode_record(_Record(_MAGIC, VERSION, *kept))


def decode_tombstone(content: bytes) -> KeptTombstone:
    """What a record says; IntegrityError where it is damaged."""
    record = decode_record(content, _Record, _MAGIC, VERSION)
    return KeptTombstone(record.tombstone, record.trash_until, record.ends)
