"""The records of approvers on this device, one for each owner who named some. Bytes only.

    array of 6    "tessera-approvers", 1, list in effect?, list under way?, since, from (both Unix seconds, by this
                  device's clock)
    bin of 32     BLAKE3-256 of the array

A list: array of 5, as `messages.ApproverList` has it. From then on the list under way counts, since when this device
knows of it.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

from common.errors import IntegrityError
from common.protocol.messages import ApproverList, Seconds
from worker.format_version import Record, decode_record, encode_record

_MAGIC = "tessera-approvers"
VERSION = 1


class _Record(Record):
    in_effect: Optional[ApproverList]
    under_way: Optional[ApproverList]
    since: Seconds
    begins: Seconds


class KeptApprovers(NamedTuple):
    """An owner's lists, one of them at least."""

    in_effect: Optional[ApproverList]
    under_way: Optional[ApproverList]
    since: int  # when that came
    begins: int  # when it takes effect

    @property
    def owner(self) -> bytes:
        return self.latest.owner

    @property
    def latest(self) -> ApproverList:
        """What the owner said last."""
        latest = self.under_way or self.in_effect
        if latest is None:
            raise IntegrityError("a record names no approvers, nor that there are none")
        return latest

    def at(self, unix: float) -> KeptApprovers:
        """The same as it is at that time."""
        if self.under_way is None or unix < self.begins:
            return self
        return KeptApprovers(self.under_way, None, self.since, self.begins)


def encode_approvers(kept: KeptApprovers) -> bytes:
    return encode_record(_Record(_MAGIC, VERSION, *kept))


def decode_approvers(content: bytes) -> KeptApprovers:
    """What a record says; IntegrityError where it is damaged."""
    record = decode_record(content, _Record, _MAGIC, VERSION)
    kept = KeptApprovers(record.in_effect, record.under_way, record.since, record.begins)
    if {kept.owner} != {named.owner for named in (kept.in_effect, kept.under_way) if named is not None}:
        raise IntegrityError("a record names approvers of two owners")
    return kept
