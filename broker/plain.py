"""An encoding as nearly all are: one claim of sound shares is all that is said of it.

It stays packed as in its row, so that what a device announces of it is taken up by comparing bytes. Whoever has to know
more unpacks it (`Entries.get`).
"""

from __future__ import annotations

import struct

from broker.claims import Claim, Entry
from common.protocol.messages import AnnouncedShare

PLACE_SIZE = 3  # bytes: share, and its device's slot
_CLAIM = struct.Struct(">BBQ16s32s")  # k, n, length, owner, object id; behind it who left it for that owner, if any did


class Plain:
    """Nothing is said of it where `claim` is empty."""

    __slots__ = ("claim", "devices", "encoding_id", "places", "ref", "stored")

    def __init__(
        self, ref: int, encoding_id: bytes, *, claim: bytes = b"", places: bytes = b"", devices: int = 0
    ) -> None:
        """`ref` as of `Entry`. `claim`, `places`: as packed. `devices`: the bits of those that are in `places`."""
        self.ref = ref
        self.encoding_id = encoding_id
        self.stored = bool(claim)
        self.claim = claim
        self.places = places
        self.devices = devices


def devices_in(places: bytes) -> bytes:
    """The slots of the devices that packed places name, in their order: all their high bytes, then the low ones."""
    return places[1::PLACE_SIZE] + places[2::PLACE_SIZE]


def claim_of(share: AnnouncedShare) -> bytes:
    """What is claimed of a share, packed; empty where that is more than one claim, or not all."""
    if share.object_id is None or not share.sound or share.grants or share.revision != 1:
        return b""
    packed = _CLAIM.pack(share.k, share.n, share.share_bytes, share.owner, share.object_id)
    return packed if share.depositor is None else packed + share.depositor


def plain_claim(entry: Entry) -> bytes:
    """The same of an encoding; empty where more is said of it."""
    if len(entry.sound) != 1 or entry.damaged or entry.revisions:
        return b""
    (c,) = entry.sound
    return b"" if c.granted else _CLAIM.pack(c.k, c.n, c.share_bytes, c.owner, c.object_id) + (c.depositor or b"")


def unpacked_claim(packed: bytes, encoding_id: bytes) -> Claim:
    k, n, share_bytes, owner, object_id = _CLAIM.unpack_from(packed)
    return Claim(owner, object_id, encoding_id, k, n, share_bytes, False, packed[_CLAIM.size :] or None)
