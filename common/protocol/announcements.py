"""A digest over a set of announced shares, whatever order they were announced in: brokers and workers agree by it.

The digest of a set is the sum of those of its shares, modulo 2^128, so that one share comes or goes at the cost of one.
"""

from __future__ import annotations

import msgspec
from blake3 import blake3

from common.protocol.identifiers import IDENTIFIER_SIZE
from common.protocol.messages import AnnouncedShare

DIGEST_SIZE = 16  # bytes
MODULUS = 1 << 8 * DIGEST_SIZE
_NOBODY = bytes(IDENTIFIER_SIZE)
_ENCODER = msgspec.msgpack.Encoder()


def digest_of(share: AnnouncedShare) -> int:
    """Of one share as brokers keep it: of a damaged one nothing but that it is, and its grants in order, each once."""
    if share.object_id is None or not share.sound:
        said: tuple[object, ...] = (share.encoding_id, share.share)
    else:
        whose = share.encoding_id, share.share, share.object_id, share.owner
        grants = sorted({(grant.owner, grant.object_id) for grant in share.grants}) if share.grants else ()
        said = (*whose, share.k, share.n, share.share_bytes, share.revision, grants, share.depositor or _NOBODY)
    return int.from_bytes(blake3(_ENCODER.encode(said)).digest(DIGEST_SIZE), "big")
