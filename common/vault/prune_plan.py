"""What a prune is about to delete, as it is kept in the vault while it does: a few random bytes, and SHA-256s.

    offset  bytes
         0     16  random, so that no two are alike
        16     32  SHA-256 of an image or tree, in ascending order; again for each

It is stored like an image, each under the same object id (`VaultKey.prune_object_id`), by which a put finds it.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection

from common.errors import IntegrityError

PRUNE_GRACE = 86_400  # seconds for which a prune leaves what was stored: its snapshot may still be coming
_NONCE_SIZE = 16
_DIGEST_SIZE = 32


def encode_prune_plan(contents: Collection[bytes]) -> bytes:
    """`contents`: SHA-256s (32 bytes each), each once."""
    return secrets.token_bytes(_NONCE_SIZE) + b"".join(sorted(contents))


def decode_prune_plan(plan: bytes) -> set[bytes]:
    """The SHA-256s in it; IntegrityError where this is not what `encode_prune_plan` makes."""
    digests = [plan[start : start + _DIGEST_SIZE] for start in range(_NONCE_SIZE, len(plan), _DIGEST_SIZE)]
    if len(plan) < _NONCE_SIZE or (len(plan) - _NONCE_SIZE) % _DIGEST_SIZE or digests != sorted(set(digests)):
        raise IntegrityError("the plan of a prune is not sound")
    return set(digests)
