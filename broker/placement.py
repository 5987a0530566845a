"""Which devices get an encoding's shares: weighted rendezvous hashing.

Each device gets a score for the encoding from a hash of both and from its free space (Schindelhauer & Schomaker,
"Weighted Distributed Hash Tables", SPAA 2005: -weight / ln(uniform)); the highest scores win. So a device's part
follows its room, and when devices come or go the choice changes no more than it must.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable
from typing import NamedTuple


class Candidate(NamedTuple):
    device_id: bytes
    free_bytes: int


def place(
    encoding_id: bytes,
    candidates: Iterable[Candidate],
    n: int,
    share_bytes: int,
    exclude: Collection[bytes] = (),
) -> list[bytes]:
    """Up to n device ids for the shares of an encoding, in the order of shares, each with room for `share_bytes`."""
    fit = [c for c in candidates if has_room(c, share_bytes) and c.device_id not in exclude]
    ranked = sorted(fit, key=lambda candidate: _score(encoding_id, candidate), reverse=True)
    return [candidate.device_id for candidate in ranked[:n]]


def has_room(candidate: Candidate, share_bytes: int) -> bool:
    return candidate.free_bytes > share_bytes


def _score(encoding_id: bytes, candidate: Candidate) -> float:
    mixed = hashlib.blake2b(encoding_id + candidate.device_id, digest_size=8, person=b"tessera-place").digest()
    return -candidate.free_bytes / math.log(_uniform(mixed))


def _uniform(mixed: bytes) -> float:
    """Eight bytes as a number between 0 and 1, never either: 52 bits and a half fit a float without rounding."""
    return ((int.from_bytes(mixed, "big") >> 12) + 0.5) / 2**52
